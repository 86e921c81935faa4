"""Bugs in the SQL of the Postgres store: texts of the migrations that are replaced before a fresh schema is made."""

from __future__ import annotations

from tests.conformance.postgres_bugs import Bug, Test, alone, cut, replaced, suite
from tests.integration import test_postgres_fencing as fencing, test_postgres_order as order

BUGS: dict[str, Bug] = {}


def sql(name: str, seen_by: Test | str, *texts: tuple[str, str]) -> None:
    """Register one."""
    assert name not in BUGS
    BUGS[name] = Bug(suite(seen_by) if isinstance(seen_by, str) else seen_by, texts)


# --- leases -----------------------------------------------------------------------------------------------------------

sql(
    "a commit does not compare the fence", alone(fencing.test_who_was_replaced_is_refused),
    (
        "where id = p_worker and fence = p_fence for no key update;\n    end if;",
        "where id = p_worker for no key update;\n    end if;",
    ),
)  # fmt: skip
sql(
    "an empty commit does not compare the fence", replaced("commits nothing"),
    ("and fence = p_fence;  -- nothing to write", ";  -- nothing to write"),
)  # fmt: skip
sql(
    "whoever deletes does not compare the fence", replaced("sweeps"),
    (
        "where id = p_worker and fence = p_fence for no key update;\n    return found;",
        "where id = p_worker for no key update;\n    return found;",
    ),
)  # fmt: skip
sql(
    "who takes a partition does not raise its owners fence", alone(fencing.test_who_was_replaced_is_refused),
    ("set fence = w.fence + 1\n        where w.id in", "set fence = w.fence\n        where w.id in"),
)  # fmt: skip
sql(
    "the epoch is not raised", "test_a_later_epoch_of_the_same_store_counts",
    ("epoch = p.epoch + 1, clean = false", "epoch = greatest(p.epoch, 1), clean = false"),
)  # fmt: skip
sql(
    "leases last by another clock than the stores", "test_an_expired_lease_is_taken_over_and_is_not_clean",
    (
        "v_now := aob.now_us();\n    v_dead",
        "v_now := (extract(epoch from clock_timestamp()) * 1000000)::bigint;\n    v_dead",
    ),
)  # fmt: skip
sql(
    "a lease that another took is renewed", replaced("renews"),
    ("if aob.lost_1(p_worker, p_partitions, p_epochs) then", "if false then"),
)  # fmt: skip
sql(
    "a dead workers row is not locked before it is looked at",
    alone(order.test_who_renews_while_another_would_take_over_keeps_what_it_has),
    ("where w.id = v_worker or w.expires <= aob.now_us() order by", "where w.id = v_worker order by"),
)  # fmt: skip
sql(
    "what a dead worker had counts as clean", "test_an_expired_lease_is_taken_over_and_is_not_clean",
    ("b.owner is null and b.clean,", "true,"),
)  # fmt: skip
sql(
    "what is released always counts as clean", "test_a_partition_can_be_handed_over_as_unclean_as_it_was_found",
    ("set owner = null, clean = p_clean", "set owner = null, clean = true"),
)  # fmt: skip
sql(
    "a release frees nothing", "test_a_released_partition_is_free_at_once_and_clean",
    ("set owner = null, clean = p_clean", "set clean = p_clean"),
)  # fmt: skip
sql(
    "whoever had a partition once may release it", "test_releasing_a_lost_lease_takes_nothing_from_the_new_owner",
    ("where p.id = l.id and p.owner + 0 = p_worker and p.epoch = l.epoch;", "where p.id = l.id;"),
)  # fmt: skip
sql(
    "leases whose answer was lost are given to nobody",
    cut("test_leases_that_are_asked_for_again_are_given", "cut_after"),
    ("or (p.owner = v_worker and p.id <> all (p_held))", ""),
)  # fmt: skip
sql(
    "silent workers are counted", "test_workers_that_left_or_fell_silent_are_not_counted",
    ("where w.announced > v_now order by", "order by"),
)  # fmt: skip

