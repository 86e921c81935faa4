-- Deleting ended runs of a partition under its lease. What forks share stays until the last of them is gone, as a run
-- of the status `deleted` that no reader sees.

create function aob.guard_1(p_worker bigint, p_fence bigint) returns boolean language plpgsql as $$
begin
    perform 1 from aob.worker where id = p_worker and fence = p_fence for no key update;
    return found;
end $$;

-- The last position that every exporter has come to; null: there is none.
create function aob.passed_1(p_partition integer) returns bigint language sql stable
as $$ select min(c.position) from aob.cursor c where c.partition = p_partition $$;

-- The position of a run's event; 0: it has none with that seq.
create function aob.position_1(p_run bigint, p_seq integer) returns bigint language sql stable
as $$ select coalesce((select e.position from aob.event e where e.run = p_run and e.seq = p_seq), 0) $$;

-- Ended runs of these keys, as the order of their ends; `last`: the position of the last event; `parent`: the run that
-- started it and may ask for its result again, for it has passed no checkpoint since (of another partition's nobody knows
-- which was first).
create function aob.needed_1(p_keys bigint[])
returns table (key bigint, ended bigint, last bigint, parent text) language sql stable as $$
    select r.key, r.ended,
        coalesce((select e.position from aob.event e where e.run = r.key order by e.seq desc limit 1), 0),
        (
            select p.run_id from aob.run p where p.tenant = r.tenant and p.run_id = r.parent
            and p.status not in ('completed', 'terminated') and (p.status <> 'cancelled' or p.parent is not null)
            and (p.partition <> r.partition or aob.position_1(p.key, p.checkpoint)
                <= coalesce((select e.position from aob.event e where e.run = r.key order by e.seq limit 1), 0))
        )
    from aob.run r where r.key = any (p_keys) order by r.ended, r.key
$$;

-- Looks at runs that ended before a time, behind (p_ended, p_key), and deletes those that nobody needs; and answers that
-- nobody fetched. How many runs it were, and where to go on (null: that was all); nulls: fenced.
create function aob.sweep_1(
    p_worker bigint, p_fence bigint, p_partition integer, p_before bigint, p_limit integer, p_ended bigint, p_key bigint,
    p_keep bigint[]
) returns table (runs integer, ended bigint, key bigint) language plpgsql as $$
#variable_conflict use_column
declare
    v_passed bigint;
    v_looked_at bigint[];
    v_gone bigint[] := '{}';
    v_run record;
    v_blocked boolean := false;
begin
    if not aob.guard_1(p_worker, p_fence) then
        return query select null::integer, null::bigint, null::bigint;
        return;
    end if;
    v_passed := aob.passed_1(p_partition);
    v_looked_at := array(
        select r.key from aob.run r
        where r.partition = p_partition and r.ended < p_before and (r.ended, r.key) > (p_ended, p_key)
        and r.status <> 'deleted' order by r.ended, r.key limit p_limit
    );
    for v_run in select * from aob.needed_1(v_looked_at) loop
        v_blocked := v_run.last > v_passed;
        exit when v_blocked;  -- what ended later is not exported yet either
        if v_run.parent is null and v_run.key <> all (p_keep) then
            v_gone := v_gone || v_run.key;
        end if;
    end loop;
    perform aob.delete_runs_1(p_partition, v_gone);
    delete from aob.reply where expires < aob.now_us();
    delete from aob.sent where at < aob.now_us() - 600000000;
    if v_blocked or cardinality(v_looked_at) < p_limit then
        return query select cardinality(v_gone), null::bigint, null::bigint;
    else
        return query select cardinality(v_gone), v_run.ended, v_run.key;
    end if;
end $$;

-- One run: `deleted`, `none` (there is no such run), or why nothing was done: `open`, `exporter` (one has not come past its
-- events), `parent` (that is `by`); null: fenced. With the run go the messages that asked for that, and their replies come.
create function aob.delete_1(
    p_worker bigint, p_fence bigint, p_partition integer, p_key bigint, p_takes bigint[], r_id text[], r_body bytea[],
    r_expires bigint[]
) returns table (what text, by text) language plpgsql as $$
declare
    v_run record;
    v_found boolean;
begin
    if not aob.guard_1(p_worker, p_fence) then
        return query select null::text, null::text;
        return;
    end if;
    select n.ended, n.last, n.parent into v_run from aob.needed_1(array(
        select r.key from aob.run r where r.key = p_key and r.partition = p_partition and r.status <> 'deleted'
    )) n;
    v_found := found;
    if v_found and v_run.ended is null then
        return query select 'open', null::text;
    elsif v_found and v_run.last > aob.passed_1(p_partition) then
        return query select 'exporter', null::text;
    elsif v_found and v_run.parent is not null then
        return query select 'parent', v_run.parent;
    else
        delete from aob.inbox i where i.id = any (p_takes);
        insert into aob.reply (id, body, expires) select * from unnest(r_id, r_body, r_expires)
            on conflict (id) do update set body = excluded.body, expires = excluded.expires;
        perform aob.delete_runs_1(p_partition, array[p_key]) where v_found;
        return query select case when v_found then 'deleted' else 'none' end, null::text;
    end if;
end $$;

create function aob.delete_runs_1(p_partition integer, p_keys bigint[]) returns void language plpgsql as $$
declare
    v_gone bigint[];
    v_origins bigint[];
    v_digests text[];
begin
    if cardinality(p_keys) = 0 then
        return;
    end if;
    update aob.partition p set position = greatest(
        p.position, (select e.position from aob.event e where e.partition = p.id order by e.position desc limit 1)
    ) where p.id = p_partition;
    delete from aob.ticket t using aob.run r where r.key = any (p_keys) and t.tenant = r.tenant and t.run_id = r.run_id;
    delete from aob.seen where run = any (p_keys);
    update aob.run set status = 'deleted', run_id = '~' || key, due = null, attributes = null, ended = 9223372036854775807
        where key = any (p_keys);
    v_gone := p_keys;
    loop
        -- of several that were forked from each other, the forks go first
        v_gone := array(
            select r.key from aob.run r where r.key = any (v_gone) and r.status = 'deleted'
            and not exists (select 1 from aob.run f where f.origin = r.key)
        );
        exit when cardinality(v_gone) = 0;
        v_origins := array(select distinct origin from aob.run where key = any (v_gone) and origin is not null);
        v_digests := array(select distinct digest from aob.blob_use where run = any (v_gone) order by digest);
        delete from aob.blob_use where run = any (v_gone);
        -- first the lock, then the look: a commit that uses a payload anew holds its row
        perform 1 from aob.blob where digest = any (v_digests) order by digest for update;
        delete from aob.blob b where b.digest = any (v_digests)
            and not exists (select 1 from aob.blob_use u where u.digest = b.digest);
        delete from aob.event where run = any (v_gone);
        delete from aob.run where key = any (v_gone);
        v_gone := v_origins;
    end loop;
end $$;
