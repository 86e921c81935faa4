-- One commit of a worker: one call, one round trip. An array is null where a commit has nothing of the kind.
--
-- It answers with rows: `mark` (committed; id: where to look for messages next time) and
-- `sent` (partitions to which it sent messages); or why nothing was written:
-- `inbox` (messages that must be dealt with first), `taken` (id: the key of the run that has a start's id),
-- `fenced` (somebody took a partition: see what is left, and send it again).
-- The plans are told not to depend on how full the tables were when they were made.
create function aob.append_1(
    p_worker bigint, p_fence bigint, p_mark bigint, p_partitions integer[], p_known bigint[],
    e_run bigint[], e_seq integer[], e_partition integer[], e_epoch integer[], e_position bigint[],
    e_kind text[], e_version smallint[], e_chain bigint[], e_data bytea[],
    u_key bigint[], u_status text[], u_updated bigint[], u_ended bigint[], u_due bigint[], u_reason text[],
    u_checkpoint integer[], u_deaths integer[], u_attributes text[], u_build text[],
    p_takes bigint[],
    s_key bigint[], s_partition integer[], s_tenant text[], s_run_id text[], s_workflow text[], s_status text[],
    s_created bigint[], s_updated bigint[], s_ended bigint[], s_due bigint[], s_input_hash bytea[], s_attributes
    text[], s_parent text[], s_reason text[], s_checkpoint integer[], s_deaths integer[], s_origin bigint[],
    s_origin_seq integer[], s_build text[],
    p_rest boolean,
    n_run bigint[], n_id text[], b_run bigint[], b_digest text[], b_data bytea[], b_seq integer[],
    r_id text[], r_body bytea[], r_expires bigint[],
    c_exporter text[], c_partition integer[], c_position bigint[],
    p_tickets text, t_data bytea[], t_schema bytea[], p_sends text, m_body bytea[]
) returns table (
    what text, id bigint, partition integer, tenant text, run_id text, kind text, body bytea, reply text, expires bigint
) language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_mark bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
begin
    return query
        select 'inbox', i.id, i.partition, i.tenant, i.run_id, i.kind, i.body, i.reply, i.expires
        from (select * from aob.inbox where transaction >= p_mark offset 0) as i
        where i.id <> all (p_known) and case when p_partitions is not null then i.partition = any (p_partitions)
            else exists (select 1 from aob.partition p where p.id = i.partition and p.owner + 0 = p_worker) end
        order by i.id limit 1000;
    if found then
        return;
    end if;
    if s_key is not null then
        return query
            select 'taken', r.key, r.partition, null, null, null, null::bytea, null, null::bigint
            from unnest(s_tenant, s_run_id) as s (tenant, run_id)
            join aob.run r on r.tenant = s.tenant and r.run_id = s.run_id;
        if found then
            return;
        end if;
    end if;
    if e_run is null and u_key is null and s_key is null and p_takes is null and not p_rest then
        perform 1 from aob.worker where id = p_worker and fence = p_fence;  -- nothing to write: no lock, and no sync
    else
        perform 1 from aob.worker where id = p_worker and fence = p_fence for no key update;
    end if;
    if not found then
        return query select 'fenced', null::bigint, null::integer, null, null, null, null::bytea, null, null::bigint;
        return;
    end if;
    if s_key is not null then
        perform aob.put_runs_1(
            s_key, s_partition, s_tenant, s_run_id, s_workflow, s_status, s_created, s_updated, s_ended, s_due,
            s_input_hash, s_attributes, s_parent, s_reason, s_checkpoint, s_deaths, s_origin, s_origin_seq, s_build
        );
    end if;
    if e_run is not null then
        insert into aob.event (run, seq, partition, epoch, position, kind, version, chain, data)
            select * from unnest(e_run, e_seq, e_partition, e_epoch, e_position, e_kind, e_version, e_chain, e_data);
    end if;
    if u_key is not null then
        update aob.run r set
            status = u.status, updated = u.updated, ended = u.ended, due = u.due, reason = u.reason,
            checkpoint = u.checkpoint, deaths = u.deaths, attributes = u.attributes::jsonb,
            build = case when r.status = 'pending' then u.build else r.build end
            from unnest(u_key, u_status, u_updated, u_ended, u_due, u_reason, u_checkpoint, u_deaths, u_attributes, u_build)
                as u (key, status, updated, ended, due, reason, checkpoint, deaths, attributes, build)
            where r.key = u.key;
    end if;
    if p_takes is not null then
        delete from aob.inbox i where i.id = any (p_takes);
    end if;
    return query select 'mark', v_mark, null::integer, null, null, null, null::bytea, null, null::bigint;
    if p_rest then
        return query
            select 'sent', null::bigint, r.partition, null, null, null, null::bytea, null, null::bigint
            from aob.append_rest_1(n_run, n_id, b_run, b_digest, b_data, b_seq, r_id, r_body, r_expires,
                                   c_exporter, c_partition, c_position, p_tickets, t_data, t_schema, p_sends, m_body) as r (partition);
    end if;
end $$;

-- Runs that start.
create function aob.put_runs_1(
    s_key bigint[], s_partition integer[], s_tenant text[], s_run_id text[], s_workflow text[], s_status text[],
    s_created bigint[], s_updated bigint[], s_ended bigint[], s_due bigint[], s_input_hash bytea[], s_attributes
    text[], s_parent text[], s_reason text[], s_checkpoint integer[], s_deaths integer[], s_origin bigint[],
    s_origin_seq integer[], s_build text[]
) returns void language sql volatile as $$
    insert into aob.run
        (key, partition, tenant, run_id, workflow, status, created, updated, ended, due, input_hash, attributes,
         parent, reason, checkpoint, deaths, origin, origin_seq, build)
        select key, partition, tenant, run_id, workflow, status, created, updated, ended, due, input_hash,
               attributes::jsonb, parent, reason, checkpoint, deaths, origin, origin_seq, build
        from unnest(
            s_key, s_partition, s_tenant, s_run_id, s_workflow, s_status, s_created, s_updated, s_ended, s_due,
            s_input_hash, s_attributes, s_parent, s_reason, s_checkpoint, s_deaths, s_origin, s_origin_seq, s_build
        ) as s (key, partition, tenant, run_id, workflow, status, created, updated, ended, due, input_hash,
                attributes, parent, reason, checkpoint, deaths, origin, origin_seq, build)
$$;

-- What few commits have: ids of commands that count once, large payloads, answers, cursors, tickets, messages.
-- The partitions to which messages went.
create function aob.append_rest_1(
    n_run bigint[], n_id text[], b_run bigint[], b_digest text[], b_data bytea[], b_seq integer[],
    r_id text[], r_body bytea[], r_expires bigint[],
    c_exporter text[], c_partition integer[], c_position bigint[],
    p_tickets text, t_data bytea[], t_schema bytea[], p_sends text, m_body bytea[]
) returns setof integer language plpgsql as $$
begin
    if n_run is not null then
        insert into aob.seen (run, id) select * from unnest(n_run, n_id);
    end if;
    if b_run is not null then
        -- locks what is there already: whoever deletes what nobody uses looks again when it has the lock
        insert into aob.blob (digest, data)
            select distinct on (b.digest) b.digest, b.data from unnest(b_digest, b_data) as b (digest, data) order by b.digest
            on conflict (digest) do update set digest = excluded.digest;
        insert into aob.blob_use as u (run, digest, seq)
            select b.run, b.digest, max(b.seq) from unnest(b_run, b_digest, b_seq) as b (run, digest, seq)
            group by b.run, b.digest
            on conflict (run, digest) do update set seq = greatest(u.seq, excluded.seq);
    end if;
    if r_id is not null then
        insert into aob.reply (id, body, expires) select * from unnest(r_id, r_body, r_expires)
            on conflict (id) do update set body = excluded.body, expires = excluded.expires;
    end if;
    if c_exporter is not null then
        insert into aob.cursor (exporter, partition, position)
            select c.exporter, c.partition, 0 from unnest(c_exporter, c_partition, c_position) as c (exporter, partition, position)
            where c.position = 0 on conflict do nothing;
        -- one that was dropped meanwhile does not come back
        update aob.cursor u set position = c.position from (
            select m.exporter, m.partition, max(m.position) as position
            from unnest(c_exporter, c_partition, c_position) as m (exporter, partition, position)
            where m.position > 0 group by m.exporter, m.partition
        ) c where u.exporter = c.exporter and u.partition = c.partition;
    end if;
    if p_tickets is not null then
        insert into aob.ticket
            (id, tenant, run_id, workflow, step, title, data, assignees, schema, created, deadline, status, by, reason, closed)
            select id, tenant, run_id, workflow, step, title, t_data[place],
                   array(select json_array_elements_text(assignees)), t_schema[place],
                   created, deadline, status, by, reason, closed
            from json_to_recordset(p_tickets::json) as t
                (place integer, id text, tenant text, run_id text, workflow text, step text, title text, assignees json,
                 created bigint, deadline bigint, status text, by text, reason text, closed bigint)
            order by place
            on conflict (tenant, id) do update set
                assignees = excluded.assignees, deadline = excluded.deadline, status = excluded.status, by = excluded.by,
                reason = excluded.reason, closed = excluded.closed, data = excluded.data, title = excluded.title;
    end if;
    if p_sends is not null then
        return query select distinct m.partition from aob.put_messages_1(p_sends, m_body) as m;
    end if;
end $$;

-- The partition of a run that has not begun, which may be about to move: it stays there until the message is in its
-- inbox, or the message follows.
create function aob.pending_1(p_tenant text, p_run_id text) returns integer language sql volatile
as $$ select r.partition from aob.run r where r.tenant = p_tenant and r.run_id = p_run_id for key share $$;

-- Puts messages into the inbox, in order: each into its partition, or else its run's, or else the one it would have.
create function aob.put_messages_1(p_sends text, m_body bytea[])
returns table (place integer, id bigint, partition integer) language plpgsql as $$
#variable_conflict use_column
begin
    return query
        with sent as (
            insert into aob.inbox (nonce, partition, tenant, run_id, kind, body, reply, expires)
                select m.nonce,
                       coalesce(m.partition,
                                (select r.partition from aob.run r
                                 where r.tenant = m.tenant and r.run_id = m.run_id and r.status <> 'pending'),
                                aob.pending_1(m.tenant, m.run_id), m.other),
                       m.tenant, m.run_id, m.kind, m_body[m.place], m.reply, m.expires
                from json_to_recordset(p_sends::json) as m
                    (place integer, nonce bigint, partition integer, other integer, tenant text, run_id text, kind text,
                     reply text, expires bigint)
                order by m.place
                on conflict (nonce) do nothing
                returning nonce, id, partition
        )
        select m.place, s.id, s.partition
        from sent s join json_to_recordset(p_sends::json) as m (place integer, nonce bigint) using (nonce);
end $$;