# --- commits ----------------------------------------------------------------------------------------------------------

sql(
    "a second event of a seq is left out", "test_a_seq_is_written_once_or_the_whole_batch_is_refused",
    ("e_kind, e_version, e_chain, e_data);", "e_kind, e_version, e_chain, e_data) on conflict do nothing;"),
)  # fmt: skip
sql(
    "a command may count twice", "test_a_command_id_counts_once_or_the_whole_batch_is_refused",
    ("select * from unnest(n_run, n_id);", "select * from unnest(n_run, n_id) on conflict do nothing;"),
)  # fmt: skip
sql(
    "starts of taken ids are no conflicts", "test_a_taken_id_is_a_conflict_and_the_rest_is_committed",
    (
        "null, null, null, null::bytea, null, null::bigint\n            from unnest(s_tenant, s_run_id) as",
        "null, null, null, null::bytea, null, null::bigint\n            from unnest(s_tenant[:0], s_run_id[:0]) as",
    ),
    ("origin, origin_seq, build)\n$$;", "origin, origin_seq, build) on conflict do nothing\n$$;"),
)  # fmt: skip
sql(
    "payloads are dropped", "test_blobs_are_kept_once_and_read_anywhere",
    ("as b (digest, data) order by b.digest\n", "as b (digest, data) order by b.digest limit 0\n"),
)  # fmt: skip
sql(
    "a payload goes with the first event that refers to it",
    "test_23_payloads_go_with_the_last_event_that_refers_to_them",
    ("set seq = greatest(u.seq, excluded.seq)", "set seq = least(u.seq, excluded.seq)"),
)  # fmt: skip
sql(
    "cursors are moved whoever owns the partition", "test_a_replaced_owner_moves_no_cursor",
    (
        "if not found then\n        return query select 'fenced'",
        "if not found and c_exporter is null then\n        return query select 'fenced'",
    ),
)  # fmt: skip
sql(
    "a dropped exporter comes back", "test_a_dropped_exporter_does_not_come_back_with_a_commit_that_was_on_its_way",
    ("where c.position = 0 on conflict do nothing;", "on conflict do nothing;"),
)  # fmt: skip

# --- messages ---------------------------------------------------------------------------------------------------------

sql(
    "the inbox is not read before a commit",
    "test_waiting_messages_come_before_a_commit_and_are_taken_with_the_next",
    ("order by i.id limit 1000;", "order by i.id limit 0;"),
)  # fmt: skip
sql(
    "the inbox is read on behind the last id",
    alone(order.test_a_message_whose_transaction_ends_late_is_not_passed_over),
    (
        "bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;",
        "bigint := (select coalesce(max(i.id), 0) from aob.inbox i);",
    ),
    ("from aob.inbox where transaction >= p_mark offset 0", "from aob.inbox x where x.id > p_mark offset 0"),
)  # fmt: skip
sql(
    "messages are handed out again and again", "test_messages_are_handed_out_once_to_an_epoch",
    ("where i.id <> all (p_known) and case", "where case"),
)  # fmt: skip
sql(
    "messages stay when they are dealt with",
    "test_waiting_messages_come_before_a_commit_and_are_taken_with_the_next",
    ("if p_takes is not null then", "if false then"),
)  # fmt: skip
sql(
    "a message that names no partition does not go to its run",
    "test_a_message_that_names_no_partition_goes_to_its_runs",
    ("and r.run_id = m.run_id and r.status <> 'pending'),", "and false),"),
    ("aob.pending_1(m.tenant, m.run_id), m.other),", "m.other),"),
)  # fmt: skip
sql(
    "a message is sent though its start is refused",
    "test_a_start_of_a_taken_id_writes_nothing_and_returns_the_run",
    (
        "r.key, r.partition\n            from unnest(s_tenant, s_run_id) as",
        "r.key, r.partition\n            from unnest(s_tenant[:0], s_run_id[:0]) as",
    ),
    ("origin, origin_seq, build)\n$$;", "origin, origin_seq, build) on conflict do nothing\n$$;"),
)  # fmt: skip
sql(
    "a message that was dealt with counts again when it is sent again",
    cut("test_a_message_that_is_dealt_with_before_it_is_sent_again_counts_once", "cut_after"),
    ("on conflict do nothing;\n        if not found then", "on conflict do nothing;\n        if false then"),
)  # fmt: skip
sql(
    "nobody is told of a message", alone(order.test_what_others_wait_for_is_told_in_the_transaction_that_has_it),
    ("pg_notify(p_channel, p_news || string_agg(distinct s.partition::text, ','))", "count(*)"),
)  # fmt: skip
sql(
    "nobody is told that a partition is free",
    alone(order.test_what_others_wait_for_is_told_in_the_transaction_that_has_it),
    ("perform pg_notify(p_channel, p_news);", ""),
)  # fmt: skip
sql(
    "nobody is told that a worker left", alone(order.test_what_others_wait_for_is_told_in_the_transaction_that_has_it),
    ("select pg_notify(p_channel, p_news);\n$$;", "select p_channel || p_news;\n$$;"),
)  # fmt: skip

