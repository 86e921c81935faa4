"""The same work for the engine and for the floor: a step returns about 200 bytes, half of them random."""

from __future__ import annotations

import asyncio
import os
from time import perf_counter
from typing import Any

import aob
from bench.floor import FloorRun

TICKS: list[float] = []
"""When each step of this process began."""

HELD: list[str] = []
"""Runs whose step `held` has begun."""

gate: asyncio.Event | None = None
"""What `held` waits for."""


def work(run: str, i: int) -> dict[str, Any]:
    """What every step does."""
    TICKS.append(perf_counter())
    return {"run": run, "i": i, "ok": True, "data": os.urandom(75).hex()}


# --- the engine's ---------------------------------------------------------------------------------


@aob.activity
async def step(run: str, i: int) -> dict[str, Any]:
    return work(run, i)


@aob.activity
async def slow_step(run: str, i: int, seconds: float, log: str) -> dict[str, Any]:
    """Notes in a file that it ran, and takes a while."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{run} {i}\n".encode())
    os.close(file)
    await asyncio.sleep(seconds)
    return work(run, i)


@aob.activity
async def held(run: str) -> None:
    """Stays in flight until the gate opens."""
    assert gate is not None
    HELD.append(run)
    await gate.wait()


@aob.workflow
async def seq(run: str, n: int) -> int:
    for i in range(n):
        await step(run, i)
    return n


@aob.workflow
async def fan(run: str, n: int) -> int:
    return len(await asyncio.gather(*(step(run, i) for i in range(n))))


@aob.workflow
async def paced(run: str, n: int, seconds: float, log: str) -> int:
    for i in range(n):
        await slow_step(run, i, seconds, log)
    return n


@aob.workflow
async def wait(run: str) -> dict[str, Any]:
    return await aob.wait_signal("answer", type=dict[str, Any])


@aob.workflow
async def answered(run: str, n: int) -> dict[str, Any]:
    for i in range(n):
        await step(run, i)
    return await aob.wait_signal("answer", type=dict[str, Any])


@aob.workflow
async def hold(run: str) -> None:
    await held(run)


@aob.workflow
async def sleeper(run: str, seconds: float) -> None:
    await aob.sleep(seconds)


@aob.workflow
async def counter(n: int) -> int:
    """A loop with a state: each pass does one step and ends in a checkpoint."""
    count = aob.checkpoint_state(int) or 0
    if count < n:
        await step("counter", count)
        aob.checkpoint(count + 1)
    return count


WORKFLOWS = (seq, fan, paced, wait, answered, hold, sleeper, counter)


# --- the floor's ----------------------------------------------------------------------------------


async def floor_seq(run: FloorRun, name: str, n: int) -> int:
    for i in range(n):
        await run.step(work(name, i))
    return n


async def floor_fan(run: FloorRun, name: str, n: int) -> int:
    return len(await asyncio.gather(*(run.step(work(name, i)) for i in range(n))))


async def floor_wait(run: FloorRun, name: str) -> Any:
    return await run.message()
