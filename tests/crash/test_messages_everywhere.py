"""A message of another process arrives just before each write of a run: it takes effect once, the log stays right."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

import aob
from aob.client.client import Client
from aob.settings import load
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.protocol import Store
from aob.stores.rows import Append, Appended, Message
from aob.testing.environment import NEW_YEAR, still
from aob.testing.lives import Lives
from aob.testing.oracle import Seen, look, problems
from aob.testing.seeded import QuietStore, SeededProcess

BODIES = {
    "terminate": b'{"reason":"enough"}',
    "cancel": b'{"reason":"enough"}',
    "pause": b'{"reason":"a moment"}',
    "signal": b'{"name":"go","payload":"on","id":"1"}',
    "update": b'{"name":"note","payload":[["x"],{}],"id":"1"}',
    "query": b'{"name":"notes","payload":[[],{}]}',
}


@aob.activity
async def work(n: int) -> int:
    return n + 1


@aob.activity(retry=aob.Retry(initial=1, jitter=0))
async def lucky(n: int) -> int:
    await asyncio.sleep(1)
    if aob.info().attempt < 2:
        raise ConnectionError("busy")
    return n


@aob.workflow
async def child(n: int) -> int:
    await aob.sleep(1)
    return await work(n)


@aob.workflow(fidelity="full")
async def everything(count: int) -> list[int]:
    noted: list[str] = []

    @aob.update
    async def note(text: str) -> int:
        noted.append(text)
        return await work(len(noted))

    @aob.query
    def notes() -> list[str]:
        return noted

    done = [await work(i) for i in range(count)]
    done += await asyncio.gather(work(10), lucky(11), child(12))
    try:
        async with asyncio.timeout(2):
            await aob.wait_signal("never")
    except TimeoutError:
        done.append(await aob.side_effect(lambda: 5))
    aob.emit("nearly", len(done))
    return done


class InjectingStore(QuietStore):
    """Another process's message is there just before the n-th write."""

    def __init__(self, inner: Store, at: int, message: Message | None) -> None:
        super().__init__(inner)
        self._at = at
        self._message = message
        self.writes = 0

    async def append(self, batch: Append) -> Appended:
        self.writes += 1
        if self.writes == self._at and self._message is not None:
            await self.send(self._message)
        return await self.inner.append(batch)


def story(at: int, kind: str | None) -> tuple[Seen, int]:
    """What the store holds after a run that a message met."""
    lives = Lives(NEW_YEAR)
    message = None
    if kind is not None:
        message = Message(tenant="default", run_id="r", kind=kind, body=BODIES[kind], reply="answer")
    store = InjectingStore(MemoryStore(lives.time, MemoryState()), at, message)

    async def live() -> Seen:
        given = cast("Store", store)
        client = Client("sqlite://", settings=still(load()), clock=lives.time, process=SeededProcess(1), store=given)
        async with client, client.serve(everything):
            await client.start(everything, 2, run_id="r")
            await asyncio.sleep(1000)
            return await look(given)

    try:
        seen = lives.live(live())
        assert lives.errors == []
        return seen, store.writes
    finally:
        lives.bury()


def kinds_of(seen: Seen, run_id: str = "r") -> list[str]:
    return [event.kind for event in seen.events["default", run_id]]


CALM, WRITES = story(0, None)
FIRST = 3
"""The write that starts the run: an earlier message would find none."""


@pytest.mark.parametrize("kind", BODIES)
def test_a_message_before_any_write(kind: str) -> None:
    assert kinds_of(CALM)[-1] == "run_completed" and WRITES > 12
    for at in range(FIRST + 1, WRITES):
        seen, _ = story(at, kind)
        assert problems(seen) == [], (at, kinds_of(seen))
        EFFECTS[kind](seen, at)


def ended(kind: str) -> Callable[[Seen, int], Any]:
    def check(seen: Seen, at: int) -> None:
        kinds = kinds_of(seen)
        if "run_completed" not in kinds:
            assert kinds.count(kind) == 1, (at, kinds)
            assert all(run.ended is not None for run in seen.runs.values()), (at, seen.runs)

    return check


def counted(kind: str, times: int) -> Callable[[Seen, int], Any]:
    def check(seen: Seen, at: int) -> None:
        kinds = kinds_of(seen)
        assert kinds.count(kind) in (times, 0), (at, kinds)
        assert kinds.count(kind) == times or kinds[-1] == "run_completed"

    return check


def untouched(seen: Seen, at: int) -> None:
    assert kinds_of(seen) == kinds_of(CALM)


EFFECTS: dict[str, Callable[[Seen, int], Any]] = {
    "terminate": ended("run_terminated"),
    "cancel": ended("run_cancelled"),
    "pause": counted("paused", 1),
    "signal": counted("signal_received", 1),
    "update": counted("signal_received", 1),
    "query": untouched,
}


class OvertakenStore(QuietStore):
    """A terminate of another process is there just before the first signal is written."""

    async def append(self, batch: Append) -> Appended:
        if "signal_received" in [kind for _, _, kind, *_ in batch.events] and not self.told:
            self.told = True
            body = BODIES["terminate"]
            await self.send(Message(tenant="default", run_id="r", kind="terminate", body=body))
        return await self.inner.append(batch)

    told = False


def test_a_signal_that_an_end_overtakes_is_refused_and_not_acknowledged() -> None:
    lives = Lives(NEW_YEAR)
    store = OvertakenStore(MemoryStore(lives.time, MemoryState()))

    async def live() -> Seen:
        given = cast("Store", store)
        client = Client("sqlite://", settings=still(load()), clock=lives.time, process=SeededProcess(1), store=given)
        async with client, client.serve(everything):
            run = await client.start(everything, 2, run_id="r")
            with pytest.raises(aob.RunFinished):
                await run.signal("go", "on")
            with pytest.raises(aob.RunTerminated):
                await run.result()
            return await look(given)

    seen = lives.live(live())
    assert problems(seen) == []
    assert "signal_received" not in kinds_of(seen)
    assert store.told
