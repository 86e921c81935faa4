"""Messages that wait for a dead worker's runs meet its successor while it recovers them."""

import asyncio
from typing import Any, cast

import pytest

import aob
from aob.client.client import Client
from aob.settings import load
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.protocol import Store
from aob.stores.rows import Message
from aob.testing.environment import NEW_YEAR, still
from aob.testing.lives import Died, Lives, MortalStore
from aob.testing.oracle import look, problems
from aob.testing.seeded import SeededProcess

BODIES = {
    "terminate": b'{"reason":"enough"}',
    "cancel": b'{"reason":"enough"}',
    "pause": b'{"reason":"a moment"}',
    "signal": b'{"name":"go","payload":"on","id":"1"}',
}
ENDS = {"terminate": "terminated", "cancel": "cancelled", "pause": "paused", "signal": "completed"}


@aob.activity
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)


@aob.workflow
async def naps_and_waits(count: int) -> str:
    for _ in range(count):
        await nap(1)
    return await aob.wait_signal("go", str, timeout=600)


class Town:
    """A store in memory, and lives of workers on it."""

    def __init__(self) -> None:
        self.lives = Lives(NEW_YEAR)
        self.state = MemoryState()
        self.born = 0

    async def live(self, store: MortalStore, seconds: float) -> None:
        """Serve for so long; the first life starts the run."""
        process = SeededProcess(1, self.born)
        given = cast("Store", store)
        client = Client("sqlite://", settings=still(load()), clock=self.lives.time, process=process, store=given)
        async with client, client.serve(naps_and_waits):
            if self.born == 1:
                await client.start(naps_and_waits, 20, run_id="r")
            await asyncio.sleep(seconds)

    def life(self, seconds: float, dies_at: int | None = None) -> None:
        self.born += 1
        store = MortalStore(MemoryStore(self.lives.time, self.state), dies_at, "after")
        if dies_at is None:
            self.lives.live(self.live(store, seconds))
        else:
            with pytest.raises(Died):
                self.lives.live(self.live(store, seconds))
        self.lives.live(store.inner.close())

    def send(self, kind: str) -> None:
        message = Message(tenant="default", run_id="r", kind=kind, body=BODIES[kind])
        self.lives.live(MemoryStore(self.lives.time, self.state).send(message))


def status_after(kinds: list[str], deaths: int) -> Any:
    town = Town()
    try:
        town.life(100, dies_at=6)
        for _ in range(deaths - 1):
            town.life(100, dies_at=4)
        for kind in kinds:
            town.send(kind)
        town.life(100)
        store = MemoryStore(town.lives.time, town.state)
        seen = town.lives.live(look(store))
        assert problems(seen) == []
        assert town.lives.errors == []
        assert not town.state.inbox
        return seen.runs["default", "r"].status
    finally:
        town.lives.bury()


@pytest.mark.parametrize("deaths", [1, 2])
@pytest.mark.parametrize("kind", BODIES)
def test_a_message_that_waited_takes_effect_once(kind: str, deaths: int) -> None:
    assert status_after([kind], deaths) == ENDS[kind]


@pytest.mark.parametrize("deaths", [1, 2])
def test_messages_that_waited_take_effect_in_order(deaths: int) -> None:
    assert status_after(["pause", "signal", "cancel"], deaths) == "cancelled"
    assert status_after(["signal", "pause", "terminate"], deaths) == "terminated"
