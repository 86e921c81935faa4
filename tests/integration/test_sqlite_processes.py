"""Real processes on one file: killed, stopped, locked out, woken."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from aob.errors import LeaseLost, StoreLocked
from aob.process import FileLock
from aob.stores.rows import Append, Lease
from aob.stores.sqlite import SqliteStore, watch
from aob.stores.sqlite.commits import Commits
from aob.stores.sqlite.migrate import migrations
from aob.testing.conformance.stores.setting import TTL, a_message, a_run, committed, taken
from tests.integration.telling import Owner, histories, opened, told

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(repository: Path) -> Iterator[Start]:
    """Start a process of `store_child`; whatever still runs at the end is killed."""
    children: list[subprocess.Popen[str]] = []

    def started(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.integration.store_child", *map(str, arguments)]
        child = subprocess.Popen(
            command, cwd=repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        children.append(child)
        return child

    yield started
    for child in children:
        child.kill()
        child.communicate()


def heard(child: subprocess.Popen[str]) -> str:
    """The next line it says."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


def stop(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)


def heard_at_last(child: subprocess.Popen[str]) -> list[str]:
    """The lines that it said before it ended; `communicate` would pass over those that were read ahead."""
    assert child.stdout is not None
    lines = child.stdout.read().split()
    child.wait()
    return lines


def asked(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


@pytest.mark.crash
def test_a_kill_at_every_write_point_loses_nothing_acknowledged(start: Start, tmp_path: Path) -> None:
    child = start("points", tmp_path)
    report = json.loads(heard(child) or "null")
    assert report["wrong"] == []
    assert report["points"] > 60
    assert report["acked"] == 6
    assert report["kept"] > 0, "no kill fell between the commit and its acknowledgement"


@pytest.mark.crash
@pytest.mark.parametrize("seed", range(4))
async def test_an_owner_that_is_killed_again_and_again_loses_nothing_acknowledged(
    seed: int, start: Start, tmp_path: Path
) -> None:
    path, rng, acked = tmp_path / "aob.db", random.Random(seed), 0
    for _ in range(3):
        child = start("tell", path, 3600)
        for _ in range(rng.randrange(1, 60)):
            acked = int(heard(child))
        child.kill()
        rest = heard_at_last(child)
        acked = int(rest[-1]) if rest else acked
        assert await told(path) in (acked, acked + 1)


async def test_a_killed_owner_is_replaced_at_once_whatever_its_lease_says(start: Start, tmp_path: Path) -> None:
    child = start("tell", tmp_path / "aob.db", 3600)
    heard(child)
    store = await opened(tmp_path / "aob.db")
    assert await store.acquire(0, "me", 1.0) is None
    child.kill()
    child.communicate()
    lease = await store.acquire(0, "me", 1.0)
    assert lease is not None
    assert (lease.epoch > 1, lease.clean) == (True, False)
    await store.close()


async def test_a_stopped_owner_is_replaced_and_refused_when_it_wakes_up(start: Start, tmp_path: Path) -> None:
    child = start("tell", tmp_path / "aob.db", 0.05)
    acked = int(heard(child))
    store = await opened(tmp_path / "aob.db", busy_timeout=0.2)
    lease: Lease | None = None
    while lease is None:
        # one that is stopped inside a commit keeps the file locked: nobody can write then, so let it come further
        stop(child)
        try:
            lease = await store.acquire(0, "me", 3600.0)
        except StoreLocked:
            child.send_signal(signal.SIGCONT)
    assert lease.clean is False
    assert not FileLock(str(tmp_path / "aob.db-owner")).take(), "the stopped owner is dead"
    owner = await Owner.under(lease, store)
    for _ in range(5):
        await owner.tell()
    child.send_signal(signal.SIGCONT)
    *numbers, last = heard_at_last(child)
    acked = int(numbers[-1]) if numbers else acked
    assert last == "lost"
    assert await owner.tell() >= acked + 6
    epochs = {event.epoch for history in await histories(store) for event in history}
    assert len(epochs) == 2
    await store.renew([lease], 3600.0)
    assert not FileLock(str(tmp_path / "aob.db-owner")).take(), "the new owner did not take the lock file over"
    await store.close()


async def replaced_while_it_waits_for_the_lock(path: Path) -> None:
    """An owner's commit waits for the file; whoever holds it makes somebody else the owner."""
    store = await opened(path)
    owner = await Owner.of(store)
    await owner.tell()
    other = apsw.Connection(str(path))
    other.execute("begin immediate")
    telling = asyncio.create_task(owner.tell())
    for _ in range(100):
        await asyncio.sleep(0)
    assert not telling.done()
    other.execute("update partition set epoch = epoch + 1, owner = 'other'")
    other.execute("commit")
    other.close()
    try:
        await telling
    finally:
        await store.close()


async def test_an_owner_replaced_while_its_commit_waits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LeaseLost):
        await replaced_while_it_waits_for_the_lock(tmp_path / "aob.db")
    assert await told(tmp_path / "aob.db") == 1


