"""I22: when the disk cannot keep a promise none is made: full, failing, slow, read-only."""

import asyncio
import itertools
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from aob.errors import StoreFailed, StoreFull, StoreUnavailable
from aob.process import pause
from aob.stores.rows import Append, RunFilter
from aob.testing.conformance.stores.setting import a_message, a_run
from tests.integration.faulty_disk import FaultyDisk, io_error
from tests.integration.telling import Owner, histories, opened, told


def fails(error: Exception, after: int = 0, only: str = "-wal") -> Callable[..., None]:
    """A hook that raises from its n-th call on."""
    calls = itertools.count()

    def hook(path: str, data: bytes = b"") -> None:
        if path.endswith(only) and next(calls) >= after:
            raise error

    return hook


@pytest.mark.parametrize("after", range(6))
async def test_a_full_disk_refuses_the_commit_whole_and_work_goes_on_when_there_is_space(
    after: int, tmp_path: Path
) -> None:
    disk = FaultyDisk()
    store = await opened(tmp_path / "aob.db", vfs=disk.name)
    owner = await Owner.of(store)
    await owner.tell()
    healthy, disk.on_write = disk.on_write, fails(apsw.FullError("disk full"), after)
    start = a_run("new", tenant="u")
    batch = Append(epochs={0: owner.lease.epoch}, starts=[start], blobs=[(start, "sha256:1", b"x" * 60_000)])
    with pytest.raises(StoreFull, match="free some space"):
        await store.append(batch)
    assert start.key == 0
    with pytest.raises(StoreFull):
        await store.send_many([(a_message("new", body=b"x" * 100_000), a_run("new", tenant="u"))])
    assert await store.get_run("u", "new") is None
    disk.on_write = healthy
    assert (await store.append(batch)).committed
    assert await store.blob("sha256:1") == b"x" * 60_000
    assert await owner.tell() == 2
    await store.close()
    assert await told(tmp_path / "aob.db") == 2


