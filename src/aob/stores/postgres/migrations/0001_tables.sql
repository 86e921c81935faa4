-- Written for the schema `aob`; for another one every `aob.` is replaced.
-- Times are microseconds since 1970 UTC. A run's key is drawn by whoever starts it; a higher one is newer.

create table aob.migration (
    number      integer primary key,
    applied     timestamptz not null default now()
);

-- Leases last by this clock alone.
create function aob.now_us() returns bigint language sql volatile
as $$ select (extract(epoch from clock_timestamp()) * 1000000)::bigint $$;

-- Whoever holds partitions. Each of its commits locks its row, and so does whoever takes a partition from it.
create table aob.worker (
    id          bigint generated always as identity primary key,
    name        text not null,
    build       text not null default '',
    announced   bigint not null default 0,  -- until when it counts among those that live
    expires     bigint not null default 0,  -- until when its leases last
    fence       bigint not null default 1   -- rises when a partition is taken from it, or a commit's fate is unknown
) with (fillfactor = 20);
create unique index worker_name on aob.worker (name);

create table aob.partition (
    id          integer primary key,
    owner       bigint,                     -- worker.id; null: free
    epoch       integer not null default 0,
    clean       boolean not null default true,
    position    bigint not null default 0,  -- as of the last deletion: the last position that was used
    build       text                        -- of a lane: whose workers alone may own it
) with (fillfactor = 50);
create index partition_owner on aob.partition (owner);
insert into aob.partition (id) select generate_series(0, 255);

-- Builds whose workers are to own lanes alone, and those that are over: what is pinned to them may go on with any build.
create table aob.build (
    name        text primary key,
    draining    boolean not null default false,
    retired     boolean not null default false
);

create table aob.run (
    key         bigint primary key,
    created     bigint not null,
    updated     bigint not null,
    ended       bigint,
    due         bigint,
    origin      bigint,                     -- key of the run whose events up to origin_seq this one shares
    partition   integer not null,
    origin_seq  integer not null,
    checkpoint  integer not null,
    deaths      integer not null,
    tenant      text not null,
    run_id      text not null,
    workflow    text not null,
    status      text not null,
    input_hash  bytea not null,
    attributes  jsonb,
    parent      text,
    reason      text,
    build       text                        -- of the code that alone may run it; null: it is not pinned
) with (fillfactor = 85);
-- Of what finds a run by its id, one index alone begins with the tenant: plans made while the tables are empty have no
-- other to choose.
create unique index run_id on aob.run (tenant, run_id);
create index run_status on aob.run (status, tenant, key);
create index run_workflow on aob.run (workflow, tenant, key);
create index run_parent on aob.run (parent, tenant, key) where parent is not null;
create index run_attributes on aob.run using gin (attributes jsonb_path_ops) where attributes is not null;
create index run_active on aob.run (partition, key) where ended is null and status <> 'waiting';
create index run_waiting on aob.run (partition, key) where ended is null and status = 'waiting';
create index run_ended on aob.run (partition, ended) where ended is not null;
create index run_origin on aob.run (origin) where origin is not null;
create index run_build on aob.run (build) where build is not null and ended is null;

-- Appended to, never changed. `position` is the partition's, numbered by its owner; `seq` the run's.
create table aob.event (
    run         bigint not null,
    position    bigint not null,
    chain       bigint not null,            -- crc32 over this event and the chain before
    seq         integer not null,
    partition   integer not null,
    epoch       integer not null,
    version     smallint not null,
    kind        text not null,
    data        bytea not null
);
create unique index event_seq on aob.event (run, seq);
create unique index event_position on aob.event (partition, position);
create index event_checkpoint on aob.event (partition, position) where kind = 'checkpoint';

-- `transaction` tells which messages became visible since a snapshot: those below its xmin were to be seen then.
create table aob.inbox (
    id          bigint generated always as identity primary key,
    transaction bigint not null default pg_current_xact_id()::text::bigint,
    nonce       bigint not null unique,     -- the sender's: a message that is sent again while it waits is one
    expires     bigint,
    partition   integer not null,
    tenant      text not null,
    run_id      text not null,
    kind        text not null,
    body        bytea not null,
    reply       text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
create index inbox_transaction on aob.inbox (transaction);

-- Sends of late: one that is sent again, because its answer was lost, is not counted twice though its messages were
-- dealt with meanwhile.
create table aob.sent (
    nonce       bigint primary key,         -- of the first message
    at          bigint not null default aob.now_us()
);
create index sent_at on aob.sent (at);

create table aob.reply (
    id          text primary key,
    expires     bigint not null,
    body        bytea not null
);
create index reply_expires on aob.reply (expires);

create table aob.seen (
    run         bigint not null,
    id          text not null,
    primary key (run, id)
);

create table aob.blob (
    digest      text primary key,
    data        bytea not null
);

create table aob.blob_use (
    run         bigint not null,
    digest      text not null,
    seq         integer not null,           -- the last event of the run that may refer to it
    primary key (run, digest)
);
create index blob_use_digest on aob.blob_use (digest);

-- How far an exporter has come with a partition's log: the position of the last event that it has.
create table aob.cursor (
    position    bigint not null,
    partition   integer not null,
    exporter    text not null,
    primary key (partition, exporter)
) with (fillfactor = 20);

create table aob.ticket (
    key         bigint generated always as identity primary key,
    created     bigint not null,
    deadline    bigint,
    closed      bigint,
    id          text not null,
    tenant      text not null,
    run_id      text not null,
    workflow    text not null,
    step        text not null,
    title       text not null,
    data        bytea not null,
    assignees   text[] not null,
    schema      bytea,
    status      text not null,
    by          text,
    reason      text
);
create unique index ticket_id on aob.ticket (id, tenant);
create index ticket_run on aob.ticket (run_id, tenant);
create index ticket_open on aob.ticket (key) where status = 'open';
