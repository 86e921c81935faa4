"""A worker in a process of its own: `python -m tests.chaos.worker URL EFFECTS LEASE_TTL`, until stdin ends.

It tells on stdout, a line of JSON each, what the engine tells, and what became of commits that went wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from aob import telemetry
from aob.client.client import Client
from aob.clock import SystemClock
from aob.errors import AobError, LeaseLost
from aob.kernel import events as ev
from aob.process import SystemProcess
from aob.settings import load
from aob.stores.postgres import PostgresStore, faults, open_store
from aob.stores.postgres.batches import Sealed
from aob.stores.postgres.commits import Commits
from aob.stores.postgres.connections import Connections
from aob.stores.protocol import Store
from aob.stores.rows import Append, Appended
from aob.testing.seeded import StoreAround
from tests.chaos.flows import WORKFLOWS, World


def tell(what: str, fields: Mapping[str, Any]) -> None:
    """A line for whoever started this process."""
    simple = {name: value if isinstance(value, int | float | str) else repr(value) for name, value in fields.items()}
    os.write(1, json.dumps({"what": what, **simple}).encode() + b"\n")


class TellingStore(StoreAround):
    """Tells when an append is refused, and how late timers are."""

    async def append(self, batch: Append) -> Appended:
        try:
            appended = await self.inner.append(batch)
        except LeaseLost as e:
            tell("fenced" if "no longer held" in e.message else "lease_ran_out", {"why": e.message})
            raise
        dues = [
            fired.due
            for _, _, kind, version, _, data in batch.events
            if kind == ev.TimerFired.KIND and isinstance(fired := ev.decode_event(kind, version, data), ev.TimerFired)
        ]
        if dues and appended.committed:
            tell("timers", {"late": (SystemClock().now_us() + self.skew_us() - min(dues)) / 1e6})
        return appended


def watch_the_store() -> None:
    """Tell of what the store mends by itself: commits of unknown outcome, connections, and others' locks."""
    is_there, connect = Commits._is_there, Connections.connect  # pyright: ignore[reportPrivateUsage]

    async def told_is_there(commits: Commits, sealed: Sealed) -> bool:
        there = await is_there(commits, sealed)
        tell("found_done" if there else "found_undone", {})
        return there

    async def told_connect(connections: Connections, *within: float) -> Any:
        connection = await connect(connections, *within)
        tell("connected", {})
        return connection

    may_go_better = faults.may_go_better

    def told_may_go_better(error: BaseException) -> bool:
        if there := may_go_better(error):
            tell(f"retried {faults.code_of(error)}", {})
        return there

    faults.may_go_better = told_may_go_better
    Commits._is_there = told_is_there  # pyright: ignore[reportPrivateUsage]
    Connections.connect = told_connect


async def opened(url: str) -> PostgresStore:
    return await open_store(url, clock=SystemClock(), process=SystemProcess())


async def main(url: str, effects: str, lease_ttl: float) -> int:
    World.effects = Path(effects)
    watch_the_store()
    telemetry.subscribe(tell)
    try:
        store = await opened(url)
    except AobError as e:  # as when the server is away
        tell("not_started", {"why": f"{e.code}: {e}"})
        return 1
    # so many deaths are the work of the test: no run is to blame
    settings = load(lease_ttl=lease_ttl, max_deaths=1_000)
    client = Client(url, settings=settings, store=cast("Store", TellingStore(store)))
    async with client:
        serving = client.serve(*WORKFLOWS)
        async with serving:
            tell("serving", {"pid": os.getpid()})
            told_to = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
            ended = asyncio.create_task(serving.ended())
            await asyncio.wait([told_to, ended], return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)
    await store.close()
    if serving.failed is not None:
        tell("failed", {"why": f"{serving.failed.code}: {serving.failed}"})
        os._exit(1)  # stdin is still being read
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