async def test_a_failed_sync_ends_all_writing_and_is_never_repeated(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await opened(tmp_path / "aob.db", vfs=disk.name)
    owner = await Owner.of(store)
    await owner.tell()
    syncs: list[str] = []

    def failing(path: str) -> None:
        syncs.append(path)
        raise io_error(apsw.SQLITE_IOERR_FSYNC, "the disk is gone")

    disk.on_sync = failing
    with pytest.raises(StoreFailed, match="restart the process"):
        await owner.tell()
    assert len(syncs) == 1
    disk.on_sync = syncs.append
    for call in (owner.tell(), store.send(a_message()), store.renew([owner.lease], 9), store.release([owner.lease])):
        with pytest.raises(StoreFailed):
            await call
    assert [len(history) for history in await histories(store)] == [1, 1, 1]
    written: list[str] = []
    disk.on_write = lambda path, data: written.append(path)
    await store.close()
    assert (len(syncs), written) == (1, [])
    # a new process finds what the disk has: the commit without a promise may be there or not, but never in part
    assert await told(tmp_path / "aob.db") in (1, 2)


@pytest.mark.parametrize("code", [apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_SHMSIZE])
async def test_any_other_write_error_ends_all_writing(code: int, tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await opened(tmp_path / "aob.db", vfs=disk.name)
    owner = await Owner.of(store)
    disk.on_write = fails(io_error(code, "broken"))
    with pytest.raises(StoreFailed):
        await owner.tell()
    disk.on_write = lambda path, data: None
    with pytest.raises(StoreFailed):
        await owner.tell()
    await store.close()
    assert await told(tmp_path / "aob.db") in (0, 1)


async def test_a_sync_that_fails_while_the_log_is_folded_in_is_noticed(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await opened(tmp_path / "aob.db", vfs=disk.name, checkpoint_pages=1)
    owner = await Owner.of(store)
    disk.on_sync = fails(io_error(apsw.SQLITE_IOERR_FSYNC, "gone"), only="aob.db")
    assert await owner.tell() == 1
    with pytest.raises(StoreFailed):
        await owner.tell()
    await store.close()
    assert await told(tmp_path / "aob.db") == 1


async def test_a_disk_that_is_full_while_the_log_is_folded_in_stops_nothing(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await opened(tmp_path / "aob.db", vfs=disk.name, checkpoint_pages=1)
    owner = await Owner.of(store)
    disk.on_write = fails(apsw.FullError("full"), only="aob.db")
    for n in range(3):
        assert await owner.tell() == n + 1
    disk.on_write = lambda path, data: None
    assert await owner.tell() == 4
    await store.close()
    assert await told(tmp_path / "aob.db") == 4


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    store = await opened(tmp_path / "aob.db")
    owner = await Owner.of(store)
    with files_up_to(2_000_000), pytest.raises(StoreFull):
        for _ in range(1000):
            await owner.tell(size=4000)
    number = await owner.tell()
    await store.close()
    assert await told(tmp_path / "aob.db") == number


async def test_the_event_loop_goes_on_while_a_slow_disk_syncs(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await opened(tmp_path / "aob.db", vfs=disk.name)
    owner = await Owner.of(store)
    seen: list[int] = []
    disk.on_sync = lambda path: pause(0.02)
    turns = 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    working = asyncio.create_task(other_work())
    for _ in range(10):
        before = turns
        await owner.tell()
        seen.append(turns - before)
        # what is not committed is not seen
        assert [len(history) for history in await histories(store)] == [owner.stories[0].seq] * 3
    assert min(seen[-3:]) > 20, "the loop stood still while the disk synced"
    disk.on_sync = lambda path: None
    working.cancel()
    await store.close()


async def test_readers_see_nothing_of_a_commit_under_way(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await opened(tmp_path / "aob.db", vfs=disk.name, slow_commit=-1.0)
    other = await opened(tmp_path / "aob.db")
    owner = await Owner.of(store)
    await owner.tell()
    loop, syncing, go_on = asyncio.get_running_loop(), asyncio.Event(), []

    def stop_here(path: str) -> None:
        loop.call_soon_threadsafe(syncing.set)
        while not go_on:
            pause(0.001)

    disk.on_sync = stop_here
    telling = asyncio.create_task(owner.tell())
    await syncing.wait()
    for reader in (store, other):
        assert [len(history) for history in await histories(reader)] == [1, 1, 1]
    sending = asyncio.create_task(store.send(a_message()))
    await asyncio.sleep(0)
    assert not telling.done()
    go_on.append(True)
    assert await telling == 2
    await sending
    for reader in (store, other):
        assert [len(history) for history in await histories(reader)] == [2, 2, 2]
        await reader.close()


async def test_a_cancelled_commit_is_finished_before_the_next_begins(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await opened(tmp_path / "aob.db", vfs=disk.name, slow_commit=-1.0)
    owner = await Owner.of(store)
    await owner.tell()
    loop, syncing, go_on = asyncio.get_running_loop(), asyncio.Event(), []

    def stop_here(path: str) -> None:
        loop.call_soon_threadsafe(syncing.set)
        while not go_on:
            pause(0.001)

    disk.on_sync = stop_here
    run = a_run("late")
    telling = asyncio.create_task(store.append(Append(epochs={0: owner.lease.epoch}, starts=[run])))
    await syncing.wait()
    telling.cancel()
    sending = asyncio.create_task(store.send(a_message()))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not telling.done()
    assert not sending.done()
    go_on.append(True)
    with pytest.raises(asyncio.CancelledError):
        await telling
    await sending
    assert [run.run_id for run in await store.list_runs(RunFilter(limit=1))] == ["late"]
    await store.close()


async def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"nowhere/aob\.db does not exist; make it"):
        await opened(tmp_path / "nowhere" / "aob.db")


async def test_a_directory_is_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        await opened(tmp_path)


@contextmanager
def without_privileges() -> Iterator[None]:
    """As a user who may not write everywhere, also when the tests run as root."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        os.setegid(65534)
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        os.setegid(group)


def close_off(directory: Path) -> None:
    """Let everybody read and nobody write."""
    for path in (*directory.iterdir(), directory):
        path.chmod(0o555)


async def test_a_directory_without_write_access_says_what_to_do() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        store = await opened(directory / "aob.db")
        await store.close()
        close_off(directory)
        with without_privileges(), pytest.raises(StoreUnavailable, match="give this user write access"):
            await opened(directory / "aob.db")
        with without_privileges(), pytest.raises(StoreUnavailable, match="may write there"):
            await opened(directory / "new.db")
        os.chmod(directory, 0o755)
