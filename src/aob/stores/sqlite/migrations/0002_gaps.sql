-- Of open runs the history before old checkpoints is deleted; an event of kind 'gap' says what is missing.

create index event_checkpoint on event (position) where kind = 'checkpoint';

-- The last event of the run that may refer to the payload. Of those written before nobody knows: they stay with the run.
alter table blob_use add column seq integer not null default 4611686018427387904;