async def test_an_epoch_compared_before_the_transaction_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Commits.append

    async def append(self: Commits, batch: Append) -> object:
        assert all(self._epochs.get(partition, epoch) == epoch for partition, epoch in batch.epochs.items())
        monkeypatch.setattr(Commits, "guard", lambda self, partition, epoch: self.catch_up())
        return await original(self, batch)

    monkeypatch.setattr(Commits, "append", append)
    await replaced_while_it_waits_for_the_lock(tmp_path / "aob.db")


async def test_a_file_that_stays_locked_is_reported_and_the_process_goes_on(start: Start, tmp_path: Path) -> None:
    store = await opened(tmp_path / "aob.db", busy_timeout=0.1)
    owner = await Owner.of(store)
    await owner.tell()
    child = start("lock", tmp_path / "aob.db")
    heard(child)
    turns = 0
    telling = asyncio.create_task(owner.tell())
    while not telling.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 10
    with pytest.raises(StoreLocked, match="another program has held the write lock"):
        await telling
    assert len(await histories(store)) == 3
    child.communicate()
    assert await owner.tell() == 2
    await store.close()


async def test_a_lock_that_is_let_go_in_time_is_waited_for(start: Start, tmp_path: Path) -> None:
    store = await opened(tmp_path / "aob.db", busy_timeout=60.0)
    owner = await Owner.of(store)
    child = start("lock", tmp_path / "aob.db")
    heard(child)
    telling = asyncio.create_task(owner.tell())
    for _ in range(100):
        await asyncio.sleep(0)
    assert not telling.done()
    child.communicate()
    assert await telling == 1
    await store.close()


async def test_a_message_from_another_process_wakes_the_owner_without_polling(start: Start, tmp_path: Path) -> None:
    store = await opened(tmp_path / "aob.db", poll=3600.0)
    lease = await taken(store)
    child = start("send", tmp_path / "aob.db", 20)
    heard(child)
    bodies: list[bytes] = []
    for _ in range(20):
        asked(child)
        appended = await store.append(Append(epochs={0: lease.epoch}))
        while not appended.inbox:
            await store.wait_changed(3600.0)
            appended = await store.append(Append(epochs={0: lease.epoch}))
        bodies += [message.body for message in appended.inbox]
        heard(child)
    assert bodies == [b"%d" % n for n in range(20)]
    await store.close()


async def test_without_bells_a_change_is_still_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "bell_directory", lambda path: tmp_path / "aob.db" / "not a directory")
    waiting, sending = await opened(tmp_path / "aob.db"), await opened(tmp_path / "aob.db")
    hearing = asyncio.create_task(waiting.wait_changed(3600.0))
    await asyncio.sleep(0)
    await sending.send(a_message())
    await hearing
    await waiting.close()
    await sending.close()


async def test_the_bells_of_dead_processes_are_taken_down(start: Start, tmp_path: Path) -> None:
    store, other = await opened(tmp_path / "aob.db"), await opened(tmp_path / "aob.db")
    bells = watch.bell_directory(store.path)
    await store.wait_changed(0.0)
    (mine,) = os.listdir(bells)
    await other.wait_changed(0.0)
    (dead,) = set(os.listdir(bells)) - {mine}
    os.link(bells / dead, bells.with_name("kept"))
    await other.close()
    os.rename(bells.with_name("kept"), bells / dead)
    assert sorted(os.listdir(bells)) == sorted([mine, dead])
    await store.send(a_message())
    assert os.listdir(bells) == [mine]
    await store.close()
    assert os.listdir(bells) == []


async def test_the_bells_of_a_file_with_a_long_path_hang_elsewhere(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100)
    os.mkdir(directory)
    waiting, sending = [await opened(directory / "aob.db", poll=3600.0) for _ in range(2)]
    hearing = asyncio.create_task(waiting.wait_changed(3600.0))
    await asyncio.sleep(0)
    await sending.send(a_message())
    await hearing
    assert sorted(os.listdir(directory)) == ["aob.db", "aob.db-shm", "aob.db-wal"]
    bells = watch.bell_directory(waiting.path)
    assert len(os.listdir(bells)) == 1
    await waiting.close()
    await sending.close()
    assert not bells.exists()


async def test_many_processes_make_one_file_at_the_same_time(start: Start, tmp_path: Path) -> None:
    children = [start("look", tmp_path / "aob.db") for _ in range(4)]
    assert [heard(child) for child in children] == ["[]"] * 4
    store = await opened(tmp_path / "aob.db")
    await committed(store, Append(epochs={0: (await taken(store)).epoch}, starts=[a_run("x")]))
    await store.close()
    assert heard(start("look", tmp_path / "aob.db")) == '["x"]'


async def test_a_migration_that_is_killed_half_way_leaves_the_old_schema(start: Start, tmp_path: Path) -> None:
    store: SqliteStore = await opened(tmp_path / "aob.db")
    await Owner.of(store)
    await store.close()
    child = start("migrate", tmp_path / "aob.db")
    assert child.wait() == -signal.SIGKILL
    store = await opened(tmp_path / "aob.db", check="always")
    assert await store.acquire(0, "me", TTL) is not None
    assert len(await histories(store)) == 3
    await store.close()
    connection = apsw.Connection(str(tmp_path / "aob.db"))
    assert connection.pragma("user_version") == max(migrations())
    assert connection.execute("select count(*) from sqlite_schema where name = 'half'").fetchall() == [(0,)]
    connection.close()
