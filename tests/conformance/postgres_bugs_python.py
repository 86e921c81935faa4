"""Bugs in the Python part of the Postgres store: patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aob.stores.postgres import commits, partitions, reads
from aob.stores.postgres.batches import Sealed
from aob.stores.postgres.commits import Commits
from aob.stores.postgres.holdings import Holder
from aob.stores.postgres.leases import Leases
from aob.stores.postgres.partitions import Partitions
from aob.stores.postgres.reads import Reads
from aob.stores.rows import Append, Appended
from tests.conformance.postgres_bugs import Bug, Plant, Test, alone, cut, suite
from tests.integration import (
    test_postgres_faults as faults,
    test_postgres_fencing as fencing,
    test_postgres_order as order,
)

BUGS: dict[str, Bug] = {}


def python(seen_by: Test | str) -> Callable[[Plant], Plant]:
    """Register one under its own name."""

    def register(plant: Plant) -> Plant:
        assert plant.__name__ not in BUGS
        BUGS[plant.__name__] = Bug(suite(seen_by) if isinstance(seen_by, str) else seen_by, (), plant)
        return plant

    return register


# --- leases -----------------------------------------------------------------------------------------------------------


@python(alone(fencing.test_also_when_it_takes_another_partition))
def who_takes_another_partition_does_not_look_at_the_others(patch: pytest.MonkeyPatch) -> None:
    async def see(self: Leases, owner: str, taken: set[int]) -> None:
        return

    patch.setattr(Leases, "_see_the_others", see)


@python(alone(fencing.test_who_was_replaced_is_refused))
def a_raised_fence_is_taken_over_unseen(patch: pytest.MonkeyPatch) -> None:
    async def see(self: Commits, ask: Any, holder: Holder, epochs: dict[int, int]) -> None:
        holder.fence = (await ask(self._lost, holder.id, [], []))[0][1]

    patch.setattr(Commits, "_see", see)


@python(alone(order.test_a_hosts_clock_that_is_wrong_by_hours_changes_no_keys_and_no_leases))
def the_databases_clock_is_not_asked_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Leases, "_measured", lambda self, sent, database: None)


# --- commits ----------------------------------------------------------------------------------------------------------


@python("test_all_or_nothing_refuses_everything_for_one_conflict")
def a_conflict_never_refuses_the_commit(patch: pytest.MonkeyPatch) -> None:
    original = Commits._commit

    async def commit(self: Commits, batch: Append) -> Appended:
        batch.all_or_nothing = False
        return await original(self, batch)

    patch.setattr(Commits, "_commit", commit)


@python(cut("test_each_commit_counts_once", "cut_before"))
def positions_have_holes(patch: pytest.MonkeyPatch) -> None:
    original = Sealed._events

    def events(self: Sealed, events: Any) -> Any:
        for partition in {run.partition for run, *_ in events}:
            self._held[partition].position += 1
        return original(self, events)

    patch.setattr(Sealed, "_events", events)


@python(cut("test_each_commit_counts_once", "cut_after"))
def nobody_looks_whether_a_commit_was_made(patch: pytest.MonkeyPatch) -> None:
    async def is_there(self: Commits, sealed: Sealed) -> bool:
        return False

    patch.setattr(Commits, "_is_there", is_there)


@python(cut("test_each_commit_counts_once", "cut_before"))
def a_commit_whose_fate_is_unknown_counts_as_made(patch: pytest.MonkeyPatch) -> None:
    async def is_there(self: Commits, sealed: Sealed) -> bool:
        return True

    patch.setattr(Commits, "_is_there", is_there)


@python(lambda server, url: faults.test_a_commit_that_was_on_its_way_is_refused_when_it_comes_late(server, url))
def what_was_sent_before_is_not_fenced_off(patch: pytest.MonkeyPatch) -> None:
    async def refence(self: Commits, holder: Holder, epochs: dict[int, int]) -> None:
        return

    patch.setattr(Commits, "_refence", refence)


# --- messages ---------------------------------------------------------------------------------------------------------


@python(alone(fencing.test_messages_of_a_partition_whose_lease_is_on_its_way_wait_for_it))
def messages_of_partitions_that_nobody_here_knows_of_are_handed_out(patch: pytest.MonkeyPatch) -> None:
    original = commits._handed_out

    def handed_out(holder: Holder, batch: Append, rows: Any) -> Any:
        everywhere = Append(epochs=dict.fromkeys(range(256), 0))
        return original(holder, everywhere, rows)

    patch.setattr(commits, "_handed_out", handed_out)


@python("test_an_answer_is_read_once")
def answers_stay(patch: pytest.MonkeyPatch) -> None:
    async def delete(self: Reads, reply: str, again: bool) -> bool:
        return True

    patch.setattr(Reads, "_delete_reply", delete)


# --- reading ----------------------------------------------------------------------------------------------------------


@python("test_a_changed_event_is_never_served")
def histories_are_read_unchecked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reads, "check_chain", lambda rows, seq, chain, where: None)


@python("test_a_fork_begins_with_what_it_shares")
def a_fork_goes_on_with_all_of_its_origin(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reads, "_EVENTS", reads._EVENTS.replace("least(p.high, p.low)", "p.high"))


@python("test_the_log_leaves_out_what_is_kept_for_forks_alone")
def the_log_has_what_was_deleted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reads, "_LOG", reads._LOG.replace("and r.status <> 'deleted'", ""))


@python("test_21_checkpoints_are_old_when_every_exporter_has_them")
def checkpoints_are_old_though_an_exporter_lacks_them(patch: pytest.MonkeyPatch) -> None:
    asked = "coalesce(aob.passed_1($1), position)"
    patch.setattr(reads, "_CHECKPOINTS", reads._CHECKPOINTS.replace(asked, "position"))


@python("test_open_runs_are_those_of_the_partition_that_have_not_ended")
def ended_runs_are_gone_on_with(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reads, "_OPEN", reads._OPEN.replace("and ended is null ", ""))


# --- more partitions --------------------------------------------------------------------------------------------------


@python("test_it_is_never_lowered")
def less_partitions_are_no_error(patch: pytest.MonkeyPatch) -> None:
    original = Partitions.raise_to

    async def raise_to(self: Partitions, count: int) -> int:
        return await original(self, max(count, self.count))

    patch.setattr(Partitions, "raise_to", raise_to)


@python("test_what_is_held_stays_held_and_the_new_ones_can_be_taken")
def only_the_last_of_the_new_ones_is_made(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(partitions, "_RAISE", partitions._RAISE.replace("generate_series(0, ", "greatest(0, "))


@python("test_a_sender_that_was_silent_for_long_starts_runs_where_the_new_number_says")
def a_sender_goes_by_the_number_that_it_heard_first(patch: pytest.MonkeyPatch) -> None:
    async def settle(self: Partitions, starts: Any) -> None:
        return

    patch.setattr(Partitions, "settle", settle)


@python("test_the_number_is_raised_and_each_process_hears_of_it_with_its_announcement")
def a_worker_goes_by_the_number_that_it_heard_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Partitions, "learned", lambda self, count: setattr(self, "count", max(self.count, min(count, 256))))
