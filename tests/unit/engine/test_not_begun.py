"""A run is asked for something while its start waits in the inbox, with what others sent to it behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import pytest

import aob
from aob.client.client import Client
from aob.clock import SystemClock
from aob.settings import load
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.protocol import Store
from aob.stores.rows import Append, Appended, RunRow
from aob.testing.conformance.engine_harness import eventually
from tests.chaos.flows import part


@aob.workflow
async def ledger() -> int:
    booked = 0

    @aob.update
    async def book(amount: int) -> int:
        nonlocal booked
        booked += amount
        return booked

    await aob.wait_signal("close")
    return booked


class DeafStore(MemoryStore):
    """Behind a network; and nothing is heard of messages, which only the next commit brings."""

    async def get_run(self, tenant: str, run_id: str) -> RunRow | None:
        row = await super().get_run(tenant, run_id)
        await asyncio.sleep(0.05)
        return row

    async def append(self, batch: Append) -> Appended:
        await asyncio.sleep(0.01)
        return await super().append(batch)

    async def wait_messages(self, timeout: float) -> None:
        await asyncio.sleep(3_600)


@asynccontextmanager
async def asked_twice(*served: aob.Workflow[..., object]) -> AsyncGenerator[tuple[aob.Run[int], asyncio.Task[int]]]:
    """A run that was started and asked for an update by a client, and is in the hands of a worker's."""
    state = MemoryState(1)
    store = cast("Store", DeafStore(SystemClock(), state))
    other = cast("Store", MemoryStore(SystemClock(), state))
    async with (
        Client("sqlite://", settings=load(), store=store) as worker,
        worker.serve(*served) as serving,
        Client("sqlite://", settings=load(), store=other) as client,
    ):
        assert serving.host is not None
        await serving.host.commits.ack()  # the look at the inbox with which it begins is over
        run = await client.start(ledger, run_id="r")
        asking = asyncio.ensure_future(run.update("book", 1))

        async def both() -> bool:
            return len(await other.waiting()) == 2

        await eventually(both, "both messages to wait")
        yield await worker.get("r"), asking


async def test_nobody_waits_for_ever_when_the_code_is_not_served() -> None:
    async with asked_twice(part) as (run, asking), asyncio.timeout(20):
        with pytest.raises(aob.NoWorker, match="no worker serves ledger"):
            await run.update("book", 2)
        with pytest.raises(aob.NoWorker, match="no worker serves ledger"):
            await asking


async def test_the_run_begins_and_both_are_answered() -> None:
    async with asked_twice(ledger) as (run, asking), asyncio.timeout(20):
        assert await run.update("book", 2) in (2, 3)
        assert await asking in (1, 3)


@pytest.mark.parametrize("begun", [False, True])
async def test_who_asks_while_its_partition_is_nobodys_is_answered_by_the_next_worker(begun: bool) -> None:
    state = MemoryState(4)

    def store() -> Store:
        return cast("Store", MemoryStore(SystemClock(), state))

    async with (
        Client("sqlite://", settings=load(), store=store()) as client,
        Client("sqlite://", settings=load(), store=store()) as worker,
        asyncio.timeout(20),
    ):
        if begun:
            async with worker.serve(ledger):
                run = await client.start(ledger, run_id="r")
                assert await run.update("book", 1) == 1
        else:
            run = await client.start(ledger, run_id="r")
        asking = asyncio.ensure_future(run.update("book", 2))
        await asyncio.sleep(0.1)
        async with worker.serve(ledger):
            assert await asking == 2 + begun
            await run.signal("close")
            assert await run.result() == 2 + begun
