"""Workflows and activities of the engine suite, at module level so that every process can import them.

`trace` is the path of a file that activities write a line to: what was really done, however often, in whichever
process.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

import aob


def leave(trace: str, line: str) -> None:
    """Append a line to a trace."""
    with open(trace, "a") as file:
        file.write(line + "\n")


@aob.activity
async def plus(number: int, more: int = 1) -> int:
    return number + more


@aob.activity
async def mark(trace: str, line: str) -> str:
    """Leave a line and return it."""
    leave(trace, line)
    return line


@aob.activity
async def nap(name: str, seconds: float) -> str:
    """Return the name after a while."""
    await asyncio.sleep(seconds)
    return name


@aob.activity
async def gate(trace: str, name: str) -> str:
    """Leave `name`, then wait for a file `<trace>.<name>` to appear, then leave `through <name>`."""
    leave(trace, name)
    while not Path(f"{trace}.{name}").exists():  # noqa: ASYNC110, ASYNC240 (another process makes it)
        await asyncio.sleep(0.005)
    leave(trace, f"through {name}")
    return name


def open_gate(trace: str, name: str) -> None:
    """Let `gate(trace, name)` through, now and whenever it is called again."""
    Path(f"{trace}.{name}").touch()


@aob.workflow
async def twice(number: int) -> int:
    """Two steps."""
    return await plus(await plus(number))


@aob.workflow
async def total(first: int, second: int = 2, *, third: int = 3) -> int:
    """Several parameters, some with defaults."""
    return first + second + third


@aob.workflow
async def nothing() -> str:
    """No parameters."""
    return "nothing"


@aob.workflow
async def waits(name: str = "go") -> list[object]:
    """Collects signals of one name until one is `end`."""
    got: list[object] = []
    async for signal in aob.signals(name):
        if signal == "end":
            return got
        got.append(signal)
    return got


@aob.workflow
async def sleeper(seconds: float) -> str:
    await aob.sleep(seconds)
    return "awake"


@aob.workflow
async def marks(trace: str, lines: list[str]) -> list[str]:
    """One step a line."""
    return [await mark(trace, line) for line in lines]


@aob.workflow
async def gated(trace: str) -> list[str]:
    """A step, one that waits at a gate, another one."""
    return [await mark(trace, "before"), await gate(trace, "gate"), await mark(trace, "after")]


@aob.workflow
async def gates(trace: str, count: int) -> int:
    """Several steps at one gate."""
    return len(await asyncio.gather(*(gate(trace, "gate") for _ in range(count))))


@dataclass
class Order:
    customer: str
    items: list[str]


@aob.workflow
async def shop(order: Order) -> int:
    return len(order.items)


@aob.activity(name="stubborn")
async def stays(trace: str) -> str:
    """Goes on when it is cancelled, until its gate opens."""
    leave(trace, "began")
    while not Path(f"{trace}.stubborn").exists():  # noqa: ASYNC240 (another process may make it)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.005)
    leave(trace, "returned")
    return "stubborn"


@aob.workflow
async def stubborn(trace: str) -> str:
    return await stays(trace)


@aob.activity
async def breaks(trace: str) -> str:
    """Fails the first time that it is called with this trace."""
    first = "broken" not in Path(trace).read_text().splitlines()  # noqa: ASYNC240
    leave(trace, "broken" if first else "mended")
    if first:
        raise ValueError("broken")
    return "mended"


@aob.workflow
async def breaks_once(trace: str) -> str:
    await mark(trace, "before")
    return await breaks(trace)
