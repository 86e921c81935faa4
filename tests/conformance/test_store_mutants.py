"""Bugs planted into the SQLite store, and the test of the suite that must see each.

A suite that passes whatever the store does proves nothing.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from aob.errors import AobError
from aob.stores.rows import Append, Appended, EventRow, Lease, LogRow, Message, RunRow
from aob.stores.sqlite import commits, leases, reads, removal, trimming
from aob.stores.sqlite.commits import Commits
from aob.stores.sqlite.leases import Leases
from aob.stores.sqlite.removal import Removal
from aob.stores.sqlite.trimming import Trimming
from tests.conformance.test_store_sqlite import TestSqliteStore as Suite

Plant = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, tuple[str, Plant]] = {}


def mutant(caught_by: str) -> Callable[[Plant], Plant]:
    """Register a planted bug under its own name."""

    def register(plant: Plant) -> Plant:
        MUTANTS[plant.__name__] = (caught_by, plant)
        return plant

    return register


@mutant("test_a_replaced_owner_is_refused_everything")
def the_epoch_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Commits, "guard", lambda self, partition, epoch: self.catch_up())


@mutant("test_a_replaced_owner_is_refused_though_it_wrote_last")
def the_epoch_is_remembered_for_ever(patch: pytest.MonkeyPatch) -> None:
    original = Commits.catch_up

    def catch_up(self: Commits) -> None:
        epochs = dict(self._epochs)
        original(self)
        self._epochs.update(epochs)

    patch.setattr(Commits, "catch_up", catch_up)


@mutant("test_a_replaced_owner_is_refused_everything")
def a_sweep_asks_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Removal, "_begin", lambda self, lease: None)


@mutant("test_after_release_nothing_more_is_written")
def a_released_epoch_still_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Leases, "_release", lambda self, leases, clean: [self._commits.forget(lease.partition) for lease in leases]
    )


@mutant("test_the_lock_of_a_replaced_owner_does_not_free_the_partition")
def a_free_lock_file_always_means_death(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leases, "_ROW", leases._ROW.replace("locked", "1"))


@mutant("test_waiting_messages_come_before_a_commit_and_are_taken_with_the_next")
def the_inbox_is_not_read_before_a_commit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Commits, "_unread", lambda self, batch: [])


@mutant("test_messages_are_handed_out_once_to_an_epoch")
def the_inbox_is_read_only_once(patch: pytest.MonkeyPatch) -> None:
    original = Commits.catch_up

    def catch_up(self: Commits) -> None:
        read = set(self._read)
        original(self)
        self._read |= read

    patch.setattr(Commits, "catch_up", catch_up)


@mutant("test_messages_that_were_not_taken_come_again_to_the_next_owner")
def a_new_epoch_starts_where_the_old_one_stopped_reading(patch: pytest.MonkeyPatch) -> None:
    original = Commits._unread

    def unread(self: Commits, batch: Append) -> list[Message]:
        for partition, (_, mark) in self._read_to.items():
            self._read_to[partition] = (batch.epochs.get(partition, 0), mark)
        return original(self, batch)

    patch.setattr(Commits, "_unread", unread)


@mutant("test_waiting_messages_come_before_a_commit_and_are_taken_with_the_next")
def messages_stay_when_they_are_dealt_with(patch: pytest.MonkeyPatch) -> None:
    original = Commits._append

    def append(self: Commits, batch: Append) -> Appended:
        takes, batch.takes = batch.takes, []
        try:
            return original(self, batch)
        finally:
            batch.takes = takes

    patch.setattr(Commits, "_append", append)


@mutant("test_a_commit_sends_messages_to_its_own_and_other_partitions")
def a_commits_own_messages_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    original = Commits._rarer

    def rarer(self: Commits, batch: Append) -> None:
        read = set(self._read)
        original(self, batch)
        self._read |= read

    patch.setattr(Commits, "_rarer", rarer)


@mutant("test_a_seq_is_written_once_or_the_whole_batch_is_refused")
def a_second_event_replaces_the_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(commits, "_EVENT", commits._EVENT.replace("insert", "insert or replace"))


@mutant("test_a_command_id_counts_once_or_the_whole_batch_is_refused")
def a_command_may_count_twice(patch: pytest.MonkeyPatch) -> None:
    original = Commits._rarer

    def rarer(self: Commits, batch: Append) -> None:
        known = set(self._connection.execute("select run, id from seen").fetchall())
        batch.seen = [(run, id) for run, id in batch.seen if (run.key, id) not in known]
        original(self, batch)

    patch.setattr(Commits, "_rarer", rarer)


@mutant("test_all_or_nothing_refuses_everything_for_one_conflict")
def a_conflict_never_refuses_the_commit(patch: pytest.MonkeyPatch) -> None:
    original = Commits._append

    def append(self: Commits, batch: Append) -> Appended:
        batch.all_or_nothing = False
        return original(self, batch)

    patch.setattr(Commits, "_append", append)


@mutant("test_a_taken_id_is_a_conflict_and_the_rest_is_committed")
def a_taken_id_is_overwritten(patch: pytest.MonkeyPatch) -> None:
    sql = commits._START.replace("do nothing", "do update set workflow = excluded.workflow")
    patch.setattr(commits, "_START", sql)


@mutant("test_keys_given_by_several_stores_do_not_meet")
def keys_are_counted_without_looking_at_the_file(patch: pytest.MonkeyPatch) -> None:
    original = Commits.catch_up

    def catch_up(self: Commits) -> None:
        key = self._key
        original(self)
        self._key = key or self._key

    patch.setattr(Commits, "catch_up", catch_up)


@mutant("test_a_changed_event_is_never_served")
def histories_are_read_unchecked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reads, "check_chain", lambda rows, seq, chain, where: None)


@mutant("test_a_fork_begins_with_what_it_shares")
def a_fork_goes_on_with_all_of_its_origin(patch: pytest.MonkeyPatch) -> None:
    original = reads.Reads._parts

    def parts(self: reads.Reads, run: int, first: int, until: int) -> list[tuple[int, int, int]]:
        return original(self, run, first, until)[-1:]

    patch.setattr(reads.Reads, "_parts", parts)


@mutant("test_events_that_a_fork_shares_stay_until_it_is_gone")
def forks_are_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Removal, "_shared", lambda self, key: False)


@mutant("test_the_last_of_a_line_of_forks_takes_the_others_along")
def what_forks_shared_is_left_behind(patch: pytest.MonkeyPatch) -> None:
    original = Removal._erase

    def erase(self: Removal, key: int) -> None:
        original(self, key)

    patch.setattr(Removal, "_erase", erase)


@mutant("test_a_deleted_run_leaves_nothing_and_its_id_is_free")
def a_blob_goes_with_the_first_that_used_it(patch: pytest.MonkeyPatch) -> None:
    original = Removal._erase

    def erase(self: Removal, key: int) -> int | None:
        self._connection.execute("delete from blob where digest in (select digest from blob_use where run = ?)", (key,))
        return original(self, key)

    patch.setattr(Removal, "_erase", erase)


@mutant("test_keys_and_positions_are_never_used_again")
def the_highest_key_is_forgotten_with_its_run(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Removal, "_begin", lambda self, lease: self._commits.guard(lease.partition, lease.epoch))


@mutant("test_23_a_replaced_owner_deletes_no_history")
def history_is_deleted_by_whoever_asks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Commits, "guard", lambda self, partition, epoch: self.catch_up())


@mutant("test_23_what_forks_share_stays_until_they_are_gone")
def what_forks_share_is_cut_too(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Trimming, "_shared", lambda self, key: 0)


@mutant("test_23_the_first_event_stays_and_what_is_behind_the_cut")
def the_start_of_a_run_is_cut_too(patch: pytest.MonkeyPatch) -> None:
    original = Trimming._cut
    patch.setattr(Trimming, "_cut", lambda self, key, keep, *more: original(self, key, 0, *more))


@mutant("test_23_a_gap_stands_in_the_place_of_what_was_deleted")
def a_gap_says_too_little(patch: pytest.MonkeyPatch) -> None:
    original = trimming.gap_data
    patch.setattr(trimming, "gap_data", lambda first, *more: original(first + 1, *more))


@mutant("test_23_what_is_damaged_beside_a_gap_is_seen")
def nothing_is_checked_behind_a_gap(patch: pytest.MonkeyPatch) -> None:
    original = reads.check_chain

    def check(rows: list[EventRow], seq: int, chain: int, where: str) -> None:
        if all(row.kind != "gap" for row in rows):
            original(rows, seq, chain, where)

    patch.setattr(reads, "check_chain", check)


@mutant("test_23_ended_runs_later_checkpoints_and_other_partitions_are_left_alone")
def a_checkpoint_that_was_set_aside_cuts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trimming, "_OPEN", trimming._OPEN.replace("checkpoint >= ?", "? > 0"))


@mutant("test_23_ended_runs_later_checkpoints_and_other_partitions_are_left_alone")
def ended_runs_are_cut_too(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trimming, "_OPEN", trimming._OPEN.replace("ended is null", "1"))


@mutant("test_23_payloads_go_with_the_last_event_that_refers_to_them")
def a_payload_goes_with_the_first_event_that_refers_to_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(commits, "_USE", commits._USE.replace("max(seq, excluded.seq)", "min(seq, excluded.seq)"))


@mutant("test_23_a_payload_that_a_fork_shares_stays")
def a_payload_goes_though_what_stays_refers_to_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trimming, "_UNUSED", trimming._UNUSED.replace("seq <= ?2", "seq < 0 and seq < ?2"))


@mutant("test_each_partition_has_a_log_of_its_own")
def a_log_is_read_behind_the_last_position_of_any(patch: pytest.MonkeyPatch) -> None:
    original = reads.Reads.log
    last = [0]

    def log(self: reads.Reads, partition: int, after: int, limit: int) -> list[LogRow]:
        rows = original(self, partition, max(after, last[0] if after else 0), limit)
        last[0] = max([last[0], *(row.position for row in rows)])
        return rows

    patch.setattr(reads.Reads, "log", log)


@mutant("test_a_replaced_owner_moves_no_cursor")
def cursors_are_moved_whoever_owns_the_partition(patch: pytest.MonkeyPatch) -> None:
    original = Commits._append

    def append(self: Commits, batch: Append) -> Appended:
        return self._rarer(batch) or Appended(committed=True) if batch.cursors else original(self, batch)

    patch.setattr(Commits, "_append", append)


@mutant("test_a_dropped_exporter_does_not_come_back_with_a_commit_that_was_on_its_way")
def a_dropped_exporter_comes_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(commits, "_MOVE", "insert or replace into cursor (position, exporter, partition) values (?, ?, ?)")


@mutant("test_21_nothing_is_deleted_before_every_exporter_has_it")
def exporters_are_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Removal, "_passed", lambda self, partition: 1 << 62)


@mutant("test_21_nothing_is_deleted_before_every_exporter_has_it")
def one_exporter_is_enough(patch: pytest.MonkeyPatch) -> None:
    def passed(self: Removal, partition: int) -> int:
        sql = "select max(position) from cursor where partition = ?"
        return self._connection.execute(sql, (partition,)).fetchall()[0][0] or 1 << 62

    patch.setattr(Removal, "_passed", passed)


@mutant("test_21_a_child_stays_while_its_parent_may_ask_for_its_result")
def parents_are_not_asked(patch: pytest.MonkeyPatch) -> None:
    for name in ("_OLD", "_ONE"):
        patch.setattr(removal, name, getattr(removal, name).replace(removal._PARENT, "null"))


@mutant("test_21_a_child_stays_while_its_parent_may_ask_for_its_result")
def a_parent_that_has_ended_needs_nothing(patch: pytest.MonkeyPatch) -> None:
    asked = removal._PARENT.replace("where p.tenant", "where p.ended is null and p.tenant")
    for name in ("_OLD", "_ONE"):
        patch.setattr(removal, name, getattr(removal, name).replace(removal._PARENT, asked))


@mutant("test_21_a_child_goes_when_its_parent_has_passed_a_checkpoint")
def children_stay_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(removal, "_OLD", removal._OLD.replace("seq = p.checkpoint", "seq = 0"))


@mutant("test_an_open_run_cannot_be_deleted")
def open_runs_are_deleted_too(patch: pytest.MonkeyPatch) -> None:
    def delete(self: Removal, lease: Lease, key: int) -> None:
        self._begin(lease)
        if self._connection.execute("select 1 from run where key = ?", (key,)).fetchone():
            self._delete(key)

    patch.setattr(Removal, "_delete_one", delete)


@mutant("test_a_start_of_a_taken_id_writes_nothing_and_returns_the_run")
def a_message_is_sent_though_its_start_is_refused(patch: pytest.MonkeyPatch) -> None:
    original = Commits._start

    def start(self: Commits, starts: list[RunRow], all_or_nothing: bool) -> list[tuple[RunRow, RunRow]]:
        found = original(self, starts, all_or_nothing)
        for _, existing in found:
            values = (existing.partition, "t", existing.run_id, "start", b"", None, None)
            self._connection.execute(commits._SEND, values)
            self._connection.execute("commit")
            self._connection.execute("begin immediate")
        return found

    patch.setattr(Commits, "_start", start)


def test_the_suite_has_no_mutant_without_a_test() -> None:
    assert [test for test, _ in MUTANTS.values() if not hasattr(Suite, test)] == []


@pytest.mark.parametrize("name", MUTANTS)
def test_the_planted_bug_is_seen(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    test, plant = MUTANTS[name]
    plant(monkeypatch)
    suite = Suite()
    suite.path = tmp_path / "aob.db"
    with pytest.raises((AssertionError, AobError)):
        asyncio.run(getattr(suite, test)())
