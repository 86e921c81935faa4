-- What open runs did long ago goes, under the lease of their partition; a gap stands in its place.

-- What goes of each run (`t_run`, `t_checkpoint`, `t_until`), up to `p_limit` events in all: the events behind `keep` up
-- to `last`, whose `chain` and `data` make the gap. What is not the partition's, or has ended, is left out.
create function aob.old_1(p_partition integer, t_run bigint[], t_checkpoint integer[], t_until integer[], p_limit integer)
returns table (run bigint, keep integer, last integer, chain bigint, data bytea, total bigint) language plpgsql as $$
#variable_conflict use_column
declare
    v_left integer := p_limit;
    v_keep integer;
    v_found bigint;
    v_last integer;
begin
    for i in 1 .. cardinality(t_run) loop
        select greatest(1, r.origin_seq, (select coalesce(max(f.origin_seq), 0) from aob.run f where f.origin = r.key))
            into v_keep from aob.run r
            where r.key = t_run[i] and r.partition = p_partition and r.ended is null and r.checkpoint >= t_checkpoint[i];
        continue when not found or v_left = 0;
        select count(*), max(o.seq) into v_found, v_last from (
            select e.seq from aob.event e
            where e.run = t_run[i] and e.seq > v_keep and e.seq <= t_until[i] and e.kind <> 'gap' order by e.seq limit v_left
        ) o;
        continue when v_found = 0;
        v_left := v_left - v_found;
        return query select e.run, v_keep, e.seq, e.chain, e.data, v_found from aob.event e
            where e.run = t_run[i] and e.seq = v_last;
    end loop;
end $$;

-- Deletes that, and the payloads that nothing else refers to; null: fenced. Doing it again does no harm.
create function aob.trim_1(
    p_worker bigint, p_fence bigint, p_partition integer, t_run bigint[], t_keep integer[], t_last integer[], t_gap bytea[]
) returns boolean language plpgsql as $$
declare
    v_digests text[];
begin
    if not aob.guard_1(p_worker, p_fence) then
        return null;
    end if;
    delete from aob.event e using unnest(t_run, t_keep, t_last) as t (run, keep, last)
        where e.run = t.run and e.seq > t.keep and e.seq < t.last;
    -- events are inserted and deleted, and never updated: no login but the owner's needs the right to
    with cut as (
        delete from aob.event e using unnest(t_run, t_last, t_gap) as t (run, last, gap)
            where e.run = t.run and e.seq = t.last
            returning e.run, e.seq, e.partition, e.epoch, e.position, e.chain, t.gap
    )
    insert into aob.event (run, seq, partition, epoch, position, kind, version, chain, data)
        select run, seq, partition, epoch, position, 'gap', 1, chain, gap from cut;
    with unused as (
        delete from aob.blob_use u using unnest(t_run, t_keep, t_last) as t (run, keep, last)
        where u.run = t.run and u.seq <= t.last
        and not exists (
            select 1 from aob.event e
            where e.run = t.run and e.seq <= t.keep and position(convert_to(u.digest, 'UTF8') in e.data) > 0
        ) and not exists (
            select 1 from aob.run r join aob.ticket k on k.tenant = r.tenant and k.run_id = r.run_id
            where r.key = t.run and position(convert_to(u.digest, 'UTF8') in k.data) > 0
        ) returning u.digest
    )
    select array(select distinct digest from unused order by digest) into v_digests;
    -- first the lock, then the look: a commit that uses a payload anew holds its row
    perform 1 from aob.blob where digest = any (v_digests) order by digest for update;
    delete from aob.blob b where b.digest = any (v_digests)
        and not exists (select 1 from aob.blob_use u where u.digest = b.digest);
    return true;
end $$;
