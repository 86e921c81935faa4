-- A run may be pinned to the build of the code that began it.

alter table run add column build text;
create index run_build on run (build) where build is not null and ended is null;

alter table partition add column build text not null default '';  -- that its owner serves

-- What is pinned to one of these may go on with any build.
create table retired_build (
    name        text primary key
) strict, without rowid;
