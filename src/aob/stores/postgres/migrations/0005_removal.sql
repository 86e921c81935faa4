-- Deleting ended runs of a partition under its lease. What forks share stays until the last of them is gone, as a run
-- of the status `deleted` that no reader sees.

create function aob.guard_1(p_worker bigint, p_fence bigint) returns boolean language plpgsql as $$
begin
    perform 1 from aob.worker where id = p_worker and fence = p_fence for no key update;
    return found;
end $$;

-- Runs that ended before a time go, and answers that nobody fetched; how many runs it were; null: fenced.
create function aob.sweep_1(p_worker bigint, p_fence bigint, p_partition integer, p_before bigint, p_limit integer)
returns integer language plpgsql as $$
declare
    v_keys bigint[];
begin
    if not aob.guard_1(p_worker, p_fence) then
        return null;
    end if;
    v_keys := array(
        select key from aob.run where partition = p_partition and ended < p_before and status <> 'deleted'
        order by ended limit p_limit
    );
    perform aob.delete_runs_1(p_partition, v_keys);
    delete from aob.reply where expires < aob.now_us();
    return cardinality(v_keys);
end $$;

-- One run: `deleted`, `none` (there is no such run), `open`, or null: fenced.
create function aob.delete_1(p_worker bigint, p_fence bigint, p_partition integer, p_key bigint)
returns text language plpgsql as $$
declare
    v_ended bigint;
begin
    if not aob.guard_1(p_worker, p_fence) then
        return null;
    end if;
    select ended into v_ended from aob.run where key = p_key and partition = p_partition and status <> 'deleted';
    if not found then
        return 'none';
    elsif v_ended is null then
        return 'open';
    end if;
    perform aob.delete_runs_1(p_partition, array[p_key]);
    return 'deleted';
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
