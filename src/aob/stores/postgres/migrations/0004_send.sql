-- Messages and the pending runs beside them, all or nothing. Rows: `taken` (id: the key of the run that has a start's
-- id; nothing was written), or `sent` (place, id and partition of each message that was not there yet).
-- A start is known again by its run, other messages by the nonce of the first (p_nonce; null with starts).
-- Whoever owns a partition is told on this channel.
create function aob.send_1(
    p_nonce bigint, p_sends text, m_body bytea[], p_channel text, p_news text,
    s_key bigint[], s_partition integer[], s_tenant text[], s_run_id text[], s_workflow text[], s_status text[],
    s_created bigint[], s_updated bigint[], s_ended bigint[], s_due bigint[], s_input_hash bytea[], s_attributes
    text[], s_parent text[], s_reason text[], s_checkpoint integer[], s_deaths integer[], s_origin bigint[],
    s_origin_seq integer[], s_build text[]
) returns table (what text, place integer, id bigint, partition integer) language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
#variable_conflict use_column
begin
    if s_key is not null then
        return query
            select 'taken', null::integer, r.key, r.partition
            from unnest(s_tenant, s_run_id) as s (tenant, run_id)
            join aob.run r on r.tenant = s.tenant and r.run_id = s.run_id;
        if found then
            return;
        end if;
        perform aob.put_runs_1(
            s_key, s_partition, s_tenant, s_run_id, s_workflow, s_status, s_created, s_updated, s_ended, s_due,
            s_input_hash, s_attributes, s_parent, s_reason, s_checkpoint, s_deaths, s_origin, s_origin_seq, s_build
        );
    end if;
    if p_nonce is not null then
        insert into aob.sent (nonce) values (p_nonce) on conflict do nothing;
        if not found then
            return;
        end if;
    end if;
    return query
        with sent as (select * from aob.put_messages_1(p_sends, m_body)),
        told as (select pg_notify(p_channel, p_news || string_agg(distinct s.partition::text, ',')) from sent s)
        select 'sent', s.place, s.id, s.partition from sent s, told;
end $$;
