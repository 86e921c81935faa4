"""What every test of the suite needs: stores of the backend under test, a clock to turn, rows to write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from aob.clock import SystemClock
from aob.stores.chain import chain_after
from aob.stores.protocol import Store
from aob.stores.rows import Append, EventRecord, Keyed, Lease, Message, RunRow

TTL = 10.0

Opener = Callable[[], Awaitable[Store]]


class TurnedClock(SystemClock):
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now_us(self) -> int:
        return int(self.seconds * 1_000_000)

    def monotonic(self) -> float:
        return self.seconds


class StoreSetting(ABC):
    """Where the tests get their stores from."""

    @abstractmethod
    async def new_store(self, clock: TurnedClock) -> Opener:
        """A new, empty store, as a function that opens it; each call opens it as another process would.

        Args:
            clock: what the opened stores are to measure leases by.
        """

    @asynccontextmanager
    async def opened(self, count: int = 1) -> AsyncGenerator[tuple[TurnedClock, list[Store]], None]:
        """One new store opened `count` times, and the clock of all."""
        clock = TurnedClock()
        opener = await self.new_store(clock)
        async with AsyncExitStack() as stack:
            stores = [await opener() for _ in range(count)]
            for store in stores:
                stack.push_async_callback(store.close)
            yield clock, stores

    @asynccontextmanager
    async def owned(self, partition: int = 0) -> AsyncGenerator[tuple[Store, Lease], None]:
        """A new store with a lease."""
        async with self.opened() as (_, (store,)):
            yield store, await taken(store, partition)


async def taken(store: Store, partition: int = 0, owner: str = "a", ttl: float = TTL) -> Lease:
    """A lease that must be free."""
    lease = await store.acquire(partition, owner, ttl)
    assert lease is not None, f"partition {partition} is not free for {owner}"
    return lease


def a_run(run_id: str = "r", **fields: object) -> RunRow:
    """A run of tenant t."""
    values: dict[str, object] = {
        "tenant": "t", "run_id": run_id, "workflow": "w", "status": "running", "created": 5, "updated": 5,
    }  # fmt: skip
    return RunRow(**values | fields)  # pyright: ignore[reportArgumentType]


def a_message(run_id: str = "r", kind: str = "signal", **fields: object) -> Message:
    """A message to a run of tenant t in partition 0."""
    values: dict[str, object] = {"partition": 0, "tenant": "t", "run_id": run_id, "kind": kind, "body": b'{"n":1}'}
    return Message(**values | fields)  # pyright: ignore[reportArgumentType]


class Story:
    """A run's events with their seq and chain, as an owner makes them."""

    def __init__(self, run: Keyed, seq: int = 0, chain: int = 0) -> None:
        self.run = run
        self.seq = seq
        self.chain = chain

    def tell(self, *datas: bytes, kind: str = "step_completed") -> list[EventRecord]:
        """The next events."""
        records: list[EventRecord] = []
        for data in datas:
            self.seq += 1
            self.chain = chain_after(self.chain, kind, data)
            records.append((self.run, self.seq, kind, 1, self.chain, data))
        return records


async def committed(store: Store, batch: Append) -> None:
    """Append a batch that must go through whole."""
    appended = await store.append(batch)
    assert appended.committed, appended
    assert appended.conflicts == []


async def started(store: Store, lease: Lease, *runs: RunRow) -> None:
    """Commit runs without events."""
    await committed(store, Append(epochs={lease.partition: lease.epoch}, starts=list(runs)))


async def told(store: Store, lease: Lease, *events: EventRecord) -> None:
    """Commit events."""
    await committed(store, Append(epochs={lease.partition: lease.epoch}, events=list(events)))


async def ended(store: Store, lease: Lease, *runs: RunRow, at: int = 100, status: str = "completed") -> None:
    """Commit the ends of runs."""
    for run in runs:
        run.status, run.ended, run.updated = status, at, at
    await committed(store, Append(epochs={lease.partition: lease.epoch}, summaries=list(runs)))


async def datas(store: Store, run: int, after: int = 0, limit: int = 1000, until: int | None = None) -> list[bytes]:
    """What a run's events hold."""
    return [event.data for event in await store.events(run, after, limit, until)]
