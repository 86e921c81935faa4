-- Lanes: partitions that only workers of one build own, where the runs live that are pinned to it.

-- Makes lanes of a build, unless it has some or is retired. Lanes of retired builds serve again when nothing in them is open.
-- It does so as the owner of the schema: nobody else may make partitions.
create function aob.lanes_1(p_build text, p_count integer) returns void language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_found integer;
begin
    perform pg_advisory_xact_lock(hashtext('aob.lanes_1'));
    if exists (select 1 from aob.partition where build = p_build)
        or exists (select 1 from aob.build where name = p_build and retired) then
        return;
    end if;
    update aob.partition set build = p_build where id in (
        select p.id from aob.partition p where p.id >= 1048576 and p.build is null
        and not exists (select 1 from aob.run r where r.partition = p.id and r.ended is null)
        order by p.id limit p_count for update
    );
    get diagnostics v_found = row_count;
    insert into aob.partition (id, build)
        select l.last + n, p_build from generate_series(1, p_count - v_found) n,
            (select coalesce(max(id), 1048575) as last from aob.partition where id >= 1048576) l;
end $$;

-- From now on this build's lanes are anybody's.
create function aob.retire_1(p_build text) returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock(hashtext('aob.lanes_1'));
    insert into aob.build (name, retired) values (p_build, true) on conflict (name) do update set retired = true;
    update aob.partition set build = null where build = p_build;
end $$;

-- Builds that are served, that open runs are pinned to, that have lanes, or of which something was said.
create function aob.builds_1() returns table (name text, workers bigint, runs bigint, draining boolean, retired boolean)
language sql stable as $$
    with served as (
        select build, count(*) as workers from aob.worker where announced > aob.now_us() and build <> '' group by build
    ), pinned as (
        select build, count(*) as runs from aob.run where build is not null and ended is null group by build
    )
    select n.name, coalesce(s.workers, 0), coalesce(p.runs, 0), coalesce(b.draining, false), coalesce(b.retired, false)
    from (
        select build from served union select build from pinned union select name from aob.build
        union select build from aob.partition where build is not null
    ) as n (name)
    left join served s on s.build = n.name left join pinned p on p.build = n.name left join aob.build b on b.name = n.name
    order by 1
$$;

-- Moves runs that have not begun to other partitions, and pins them; what waits in the inbox for them comes along, as if it
-- were sent now. Doing it again does no harm. 0, and the old ids of those messages; null: fenced.
create function aob.move_1(
    p_worker bigint, p_fence bigint, p_run bigint[], p_from integer[], p_to integer[], p_build text
) returns table (id bigint) language plpgsql as $$
#variable_conflict use_column
declare
    v_message record;
begin
    if not aob.guard_1(p_worker, p_fence) then
        return query select null::bigint;
        return;
    end if;
    -- whoever is sending something to one of these is waited for
    perform 1 from aob.run r where r.key = any (p_run) and r.status = 'pending' order by r.key for update;
    update aob.run r set partition = m.home, build = p_build from unnest(p_run, p_from, p_to) as m (run, was, home)
        where r.key = m.run and r.partition = m.was and r.status = 'pending';
    return query select 0::bigint;
    for v_message in
        select i.id, m.home from unnest(p_run, p_from, p_to) as m (run, was, home)
        join aob.run r on r.key = m.run and r.partition = m.home
        join aob.inbox i on i.tenant = r.tenant and i.run_id = r.run_id and i.partition = m.was
        order by i.id
    loop
        update aob.inbox i set id = default, transaction = default, partition = v_message.home where i.id = v_message.id;
        return query select v_message.id;
    end loop;
end $$;
