"""A fleet of worker processes on a real Postgres, hurt in one way at a time: what was accepted is done once, in order,
with one key for each effect, and nothing is stuck."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import faults
from tests.chaos.campaign import SETTINGS
from tests.chaos.disks import ClusterOnDisks
from tests.chaos.scenes import Outcome, Size, struck_by
from tests.chaos.wire import Moment
from tests.postgres_cluster import Cluster, in_memory

pytestmark = pytest.mark.needs("postgres")


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server that may be hurt."""
    cluster = Cluster(parent=in_memory(), options=SETTINGS)
    cluster.start()
    yield cluster
    cluster.remove()


@pytest.fixture
def on_disks() -> Iterator[ClusterOnDisks]:
    """A server whose disks can be full."""
    cluster = ClusterOnDisks()
    cluster.start()
    yield cluster
    cluster.remove()


@pytest.fixture
def url(server: Cluster) -> str:
    return f"{server.url()}?schema={server.fresh_name()}"


def assert_sound(outcome: Outcome, *sometimes: str) -> None:
    """All holds, and what was to happen has happened: else the test saw nothing."""
    assert outcome.problems == [], outcome
    assert outcome.unexplained() == [], outcome
    assert outcome.finished > 0, outcome
    assert [what for what in sometimes if not outcome.counts[what]] == [], outcome


async def nothing(scene: faults.Scene) -> None:
    """No fault."""


async def test_in_peace_nothing_is_lost_repeated_or_complained_of(server: Cluster, url: str, tmp_path: Path) -> None:
    outcome = await struck_by(server, url, tmp_path, nothing, nothing, size=Size(lease_ttl=30.0))
    assert_sound(outcome)
    assert (outcome.failures, outcome.again) == ({}, {})
    assert not outcome.counts["lease_lost"]


async def test_the_server_is_restarted(server: Cluster, url: str, tmp_path: Path) -> None:
    hows = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
    outcome = await struck_by(server, url, tmp_path, *map(faults.restart, hows))
    assert_sound(outcome)


async def test_workers_are_killed(server: Cluster, url: str, tmp_path: Path) -> None:
    outcome = await struck_by(server, url, tmp_path, faults.kill, faults.kill)
    assert_sound(outcome, "recovered")


async def test_workers_sleep_past_their_lease_and_are_fenced(server: Cluster, url: str, tmp_path: Path) -> None:
    outcome = await struck_by(server, url, tmp_path, faults.sleep_past_the_lease, until=["fenced"])
    assert_sound(outcome, "fenced")


async def test_connections_are_cut_around_commits(server: Cluster, url: str, tmp_path: Path) -> None:
    cuts = [faults.cut(moment) for moment in Moment]
    outcome = await struck_by(server, url, tmp_path, *cuts, until=["found_done", "found_undone"], at_most=60)
    assert_sound(outcome, "found_done", "found_undone")


@pytest.mark.parametrize("state", faults.BACK_ENDS)
async def test_back_ends_are_killed(server: Cluster, url: str, tmp_path: Path, state: str) -> None:
    kinds = ("&prepared=off",) if state == "in a transaction" else ("",)
    outcome = await struck_by(
        server, url, tmp_path, faults.kill_back_end(state), until=[f"killed {state}"], size=Size(kinds=kinds)
    )
    assert_sound(outcome, f"killed {state}")


async def test_a_worker_hears_nothing_until_its_lease_is_over(server: Cluster, url: str, tmp_path: Path) -> None:
    outcome = await struck_by(server, url, tmp_path, faults.silence, until=["lease_lost"])
    assert_sound(outcome, "lease_lost")


async def test_others_hold_locks(server: Cluster, url: str, tmp_path: Path) -> None:
    outcome = await struck_by(server, url, tmp_path, faults.locks(), faults.locks(), until=["retried 55P03"])
    assert_sound(outcome, "retried 55P03")


async def test_transactions_that_cannot_be_put_in_order_are_made_again(
    server: Cluster, url: str, tmp_path: Path
) -> None:
    size = Size(kinds=("&default_transaction_isolation=serializable",))
    outcome = await struck_by(server, url, tmp_path, faults.kill, until=["retried 40001"], size=size)
    assert_sound(outcome, "retried 40001")


async def test_one_connection_for_each_process(server: Cluster, url: str, tmp_path: Path) -> None:
    outcome = await struck_by(
        server, f"{url}&pool=1", tmp_path, faults.cut_all, faults.restart(signal.SIGINT), faults.kill,
        size=Size(side_by_side=4),
    )  # fmt: skip
    assert_sound(outcome)


@pytest.mark.needs("disks")
async def test_the_disk_of_the_tables_is_full(on_disks: ClusterOnDisks, tmp_path: Path) -> None:
    url = on_disks.url()
    outcome = await struck_by(on_disks, url, tmp_path, faults.fill_tables, faults.fill_tables, until=["store_full"])
    assert_sound(outcome, "store_full")


@pytest.mark.needs("disks")
async def test_the_disk_of_the_log_is_full(on_disks: ClusterOnDisks, tmp_path: Path) -> None:
    outcome = await struck_by(on_disks, on_disks.url(), tmp_path, faults.fill_wal, until=["full: log"])
    assert_sound(outcome, "full: log")