# --- deleting ---------------------------------------------------------------------------------------------------------

sql(
    "exporters are not asked", "test_21_nothing_is_deleted_before_every_exporter_has_it",
    ("select min(c.position) from aob.cursor c", "select null::bigint from aob.cursor c"),
)  # fmt: skip
sql(
    "one exporter is enough", "test_21_nothing_is_deleted_before_every_exporter_has_it",
    ("select min(c.position) from aob.cursor c", "select max(c.position) from aob.cursor c"),
)  # fmt: skip
sql(
    "parents are not asked", "test_21_a_child_stays_while_its_parent_may_ask_for_its_result",
    ("where p.tenant = r.tenant and p.run_id = r.parent\n", "where p.tenant = r.tenant and false\n"),
)  # fmt: skip
sql(
    "a parent that has ended needs nothing", "test_21_a_child_stays_while_its_parent_may_ask_for_its_result",
    ("and p.status not in ('completed', 'terminated')", "and p.ended is null"),
)  # fmt: skip
sql(
    "children stay for ever", "test_21_a_child_goes_when_its_parent_has_passed_a_checkpoint",
    ("or aob.position_1(p.key, p.checkpoint)", "or 0"),
)  # fmt: skip
sql(
    "open runs are deleted too", "test_an_open_run_cannot_be_deleted",
    ("if v_found and v_run.ended is null then", "if false then"),
)  # fmt: skip
sql(
    "other partitions runs are swept", "test_a_sweep_leaves_other_partitions_alone",
    ("where r.partition = p_partition and r.ended < p_before", "where r.ended < p_before"),
)  # fmt: skip
sql(
    "a sweep looks at the same runs again", "test_a_sweep_goes_on_behind_what_it_has_looked_at",
    ("and (r.ended, r.key) > (p_ended, p_key)", ""),
)  # fmt: skip
sql(
    "answers that nobody fetched stay", "test_answers_that_nobody_fetched_are_swept",
    ("delete from aob.reply where expires < aob.now_us();", ""),
)  # fmt: skip
sql(
    "who asked for a deletion asks for ever",
    "test_a_deletion_takes_messages_and_writes_replies_in_the_same_transaction",
    ("delete from aob.inbox i where i.id = any (p_takes);\n        insert", "insert"),
)  # fmt: skip
sql(
    "positions are used again", "test_keys_and_positions_are_never_used_again",
    ("update aob.partition p set position = greatest(", "update aob.partition p set position = least("),
)  # fmt: skip
sql(
    "forks are not asked", "test_events_that_a_fork_shares_stay_until_it_is_gone",
    ("and not exists (select 1 from aob.run f where f.origin = r.key)", ""),
)  # fmt: skip
sql(
    "what forks shared is left behind", "test_the_last_of_a_line_of_forks_takes_the_others_along",
    ("v_gone := v_origins;", "v_gone := '{}';"),
)  # fmt: skip
sql(
    "a payload goes with the first run that used it", "test_a_deleted_run_leaves_nothing_and_its_id_is_free",
    ("\n            and not exists (select 1 from aob.blob_use u where u.digest = b.digest);", ";"),
)  # fmt: skip

