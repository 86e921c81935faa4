"""The process seam with a seed, and stores that one process has to itself: what makes two runs of a test the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import Any, cast

from aob.clock import Clock, to_datetime
from aob.process import SystemProcess, Threads
from aob.stores.protocol import Store
from aob.stores.rows import Lease, Message, RunRow

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class SeededProcess:
    """A process (see `aob.process.Process`) whose ids and random numbers follow from its seed.

    Args:
        life: processes of one seed make the same random numbers, and of different lives different ids.
    """

    def __init__(self, seed: int, life: int = 0) -> None:
        self.name = f"test-{seed}-{life}"
        self._ids = Random(f"ids {seed} {life}")
        self._seeds = Random(f"seeds {seed}")
        self._jitter = Random(f"jitter {seed}")

    def new_id(self, length: int) -> str:
        return "".join(self._ids.choice(_ALPHABET) for _ in range(length))

    def seed(self) -> int:
        return self._seeds.getrandbits(63)

    def uniform(self) -> float:
        return self._jitter.random()

    def threads(self, count: int, name: str) -> Threads:
        return SystemProcess().threads(count, name)


class StoreAround:
    """A store that hands every call on to another; subclasses change some."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class QuietStore(StoreAround):
    """A store that no other process writes to, so that waiting for news needs no look at the clock."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self._changed = asyncio.Event()

    async def wait_changed(self, timeout: float) -> None:
        """See `Store.wait_changed`."""
        await self._changed.wait()
        self._changed.clear()

    async def wait_messages(self, timeout: float) -> None:
        """See `Store.wait_messages`."""
        await self.wait_changed(timeout)

    async def send(self, message: Message, start: RunRow | None = None) -> RunRow | None:
        """See `Store.send`."""
        self._changed.set()
        return await self.inner.send(message, start)

    async def send_many(self, sends: Sequence[tuple[Message, RunRow | None]]) -> list[tuple[RunRow, RunRow]]:
        """See `Store.send_many`."""
        self._changed.set()
        return await self.inner.send_many(sends)

    async def release(self, leases: Sequence[Lease], clean: bool = True) -> None:
        """See `Store.release`."""
        self._changed.set()
        await self.inner.release(leases, clean)

    async def close(self) -> None:
        """See `Store.close`."""
        self._changed.set()
        await self.inner.close()


def quiet(store: Store) -> Store:
    """A store for one process, in virtual time."""
    return cast("Store", QuietStore(store))


class SeededPresent:
    """Time and randomness of functions called outside a workflow (see `aob.workflow.context.Plain`)."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self._clock = clock
        self._random = Random(f"present {seed}")

    def now(self) -> datetime:
        return to_datetime(self._clock.now_us())

    def random(self) -> Random:
        return self._random
