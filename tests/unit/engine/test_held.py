"""I21: a run that has ended is not deleted while a call works on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import aob
from aob.client.client import Client
from aob.clock import SystemClock
from aob.engine import history
from aob.engine.host import Host
from aob.engine.retention import retained_since, sweep
from aob.engine.trimming import Trimming
from aob.settings import load
from aob.stores.memory import MemoryStore
from aob.stores.rows import EventRow
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_b_gaps import larges
from aob.testing.conformance.engine_b_setting import failure, has
from aob.testing.conformance.engine_harness import Trace, outcome, refused
from aob.testing.seeded import StoreAround


class Sweeping(StoreAround):
    """A store that is swept behind the next page of a history that is read."""

    host: Host
    armed = False
    deleted: int | None = None
    trimming = False

    async def events(self, *where: Any) -> list[EventRow]:
        page = await self.inner.events(*where)
        if self.armed:
            self.armed = False
            how = Trimming(self.host).trim(retained_since(self.host)) if self.trimming else sweep(self.host)
            self.deleted = await how
        return page


@asynccontextmanager
async def swept() -> AsyncGenerator[tuple[Client, Sweeping]]:
    store: Any = Sweeping(MemoryStore(SystemClock()))
    settings = load(retention_days=1e-12, sweep_every=3_600.0, blob_over=50)
    async with (
        Client("sqlite://", settings=settings, store=store) as client,
        client.serve(flows.twice, flows.breaks_once, flows.waits, larges),
    ):
        host = client.host()
        assert host is not None
        store.host = host
        yield client, store
    await store.close()


async def test_not_while_it_is_forked() -> None:
    async with swept() as (client, store):
        run = await client.start(flows.twice, 1, run_id="r")
        await outcome(run)
        store.armed = True
        fork = await run.fork(at="plus#2", run_id="f")
        assert await outcome(fork) == 3
        assert store.deleted == 0
        assert [e.seq for e in await fork.history()] == [1, 2, 3, 4, 5]
        assert await sweep(store.host) == 2


async def test_not_while_it_is_retried(tmp_path: Any) -> None:
    async with swept() as (client, store):
        trace = Trace(tmp_path / "trace")
        trace.write("began")
        run = await client.start(flows.breaks_once, trace.path, run_id="r")
        await failure(run)
        store.armed = True
        await run.retry()
        assert await outcome(run) == "mended"
        assert store.deleted == 0


async def test_a_call_that_comes_too_late_is_told_so() -> None:
    async with swept() as (client, store):
        run = await client.start(flows.twice, 1, run_id="r")
        await outcome(run)
        held = await store.host.residents.get(run.tenant, "r")
        async with store.host.residents.held(held):
            assert "opened or forked" in await refused(client.delete("r"), aob.NotFinished)
        await client.delete("r")
        with pytest.raises(aob.RunNotFound, match="was deleted"):
            async with store.host.residents.held(held):
                pass
        assert await refused(run.fork(), aob.RunNotFound)


async def test_a_reader_is_told_that_what_is_missing_was_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_PAGE", 2)
    async with swept() as (client, store):
        run = await client.start(flows.twice, 1, run_id="r")
        await outcome(run)
        store.armed = True
        assert "deleted while it was read" in await refused(run.history(), aob.RunNotFound)
        assert store.deleted == 1


async def test_a_payload_that_went_with_its_run_is_no_damage() -> None:
    async with swept() as (client, store):
        run = await client.start(flows.waits, run_id="r")
        await run.signal("go", "x" * 100)
        await run.signal("go", "end")
        await outcome(run)
        store.armed = True
        assert "deleted while it was read" in await refused(run.history(), aob.RunNotFound)
        assert store.deleted == 1


async def test_a_payload_that_went_with_old_history_is_a_gap() -> None:
    async with swept() as (client, store):
        run = await client.start(larges, run_id="r")
        for n in range(3):
            await run.signal("go", n)
            await has(run, "checkpoint", n + 1)
        store.armed = store.trimming = True
        kinds = [e.kind for e in await run.history()]
        assert store.deleted
        assert (kinds[0], kinds[-1], kinds.count("gap")) == ("run_started", "checkpoint", 1)
