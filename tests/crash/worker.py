"""A worker in a process of its own: `python -m tests.crash.worker URL EFFECTS LEASE_TTL`, until stdin ends.

It tells on stdout, a word and a number a line, what it takes, what it loses, and what the store refuses it.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from aob import telemetry
from aob.client.client import Client
from aob.clock import SystemClock
from aob.errors import LeaseLost
from aob.process import SystemProcess
from aob.settings import load
from aob.stores.protocol import Store
from aob.stores.rows import Append, Appended
from aob.stores.sqlite import open_store
from aob.testing.seeded import StoreAround
from tests.crash.scenario import WORKFLOWS, Here, Ledger


def tell(word: str, fields: Mapping[str, Any]) -> None:
    """A line for whoever started this process."""
    print(word, fields.get("epoch", 0), flush=True)


class TellingStore(StoreAround):
    """Tells when an append is refused."""

    async def append(self, batch: Append) -> Appended:
        try:
            return await self.inner.append(batch)
        except LeaseLost:
            tell("append_refused", {"epoch": max(batch.epochs.values())})
            raise


async def main(url: str, effects: str, lease_ttl: float) -> None:
    Here.effects = Ledger(Path(effects))
    Here.hit = staticmethod(lambda name: tell("did", {}) if name.startswith("after") else None)
    telemetry.subscribe(tell)
    clock, process = SystemClock(), SystemProcess()
    store = await open_store(url, clock=clock, process=process)
    around = cast("Store", TellingStore(store))
    client = Client(url, settings=load(lease_ttl=lease_ttl), clock=clock, process=process, store=around)
    async with client, client.serve(*WORKFLOWS):
        tell("serving", {})
        await asyncio.to_thread(sys.stdin.read)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
