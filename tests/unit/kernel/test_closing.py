"""A run that leaves memory is freed at once: garbage that waits for a collection would pile up as runs come and go."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

import aob
from aob.kernel import events as ev
from aob.kernel.machine import Machine


@aob.activity
async def step() -> None: ...


@aob.workflow
async def sleeps() -> None:
    await aob.sleep(10)


@aob.workflow
async def waits_for_a_signal() -> None:
    await aob.wait_signal("go")


@aob.workflow
async def waits_for_a_step() -> None:
    await step()


@aob.workflow
async def gathers() -> None:
    await asyncio.gather(step(), asyncio.sleep(5), aob.wait_signal("go"))


@aob.workflow
async def groups() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(5))
        group.create_task(asyncio.sleep(6))


@aob.workflow
async def times_out() -> None:
    async with asyncio.timeout(5):
        await asyncio.Event().wait()


@aob.workflow
async def waits_for_any() -> None:
    tasks = [asyncio.create_task(asyncio.sleep(s)) for s in (5, 6)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


@aob.workflow
async def awaits_a_task() -> None:
    await asyncio.create_task(asyncio.sleep(5))


@aob.workflow
async def reads_a_queue() -> None:
    await asyncio.Queue[int]().get()


@aob.workflow
async def shields() -> None:
    await asyncio.shield(asyncio.create_task(asyncio.sleep(5)))


@aob.workflow
async def cleans_up() -> None:
    try:
        await aob.sleep(10)
    finally:
        await aob.sleep(1)


WORKFLOWS = [
    sleeps, waits_for_a_signal, waits_for_a_step, gathers, groups, times_out, waits_for_any, awaits_a_task,
    reads_a_queue, shields, cleans_up,
]  # fmt: skip


def started(program: Any) -> Machine:
    machine = Machine(program)
    machine.apply(ev.RunStarted(1, program.name, Raw(b"null"), "default", "r", "birth", 7), 1)
    return machine


@pytest.fixture
def no_collections() -> Any:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("program", WORKFLOWS, ids=lambda w: w.name)
def test_a_run_that_leaves_is_freed_at_once(
    program: aob.Workflow[[], None], no_collections: Callable[[], None]
) -> None:
    machine = started(program)
    assert machine.ended is None
    gone = weakref.ref(machine), weakref.ref(machine.loop)
    machine.close()
    del machine
    assert [ref() for ref in gone] == [None, None]
