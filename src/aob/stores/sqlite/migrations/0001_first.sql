-- Times are integer microseconds since 1970 UTC. A run's key is short because every event carries it.

create table run (
    key         integer primary key,
    partition   integer not null,
    tenant      text not null,
    run_id      text not null,
    workflow    text not null,
    status      text not null,
    created     integer not null,
    updated     integer not null,
    ended       integer,
    due         integer,
    input_hash  blob not null,
    attributes  text,                     -- JSON object; null: none
    parent      text,
    reason      text,
    checkpoint  integer not null,
    deaths      integer not null,
    origin      integer,                  -- key of the run whose events up to origin_seq this one shares
    origin_seq  integer not null
) strict;
create unique index run_id on run (tenant, run_id);
create index run_status on run (tenant, status, key);
create index run_open on run (partition, key) where ended is null;
create index run_ended on run (ended) where ended is not null;
create index run_origin on run (origin) where origin is not null;

-- Appended to; an event of kind `gap` stands for those before a checkpoint that were deleted. Clustered on the order of
-- commits, which is several times as fast as clustered on the run.
create table event (
    position    integer primary key,
    run         integer not null,
    seq         integer not null,
    epoch       integer not null,
    kind        text not null,
    version     integer not null,
    chain       integer not null,         -- crc32 over this event and the chain before
    data        blob not null
) strict;
create unique index event_seq on event (run, seq);

-- Which events are checkpoints: a table, for an index of the events would cost each of them.
create table checkpoint (
    position    integer primary key,
    partition   integer not null
) strict;

create table partition (
    id          integer primary key,
    owner       text not null,
    epoch       integer not null,
    expires     real not null,            -- seconds of the host's monotonic clock
    locked      integer not null,         -- the owner holds the lock file, so that a free lock file means it is dead
    released    integer not null
) strict;

-- autoincrement: an id is never used again, so that "after the last one I saw" finds all that is new
create table inbox (
    id          integer primary key autoincrement,
    partition   integer not null,
    tenant      text not null,
    run_id      text not null,
    kind        text not null,
    body        blob not null,
    reply       text,
    expires     integer
) strict;
create index inbox_partition on inbox (partition, id);

create table reply (
    id          text primary key,
    body        blob not null,
    expires     integer not null
) strict, without rowid;

-- How far an exporter has come with a partition's log: the position of the last event that it has.
create table cursor (
    exporter    text not null,
    partition   integer not null,
    position    integer not null,
    primary key (exporter, partition)
) strict, without rowid;

create table seen (
    run         integer not null,
    id          text not null,
    primary key (run, id)
) strict, without rowid;

create table blob (
    digest      text not null unique,
    data        blob not null
) strict;

create table blob_use (
    run         integer not null,
    digest      text not null,
    seq         integer not null,         -- the last event of the run that may refer to it
    primary key (run, digest)
) strict, without rowid;
create index blob_use_digest on blob_use (digest);

create table ticket (
    key         integer primary key,
    id          text not null,
    tenant      text not null,
    run_id      text not null,
    workflow    text not null,
    step        text not null,
    title       text not null,
    data        blob not null,
    assignees   text not null,            -- JSON array
    schema      blob,
    created     integer not null,
    deadline    integer,
    status      text not null,
    by          text,
    reason      text,
    closed      integer
) strict;
create unique index ticket_id on ticket (tenant, id);
create index ticket_run on ticket (tenant, run_id);
create index ticket_open on ticket (key) where status = 'open';

-- The highest keys and positions that were ever used, as of the last deletion: neither is used twice.
create table high_water (
    name        text primary key,
    value       integer not null
) strict, without rowid;
insert into high_water values ('run', 0), ('event', 0);
