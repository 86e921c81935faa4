"""I22: when the store cannot promise durability, the engine acknowledges nothing, says so, and a restart goes on."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import apsw
import pytest

import aob
from aob import telemetry
from aob.client.client import Client
from aob.clock import SystemClock
from aob.errors import OperatorError, StoreFailed
from aob.process import SystemProcess
from aob.settings import load
from aob.stores.sqlite import SqliteOptions, open_store
from aob.testing.oracle import look, problems
from aob.worker.worker import Worker
from tests.crash.scenario import EXPECTED, WORKFLOWS, Here, Ledger, mailbox, steps
from tests.integration.faulty_disk import FaultyDisk, io_error


class Told:
    """What the engine tells of itself."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, name: str, fields: Mapping[str, Any]) -> None:
        self.names.append(name)


class Shop:
    """A client that serves on a disk that can be made to fail."""

    def __init__(self, directory: Path) -> None:
        self.disk = FaultyDisk()
        self.directory = directory
        Here.effects = Ledger(directory / "effects.jsonl")

    async def open(self) -> Client:
        clock, process = SystemClock(), SystemProcess()
        url = f"sqlite:///{self.directory}/aob.db"
        options = SqliteOptions(vfs=self.disk.name)
        self.store = await open_store(url, clock=clock, process=process, options=options)
        return Client(url, settings=load(), clock=clock, process=process, store=self.store)

    def syncs_fail(self) -> None:
        def fail(path: str) -> None:
            raise io_error(apsw.SQLITE_IOERR_FSYNC, "the disk is gone")

        self.disk.on_sync = fail

    def is_full(self) -> None:
        def fail(path: str, data: bytes) -> None:
            if path.endswith("-wal"):
                raise apsw.FullError("disk full")

        self.disk.on_write = fail

    def heals(self) -> None:
        self.disk.on_sync = lambda path: None
        self.disk.on_write = lambda path, data: None


@pytest.fixture
def told() -> Any:
    """Events of the engine while the test runs."""
    found = Told()
    end = telemetry.subscribe(found)
    yield found
    end()


async def refused(call: Awaitable[Any]) -> None:
    with pytest.raises(OperatorError):
        async with asyncio.timeout(5):
            await call


Calls = list[tuple[str, Callable[[Client, aob.Run[Any], Worker], Awaitable[Any]]]]
CALLS: Calls = [
    ("start", lambda client, run, worker: client.start(steps, "late", run_id="late")),
    ("start_many", lambda client, run, worker: client.start_many(steps, ["a", "b"], run_ids=["a", "b"])),
    ("signal", lambda client, run, worker: run.signal("post", "late", id="late")),
    ("cancel", lambda client, run, worker: run.cancel("late")),
    ("terminate", lambda client, run, worker: run.terminate("late")),
    ("pause", lambda client, run, worker: run.pause()),
]


@pytest.mark.crash
@pytest.mark.parametrize("first", CALLS, ids=lambda call: call[0])
async def test_after_a_failed_sync_nothing_is_acknowledged(first: Any, told: Told, tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    client = await shop.open()
    async with client:
        worker = client.serve(*WORKFLOWS)
        async with worker:
            run = await client.start(mailbox, 2, run_id="mail")
            await run.signal("post", "kept", id="kept")
            shop.syncs_fail()
            await refused(first[1](client, run, worker))
            with pytest.raises(StoreFailed, match="could not be made durable"):
                await worker.ended()
            assert told.names.count("store_failed") == 1
            shop.heals()
            for _, call in CALLS:
                await refused(call(client, run, worker))
    await shop.store.close()
    await restarted(shop, first[0])


async def restarted(shop: Shop, unknown: str) -> None:
    """A new process finds everything that was acknowledged, and of what was not: all of the call, or nothing."""
    client = await shop.open()
    async with client, client.serve(*WORKFLOWS):
        seen = await look(client.store)
        assert problems(seen) == []
        assert [e.kind for e in seen.events["default", "mail"]][:2] == ["run_started", "signal_received"]
        others = {run_id for _, run_id in seen.runs} - {"mail"}
        assert others in (set(), {"start": {"late"}, "start_many": {"a", "b"}}.get(unknown, set()))
        run = await client.start(steps, "one", run_id="one")
        assert await run.result(timeout=10) == EXPECTED["steps-1"]
    await shop.store.close()


@pytest.mark.crash
async def test_who_waits_for_a_result_is_told_that_the_store_failed(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    client = await shop.open()
    async with client, client.serve(*WORKFLOWS):
        run = await client.start(mailbox, 2, run_id="mail")
        waiting = asyncio.ensure_future(run.result())
        following = asyncio.ensure_future(anext(run.events(after=1)))
        await asyncio.sleep(0.05)
        shop.syncs_fail()
        await refused(run.signal("post", "late"))
        await refused(waiting)
        await refused(following)
    await shop.store.close()


@pytest.mark.crash
async def test_on_a_full_disk_calls_wait_and_go_on_when_there_is_space(told: Told, tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    client = await shop.open()
    async with client, client.serve(*WORKFLOWS):
        run = await client.start(mailbox, 1, run_id="mail")
        shop.is_full()
        calls = [
            asyncio.ensure_future(client.start(steps, "one", run_id="one")),
            asyncio.ensure_future(run.signal("post", "hello")),
        ]
        done, _ = await asyncio.wait(calls, timeout=0.3)
        assert done == set(), "acknowledged on a full disk"
        assert "store_full" in told.names
        assert [e.kind for e in await run.history()] == ["run_started"]
        shop.heals()
        started, _ = await asyncio.wait_for(asyncio.gather(*calls), 30)
        assert await started.result(timeout=10) == EXPECTED["steps-1"]
        assert await run.result(timeout=10) == ["hello"]
        assert "store_failed" not in told.names
        assert problems(await look(client.store)) == []
    await shop.store.close()


@pytest.mark.crash
async def test_a_damaged_page_is_said_and_never_served(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    client = await shop.open()
    async with client, client.serve(*WORKFLOWS):
        run = await client.start(steps, "one", run_id="one")
        await run.result(timeout=10)
    await shop.store.close()
    file = tmp_path / "aob.db"
    content = file.read_bytes()
    at = content.index(b"did one-0")
    file.write_bytes(content[:at] + b"did ONE-0" + content[at + 9 :])
    client = await shop.open()
    async with client:
        with pytest.raises(OperatorError, match="is damaged"):
            await (await client.get("one")).history()
    await shop.store.close()
