"""Another program holds the file's write lock for longer than a statement waits: work stops, and goes on by itself."""

import asyncio
from pathlib import Path

import apsw
import pytest

import aob
from aob import telemetry
from aob.client.client import Client
from aob.clock import SystemClock
from aob.process import SystemProcess
from aob.settings import load
from aob.stores.sqlite.options import SqliteOptions
from aob.stores.sqlite.store import open_store
from aob.testing.conformance.engine_harness import eventually, outcome


@aob.activity
async def one() -> int:
    return 1


@aob.workflow
async def counts(n: int) -> int:
    return sum([await one() for _ in range(n)])


@pytest.mark.parametrize("ttl", [60.0, 1.5], ids=["between renewals", "over renewals"])
async def test_a_worker_outlives_a_lock_that_another_program_holds(tmp_path: Path, ttl: float) -> None:
    told: list[str] = []
    end = telemetry.subscribe(lambda name, fields: told.append(name))
    url = f"sqlite:///{tmp_path / 'aob.db'}"
    options = SqliteOptions(busy_timeout=0.05)
    store = await open_store(url, clock=SystemClock(), process=SystemProcess(), options=options)
    async with Client(url, store=store, settings=load(lease_ttl=ttl)) as client, client.serve(counts):
        other = apsw.Connection(str(tmp_path / "aob.db"))
        other.execute("begin immediate")
        started = asyncio.ensure_future(client.start(counts, 5, run_id="r"))
        await eventually(lambda: "store_locked" in told, "the lock to be noticed")
        await asyncio.sleep(0.7)
        assert not started.done(), "acknowledged while the file was locked"
        other.execute("rollback")
        other.close()
        assert await outcome(await started) == 5
        assert "store_failed" not in told
    await store.close()
    end()
