"""Workflows of the engine suite about attempts: lost, repeated, deadly, keyed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import aob
from aob.testing.conformance.engine_flows import leave, mark, stays


@aob.activity
async def fails_at_once(trace: str) -> None:
    leave(trace, "tried")
    raise ValueError("tried")


@aob.workflow
async def fails_for_good(trace: str) -> None:
    await fails_at_once(trace)


@aob.workflow
async def catches(trace: str) -> str:
    caught = "nothing"
    try:
        await fails_at_once(trace)
    except ValueError as e:
        caught = f"caught ValueError: {e}"
    await aob.wait_signal("go")
    return caught


@aob.activity
async def works(trace: str, line: str) -> str:
    """Takes a moment, and leaves a line."""
    await asyncio.sleep(0.01)
    leave(trace, line)
    return line


@aob.workflow
async def busy(trace: str, name: str, steps: int) -> list[str]:
    """Two steps at a time."""
    got: list[str] = []
    for n in range(0, steps, 2):
        got += await asyncio.gather(works(trace, f"{name} {n}"), works(trace, f"{name} {n + 1}"))
    return got


@aob.workflow
async def leaves_it(trace: str) -> list[str]:
    """Stops waiting for a step that does not stop."""
    got: list[str] = []
    task = asyncio.ensure_future(stays(trace))
    await aob.wait_signal("leave")
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        got.append("left")
    got.append(await mark(f"{trace}.more", "went on"))
    await aob.wait_signal("end")
    return got


@aob.activity
async def kills(trace: str, name: str) -> str:
    """Takes its process along, until the gate `name` is open."""
    leave(trace, name)
    if not Path(f"{trace}.{name}").exists():  # noqa: ASYNC240
        os._exit(9)
    return f"survived {name}"


@aob.workflow
async def dies(trace: str, names: list[str]) -> list[str]:
    return [await kills(trace, name) for name in names]


@aob.activity
async def key() -> str:
    return aob.info().idempotency_key


@aob.workflow
async def keys(count: int) -> list[str]:
    return [await key() for _ in range(count)]


@aob.workflow
async def key_of_child() -> list[str]:
    return [await key(), *(await keys(1))]


@aob.activity(name="key_again", retry=aob.Retry(initial=0.05, max_attempts=0))
async def leaves_key(trace: str) -> str:
    """Leaves its key; fails until the gate `key` is open."""
    leave(trace, aob.info().idempotency_key)
    if not Path(f"{trace}.key").exists():  # noqa: ASYNC240
        raise ValueError("not yet")
    return aob.info().idempotency_key


@aob.workflow
async def key_of_attempts(trace: str) -> str:
    return await leaves_key(trace)


@aob.workflow
async def key_then_failure(trace: str) -> str:
    return await leaves_key.options(retry=None)(trace)


@aob.activity
async def deliver(outbox: str, text: str) -> None:
    """An effect that a crash can repeat; who reads the outbox goes by the key."""
    await asyncio.sleep(0.005)
    leave(outbox, f"{aob.info().idempotency_key} {text}")


@aob.workflow
async def delivers(outbox: str, count: int) -> int:
    for n in range(count):
        await deliver(outbox, f"{aob.info().run_id} {n}")
    return count