# --- trimming ---------------------------------------------------------------------------------------------------------

sql(
    "no gap stands in the place of what was deleted", "test_23_a_gap_stands_in_the_place_of_what_was_deleted",
    ("'gap', 1, chain, gap from cut;", "'gap', 1, chain, gap from cut limit 0;"),
)  # fmt: skip
sql(
    "the start of a run is cut too", "test_23_the_first_event_stays_and_what_is_behind_the_cut",
    ("select greatest(1, r.origin_seq,", "select greatest(0, r.origin_seq,"),
)  # fmt: skip
sql(
    "what forks share is cut too", "test_23_what_forks_share_stays_until_they_are_gone",
    ("(select coalesce(max(f.origin_seq), 0) from aob.run f where f.origin = r.key)", "0"),
)  # fmt: skip
sql(
    "ended runs are cut too", "test_23_ended_runs_later_checkpoints_and_other_partitions_are_left_alone",
    ("and r.ended is null and r.checkpoint >=", "and r.checkpoint >="),
)  # fmt: skip
sql(
    "a checkpoint that was set aside cuts", "test_23_ended_runs_later_checkpoints_and_other_partitions_are_left_alone",
    ("and r.checkpoint >= t_checkpoint[i]", ""),
)  # fmt: skip
sql(
    "other partitions runs are cut", "test_23_ended_runs_later_checkpoints_and_other_partitions_are_left_alone",
    ("where r.key = t_run[i] and r.partition = p_partition", "where r.key = t_run[i]"),
)  # fmt: skip
sql(
    "a payload goes though what stays refers to it", "test_23_a_payload_that_a_fork_shares_stays",
    ("where e.run = t.run and e.seq <= t.keep and position", "where false and position"),
)  # fmt: skip
sql(
    "a run that began keeps no build", "test_a_pending_run_is_pinned_when_it_begins",
    ("build = case when r.status = 'pending' then u.build else r.build end", "build = r.build"),
)  # fmt: skip
sql(
    "a later summary pins a run anew", "test_a_run_keeps_its_build",
    ("build = case when r.status = 'pending' then u.build else r.build end", "build = u.build"),
)  # fmt: skip
sql(
    "lanes are given to anybody", "test_only_their_build_is_given_lanes",
    ("case when p_only is null then p.build is not distinct from p_build", "case when p_only is null then true"),
)  # fmt: skip
sql(
    "every worker makes lanes of its own", "test_lanes_are_made_once",
    ("if exists (select 1 from aob.partition where build = p_build)\n        or", "if"),
)  # fmt: skip
sql(
    "lanes in which runs are open serve another build", "test_retired_lanes_are_anybodys_and_serve_again",
    ("and not exists (select 1 from aob.run r where r.partition = p.id and r.ended is null)\n", ""),
)  # fmt: skip
sql(
    "messages stay behind when a run moves", "test_a_run_moves_with_what_was_sent_to_it_in_order",
    ("and i.partition = m.was\n", "and false\n"),
)  # fmt: skip
sql(
    "messages move under ids that were seen", "test_a_run_moves_with_what_was_sent_to_it_in_order",
    ("set id = default, transaction = default, partition", "set partition"),
)  # fmt: skip
sql(
    "runs that have begun move", "test_a_move_that_is_repeated_or_late_does_nothing",
    ("where r.key = m.run and r.partition = m.was and r.status = 'pending';", "where r.key = m.run;"),
)  # fmt: skip
sql(
    "a parent in another partition does not keep its child", "test_runs_in_lanes_are_read_like_others",
    ("and (p.partition <> r.partition or aob.position_1", "and (p.partition = r.partition and aob.position_1"),
)  # fmt: skip
