"""Waiting for runs, and serving their workflow in this process when nobody else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aob.cli.loading import AnyWorkflow
from aob.cli.output import note, warn
from aob.client.client import Client
from aob.client.run import Run
from aob.stores.facts import Inspectable
from aob.worker.worker import Worker

T = TypeVar("T")
_HINT_AFTER = 5.0


@asynccontextmanager
async def served(client: Client, workflow: AnyWorkflow | str) -> AsyncGenerator[Worker | None]:
    """While the block lasts this process serves the workflow, or stands by where another one serves the store.

    A workflow that is known by name alone cannot be served here.
    """
    if isinstance(workflow, str):
        if not await somebody_serves(client):
            warn("no worker serves this store: this waits for one (aob worker MODULE)")
        yield None
        return
    async with client.serve(workflow) as worker:
        if worker.host is not None:
            note(f"no worker was running: this process serves {workflow.name} until the end")
        yield worker


async def unless_it_fails(worker: Worker | None, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, or the error that ended this process's worker before."""
    task = asyncio.ensure_future(work)
    if worker is None:
        return await task
    ended = asyncio.ensure_future(worker.ended())
    try:
        await asyncio.wait([task, ended], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await ended
        return await task
    finally:
        task.cancel()
        ended.cancel()
        await asyncio.gather(task, ended, return_exceptions=True)


async def somebody_serves(client: Client) -> bool:
    """Whether a process owns the store just now."""
    if isinstance(client.store, Inspectable):
        return (await client.store.facts()).owner_lives
    lease = await client.store.acquire(0, client.process.name, client.settings.lease_ttl)
    if lease is None:
        return True
    await client.store.release([lease], clean=lease.clean)
    return False


async def hint_when_stuck(client: Client, run: Run[Any], workflow: str) -> None:
    """Say what may be wrong when nothing happens to a run that has just been started."""
    await asyncio.sleep(_HINT_AFTER)
    if client.host() is not None or (await run.summary()).due is not None:
        return
    # a step that takes long would have recorded its start by now
    if len(await run.history()) < 2 and await somebody_serves(client):
        warn(f"still waiting: does the running worker serve {workflow!r}?")
