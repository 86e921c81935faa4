"""I1: when a call returns, what it asked for is in the store, whichever write the process dies at next."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

import aob
from aob.client.client import Client
from aob.errors import AobError, StoreFailed
from aob.settings import load
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.protocol import Store
from aob.testing.environment import NEW_YEAR, still
from aob.testing.lives import HOWS, Died, How, Lives, MortalStore
from aob.testing.oracle import Seen, look, problems
from aob.testing.seeded import SeededProcess


@aob.activity
async def work(n: int) -> int:
    return n


@aob.workflow
async def listens(count: int) -> list[str]:
    @aob.update
    async def note(text: str) -> int:
        return await work(len(text))

    return [await aob.wait_signal("post", str) for _ in range(count)]


Call = tuple[str, Callable[[Client], Awaitable[Any]], Callable[[Seen], bool]]


def has(run_id: str, kind: str, data: bytes = b"") -> Callable[[Seen], bool]:
    """Whether a run's history has such an event."""

    def check(seen: Seen) -> bool:
        return any(e.kind == kind and data in e.data for e in seen.events.get(("default", run_id), []))

    return check


async def start(client: Client) -> None:
    await client.start(listens, 9, run_id="r")


async def start_many(client: Client) -> None:
    await client.start_many(listens, [1, 2], run_ids=["many-1", "many-2"])


async def signal(client: Client) -> None:
    await (await client.get("r")).signal("post", "hello")


async def signal_again(client: Client) -> None:
    await (await client.get("r")).signal("post", "again", id="2")


async def update(client: Client) -> None:
    await (await client.get("r")).update("note", "written", id="3")


async def pause(client: Client) -> None:
    await (await client.get("r")).pause("lunch")


async def resume(client: Client) -> None:
    await (await client.get("r")).resume()


async def cancel(client: Client) -> None:
    await (await client.get("r")).cancel("enough")


async def terminate(client: Client) -> None:
    await (await client.get("many-1")).terminate("enough")


CALLS: list[Call] = [
    ("start", start, has("r", "run_started")),
    ("start_many", start_many, lambda seen: has("many-1", "run_started")(seen) and has("many-2", "run_started")(seen)),
    ("signal", signal, has("r", "signal_received", b"hello")),
    ("signal_again", signal_again, has("r", "signal_received", b"again")),
    ("update", update, has("r", "update_completed")),
    ("pause", pause, has("r", "paused")),
    ("resume", resume, has("r", "resumed")),
    ("cancel", cancel, has("r", "cancel_requested")),
    ("terminate", terminate, has("many-1", "run_terminated")),
]


def lived(at: int | None, how: How) -> tuple[list[str], Seen, int]:
    """The calls that returned before the death, what the store holds after it, and how many writes there were."""
    lives = Lives(NEW_YEAR)
    state = MemoryState()
    store = MortalStore(MemoryStore(lives.time, state), at, how)
    returned: list[str] = []

    async def live() -> None:
        given = cast("Store", store)
        client = Client("sqlite://", settings=still(load()), clock=lives.time, process=SeededProcess(1), store=given)
        async with client, client.serve(listens):
            for name, call, _ in CALLS:
                await call(client)
                returned.append(name)

    try:
        lives.live(live())
    except (Died, AobError) as e:
        assert isinstance(e, Died | StoreFailed), e
    try:
        lives.live(store.inner.close())
        return returned, lives.live(look(MemoryStore(lives.time, state))), len(store.writes)
    finally:
        lives.bury()


@pytest.mark.parametrize("how", HOWS)
def test_what_was_answered_is_in_the_store(how: How) -> None:
    returned, _, writes = lived(None, how)
    assert returned == [name for name, *_ in CALLS]
    for at in range(1, writes + 1):
        returned, seen, _ = lived(at, how)
        assert problems(seen) == []
        missing = [name for name, _, check in CALLS if name in returned and not check(seen)]
        assert missing == [], f"killed {how} write {at}"
