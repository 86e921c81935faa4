"""Workflows of the engine suite about time and values."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

import msgspec

import aob
from aob.testing.conformance.engine_flows import plus


@aob.workflow
async def clocked(steps: int) -> list[str]:
    """`now()` at the start, after each step, and after each sleep."""
    seen = [aob.now().isoformat()]
    for n in range(steps):
        await plus(n)
        seen.append(aob.now().isoformat())
        await aob.sleep(0.01)
        seen.append(aob.now().isoformat())
    return seen


@aob.workflow
async def loop_clock() -> list[tuple[str, float]]:
    seen = [(aob.now().isoformat(), asyncio.get_running_loop().time())]
    for n in range(3):
        await plus(n)
        seen.append((aob.now().isoformat(), asyncio.get_running_loop().time()))
        await asyncio.sleep(0.01)
        seen.append((aob.now().isoformat(), asyncio.get_running_loop().time()))
    return seen


@aob.workflow
async def naps(delays: list[float]) -> list[tuple[str, str]]:
    """When each sleep began and ended."""
    seen: list[tuple[str, str]] = []
    for delay in delays:
        before = aob.now().isoformat()
        await asyncio.sleep(delay)
        seen.append((before, aob.now().isoformat()))
    return seen


@aob.workflow
async def long_sleeper() -> None:
    await aob.sleep(timedelta(days=31))


@aob.workflow
async def clocked_passes() -> list[str]:
    """Times in two passes, the second of which finds a signal that came before it began."""
    seen: list[str] = aob.checkpoint_state(list[str]) or []
    seen.append(aob.now().isoformat())
    await aob.wait_signal("go")
    seen.append(aob.now().isoformat())
    if len(seen) == 2:
        aob.checkpoint(seen)
    return seen


@dataclass
class Money:
    amount: Decimal
    tags: set[str] = field(default_factory=set[str])
    at: datetime | None = None

    def __repr__(self) -> str:
        tags = ", ".join(repr(t) for t in sorted(self.tags))
        return f"Money(amount={self.amount!r}, tags={{{tags}}}, at={self.at!r})"


@aob.activity
async def money() -> Money:
    return Money(Decimal("1.10"), {"b", "a"})


@aob.activity
async def pair() -> tuple[int, int]:
    return 1, 2


@aob.activity
async def numbers() -> list[int]:
    return [1, 2]


@aob.activity
async def anything() -> object:
    return {"a": [1]}


@aob.workflow
async def typed() -> list[str]:
    """The types of results, as the workflow sees them."""
    first = await money()
    two, some = await pair(), await numbers()
    side = await aob.side_effect(lambda: [[1, 2]])
    loose = await anything()
    return [
        f"{first!r} {type(first) is Money}",
        f"{type(two).__name__} {two}",
        f"{type(some).__name__} {some}",
        f"{type(side).__name__} {side}",
        f"{type(loose).__name__} {loose}",
    ]


_shared: dict[str, list[int]] = {}


@aob.activity
async def shared() -> list[int]:
    """Returns a list that lives on in its process."""
    return _shared.setdefault(aob.info().run_id, [1, 2])


@aob.workflow
async def shares() -> list[list[int]]:
    first = await shared()
    first.append(3)
    return [first, await shared()]


@aob.activity
async def keeps(items: list[int]) -> list[int]:
    """Changes what it was given."""
    items.append(99)
    return items


@aob.workflow
async def lends() -> list[list[int]]:
    mine = [1, 2]
    back = await keeps(mine)
    seen = list(mine)
    mine.append(3)
    return [back, seen, mine]


@aob.activity
async def echo(items: list[int]) -> list[int]:
    return items


@aob.workflow
async def changes_its_mind() -> list[list[int]]:
    mine = [1]
    call = echo(mine)
    mine.append(2)
    return [await call, mine]


@aob.workflow
async def appends(items: list[int]) -> list[int]:
    await plus(1)
    items.append(3)
    return items


@aob.activity
async def unfaithful(kind: str) -> object:
    """Returns what JSON would give back as something else."""
    match kind:
        case "tuple":
            return (1, 2)
        case "keys":
            return {1: "one"}
        case _:
            return float("nan") if kind == "nan" else object()


@aob.workflow
async def refuses() -> list[str]:
    told: list[str] = []
    for kind in ("tuple", "keys", "object", "nan"):
        try:
            told.append(f"returned {await unfaithful(kind)!r}")
        except aob.BadValue as e:
            told.append(f"BadValue {e}")
    try:
        await echo(("a",))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    except aob.BadValue as e:
        told.append(f"BadValue {e}")
    return told


@aob.workflow
async def many_sources() -> list[str]:
    side = await aob.side_effect(lambda: [1, 2])
    signal = await aob.wait_signal("money", Money)
    child = await appends([1, 2])
    return [repr(side), repr(signal), repr(child)]


WORDS: list[str] = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "and", "runs", "away", "from"]


@aob.activity
async def spread(words: set[str], by_word: dict[str, int]) -> dict[str, set[str]]:
    """A mapping of sets, made in the order of sets."""
    return {w: {other for other in words if other != w} for w in words if by_word[w] > 3}


@aob.workflow
async def unordered() -> int:
    """Sets and mappings as arguments and results."""
    words = set(WORDS)
    by_word = {w: len(w) for w in words}
    first = await spread(words, by_word)
    await spread({w for group in first.values() for w in group}, {w: by_word[w] for w in reversed(list(by_word))})
    return len(first)


def without_times(data: str) -> str:
    """An event's JSON without what differs from run to run."""
    fields = msgspec.json.decode(data, type=list[msgspec.Raw])
    return str([bytes(f) for f in fields[1:4]])


@aob.activity
async def draw() -> int:
    """A number that is another one each time."""
    return Random().getrandbits(50)


@aob.workflow
async def draws() -> list[list[int]]:
    first = [await draw(), await draw()]
    await aob.wait_signal("go")
    return [first, list(first)]
