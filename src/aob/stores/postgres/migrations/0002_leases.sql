-- Who may append to a partition. A worker's leases last as long as its row says, all alike.

create function aob.worker_1(p_name text) returns bigint language plpgsql as $$
declare
    v_id bigint;
begin
    select id into v_id from aob.worker where name = p_name;
    if v_id is null then
        insert into aob.worker (name) values (p_name) on conflict (name) do nothing;
        select id into v_id from aob.worker where name = p_name;
    end if;
    return v_id;
end $$;

-- Takes up to `p_most` free partitions and extends the worker's leases: of `p_only`, or, where that is null, lanes of
-- the build, or, where that is null too, those that are nobody's lanes.
-- Its own count as free when they have expired, or are not among those that it knows of (`p_held`): it asked for them
-- before, and the answer was lost.
create function aob.acquire_1(p_name text, p_ttl bigint, p_held integer[], p_only integer[], p_most integer,
    p_build text default null)
returns table (worker bigint, fence bigint, id integer, epoch integer, clean boolean, last bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    v_worker bigint := aob.worker_1(p_name);
    v_now bigint;
    v_dead bigint[];
    v_taken integer[];
begin
    -- in one order, so that two that take from each other do not wait for each other
    perform 1 from aob.worker w where w.id = v_worker or w.expires <= aob.now_us() order by w.id for update;
    v_now := aob.now_us();
    v_dead := array(select w.id from aob.worker w where w.expires <= v_now);
    v_taken := array(
        select p.id from aob.partition p
        where (p.owner is null or p.owner = any (v_dead) or (p.owner = v_worker and p.id <> all (p_held)))
        and case when p_only is null then p.build is not distinct from p_build else p.id = any (p_only) end
        order by p.owner nulls first, random() limit p_most for update skip locked
    );
    update aob.worker w set fence = w.fence + 1
        where w.id in (select p.owner from aob.partition p where p.id = any (v_taken));
    return query
        with before as (select p.id, p.owner, p.clean from aob.partition p where p.id = any (v_taken))
        update aob.partition p set owner = v_worker, epoch = p.epoch + 1, clean = false
        from before b where p.id = b.id
        returning
            v_worker, (select w.fence from aob.worker w where w.id = v_worker), p.id, p.epoch, b.owner is null and b.clean,
            greatest(p.position, (select e.position from aob.event e where e.partition = p.id order by e.position desc limit 1));
    if found then
        update aob.worker w set expires = greatest(w.expires, v_now + p_ttl) where w.id = v_worker;
    end if;
end $$;

-- Extends the worker's leases; null: one of these is no longer its own.
create function aob.renew_1(p_worker bigint, p_partitions integer[], p_epochs integer[], p_ttl bigint)
returns bigint language plpgsql as $$
declare
    v_now bigint;
begin
    perform 1 from aob.worker where id = p_worker for update;
    v_now := aob.now_us();
    if aob.lost_1(p_worker, p_partitions, p_epochs) then
        return null;
    end if;
    update aob.worker set expires = v_now + p_ttl where id = p_worker;
    return v_now;
end $$;

-- Whether one of these partitions is not the worker's under that epoch.
create function aob.lost_1(p_worker bigint, p_partitions integer[], p_epochs integer[])
returns boolean language sql volatile as $$
    select exists (
        select 1 from unnest(p_partitions, p_epochs) as l (id, epoch)
        where not exists (
            select 1 from aob.partition p where p.id = l.id and p.owner + 0 = p_worker and p.epoch = l.epoch
        )
    )
$$;

-- Whoever waits for a free partition is told on this channel.
create function aob.release_1(p_worker bigint, p_partitions integer[], p_epochs integer[], p_clean boolean, p_channel text, p_news text)
returns void language plpgsql as $$
begin
    perform 1 from aob.worker where id = p_worker for update;
    update aob.partition p set owner = null, clean = p_clean
        from unnest(p_partitions, p_epochs) as l (id, epoch)
        where p.id = l.id and p.owner + 0 = p_worker and p.epoch = l.epoch;
    perform pg_notify(p_channel, p_news);
end $$;

-- Refuses whatever this worker sent before and has not arrived; waits for what has. The new fence; null: it is gone.
create function aob.fence_1(p_worker bigint) returns bigint language sql volatile
as $$ update aob.worker set fence = fence + 1 where id = p_worker returning fence $$;

-- The lanes by build, as JSON; by '' those that are anybody's.
create function aob.lanes_of_builds_1() returns text language sql stable as $$
    select jsonb_object_agg(coalesce(l.build, ''), l.ids)::text from (
        select p.build, jsonb_agg(p.id order by p.id) as ids from aob.partition p where p.id >= 1048576 group by p.build
    ) l
$$;

-- Says that a worker lives; all that do, with the number of partitions and of lanes they hold. `total`: the partitions to
-- which runs are hashed; `lanes`: the others, by build.
create function aob.announce_1(p_name text, p_build text, p_ttl bigint)
returns table (name text, build text, draining boolean, held bigint, in_lanes bigint, now bigint, total bigint, lanes text)
language plpgsql as $$
#variable_conflict use_column
declare
    v_now bigint;
begin
    perform aob.worker_1(p_name);
    v_now := aob.now_us();
    update aob.worker w set announced = v_now + p_ttl, build = p_build where w.name = p_name;
    delete from aob.worker w where w.announced < v_now - 86400000000 and w.expires < v_now - 86400000000
        and not exists (select 1 from aob.partition p where p.owner = w.id);
    return query
        select w.name, w.build, coalesce(b.draining, false),
            coalesce(h.held, 0), coalesce(h.in_lanes, 0),
            v_now, (select count(*) from aob.partition p where p.id < 1048576), aob.lanes_of_builds_1()
        from aob.worker w left join aob.build b on b.name = w.build left join lateral (
            select count(*) filter (where p.build is null) as held, count(p.build) as in_lanes
            from aob.partition p where p.owner = w.id and w.expires > v_now
        ) h on true
        where w.announced > v_now order by w.name;
end $$;

create function aob.leave_1(p_name text, p_channel text, p_news text) returns void language sql volatile as $$
    update aob.worker set announced = 0 where name = p_name;
    select pg_notify(p_channel, p_news);
$$;
