"""Workflows of the engine suite whose results depend on the order in which asyncio lets tasks go on.

Each is a trap: asyncio (and anyio) keep tasks in sets, and a set that is ordered by address is another one in
each process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar

import aob
from aob.testing.conformance.engine_shapes import one

MANY = 13


class Stops:
    """Notes the order in which tasks are cancelled, with a step in each one's clean-up."""

    def __init__(self) -> None:
        self.order: list[str] = []

    async def child(self, name: str) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.order.append(name)
            self.order.append(await one(f"cleaned {name}"))
            raise
        return name


@aob.workflow
async def group_aborts() -> list[str]:
    """A TaskGroup whose body fails cancels its children."""
    stops = Stops()
    try:
        async with asyncio.TaskGroup() as group:
            for n in range(MANY):
                group.create_task(stops.child(f"c{n}"))
            await one("begun")
            raise ValueError
    except* ValueError:
        await one("aborted")
    return stops.order


@aob.workflow
async def child_aborts_group() -> list[str]:
    """A child that fails has the others cancelled; some have ended before."""
    stops = Stops()

    async def fails() -> None:
        await one("ready to fail")
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            for n in range(MANY):
                group.create_task(one(f"quick {n}") if n % 3 == 0 else stops.child(f"c{n}"))  # type: ignore[arg-type]
                if n == 6:
                    group.create_task(fails())
    except* ValueError:
        await one("aborted")
    return stops.order


@aob.workflow
async def nested_groups() -> list[str]:
    stops = Stops()

    async def inner(name: str) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(4):
                group.create_task(stops.child(f"{name}.{n}"))

    try:
        async with asyncio.TaskGroup() as group:
            for n in range(4):
                group.create_task(inner(f"g{n}"))
            await one("begun")
            raise ValueError
    except* ValueError:
        await one("aborted")
    return stops.order


@aob.workflow
async def waits_for_all() -> list[str]:
    """The sets that `asyncio.wait` returns, in the order in which they are gone through."""
    tasks = [asyncio.create_task(one(f"w{n}"), name=f"t{n}") for n in range(MANY)]  # type: ignore[arg-type]
    done, pending = await asyncio.wait(tasks)
    return [t.get_name() for t in done] + [t.get_name() for t in pending]


@aob.workflow
async def waits_for_first() -> list[str]:
    """What is done when `asyncio.wait` returns, and the order in which the rest is cancelled."""
    stops, go = Stops(), asyncio.Event()

    async def at_once(name: str) -> str:
        await go.wait()
        return name

    tasks = {asyncio.create_task(at_once(f"d{n}")) for n in range(MANY)}
    tasks |= {asyncio.create_task(stops.child(f"p{n}")) for n in range(MANY)}
    await one("begun")
    go.set()
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    first = [t.result() for t in done]
    for task in pending:
        task.cancel()
    rest = await asyncio.gather(*pending, return_exceptions=True)
    return [*first, *stops.order, *(str(r) for r in rest if isinstance(r, str))]


@aob.workflow
async def waits_again_and_again() -> list[str]:
    """The usual loop around `asyncio.wait`, with new tasks for those that ended."""
    order: list[str] = []
    tasks = {asyncio.create_task(one(f"w{n}")) for n in range(6)}  # type: ignore[arg-type]
    while tasks and len(order) < 18:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            order.append(task.result())
            tasks.add(asyncio.create_task(one(f"{task.result()}+")))  # type: ignore[arg-type]
    for task in tasks:
        task.cancel()
    return order


@aob.workflow
async def as_completed_steps() -> list[str]:
    """`as_completed` over plain calls of steps: it makes a set of them."""
    order: list[str] = []
    for next_one in asyncio.as_completed([one(f"a{n}") for n in range(MANY)]):  # type: ignore[arg-type]
        order.append(await next_one)
        order.append(await one(f"after {order[-1]}"))
    return order


@aob.workflow
async def as_completed_coroutines() -> list[str]:
    """`as_completed` over plain coroutines that call several steps each."""
    order: list[str] = []

    async def leg(n: int) -> str:
        for k in range(n % 3):
            await one(f"l{n}.{k}")
        return f"l{n}"

    for next_one in asyncio.as_completed([leg(n) for n in range(MANY)]):
        order.append(await next_one)
    return order


@aob.workflow
async def as_completed_tasks() -> list[str]:
    """`as_completed` over a set of tasks that are ready at once, with a time-out."""
    go = asyncio.Event()

    async def leg(n: int) -> str:
        await go.wait()
        return f"l{n}"

    tasks = {asyncio.create_task(leg(n)) for n in range(MANY)}
    await one("begun")
    go.set()
    return [await t for t in asyncio.as_completed(tasks, timeout=60)]


@aob.workflow
async def as_completed_twice() -> list[str]:
    """Two of them at the same time, in two tasks, over coroutines of one name."""

    async def collect(name: str) -> list[str]:
        calls = [one(f"{name}{n}") for n in range(6)]
        return [await c for c in asyncio.as_completed(calls)]  # type: ignore[arg-type]

    first, second = await asyncio.gather(collect("x"), collect("y"))
    return first + second


@aob.workflow
async def as_completed_of_a_set() -> str:
    """Plain coroutines in a set have no order at all: refused, or ordered."""

    async def leg(n: int) -> str:
        return await one(f"s{n}")

    legs = {leg(n) for n in range(MANY)}
    try:
        got = [await c for c in asyncio.as_completed(legs)]
    except aob.IoInWorkflow as e:
        for each in legs:
            each.close()
        return f"refused: {e}"
    return " ".join(got)


@aob.workflow
async def gathers_inside() -> list[str]:
    """Gathers of gathers, one of which fails."""
    order: list[str] = []

    async def leg(name: str, fails: bool = False) -> str:
        order.append(await one(name))
        if fails:
            raise ValueError(name)
        return name

    async def bunch(name: str, bad: int) -> list[str]:
        return list(await asyncio.gather(*(leg(f"{name}{n}", n == bad) for n in range(5))))

    got = await asyncio.gather(*(bunch(name, 2 if name == "q" else -1) for name in "pqr"), return_exceptions=True)
    return [*order, *(str(g) for g in got)]


@aob.workflow
async def gather_cancelled() -> list[str]:
    """A gather that is cancelled cancels its children."""
    stops = Stops()
    both = asyncio.gather(*(stops.child(f"c{n}") for n in range(MANY)))
    await one("begun")
    both.cancel()
    try:
        await both
    except asyncio.CancelledError:
        await one("cancelled")
    await asyncio.sleep(0)
    return stops.order


@aob.workflow
async def all_tasks_cancelled() -> list[str]:
    """The set of all tasks of the loop, cancelled in its order."""
    stops = Stops()
    tasks: list[asyncio.Task[str]] = []
    for n in range(3 * MANY):
        for _ in range(127):  # hashes are drawn from the count of futures: let these collide
            asyncio.get_running_loop().create_future()
        tasks.append(asyncio.create_task(stops.child(f"c{n}")))
    await one("begun")
    me = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not me:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return stops.order


@aob.workflow
async def a_set_of_calls() -> list[str]:
    """Calls of steps in a set, awaited in its order."""
    return [await call for call in {one(f"k{n}") for n in range(MANY)}]  # type: ignore[attr-defined]


@aob.workflow
async def queue_and_locks() -> list[str]:
    """Workers on a queue, with a lock, a semaphore and a condition."""
    order: list[str] = []
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=2)
    lock, slots, condition = asyncio.Lock(), asyncio.Semaphore(2), asyncio.Condition()

    async def worker(name: str) -> None:
        while True:
            n = await queue.get()
            async with slots:
                got = await one(f"{name}:{n}")
            async with lock:
                order.append(got)
            async with condition:
                condition.notify_all()
            queue.task_done()

    workers = [asyncio.create_task(worker(f"w{n}")) for n in range(4)]
    for n in range(12):
        await queue.put(n)
    await queue.join()
    async with condition:
        await condition.wait_for(lambda: len(order) == 12)
    for w in workers:
        w.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return order


where: ContextVar[str] = ContextVar("where", default="nowhere")


@aob.workflow
async def generators_and_contexts() -> list[str]:
    """Async generators, context variables, `timeout`, `wait_for`, `shield`."""
    order: list[str] = []

    async def numbers(name: str) -> AsyncIterator[str]:
        try:
            for n in range(3):
                yield await one(f"{name}{n}")
        finally:
            order.append(f"closed {name}")

    async def reader(name: str) -> None:
        where.set(name)
        async for item in numbers(name):
            order.append(f"{where.get()} {item}")

    await asyncio.gather(*(reader(f"r{n}") for n in range(4)))
    order.append(where.get())
    kept = asyncio.create_task(one("kept"))  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(0):
            await asyncio.shield(kept)
    except TimeoutError:
        order.append("timed out")
    order.append(await kept)
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)
    except TimeoutError:
        order.append("timed out again")
    return order


@aob.workflow
async def generators_left_open() -> list[str]:
    """Async generators that are left in the middle clean up with a step, in the run."""
    order: list[str] = []

    async def numbers(name: str) -> AsyncIterator[str]:
        try:
            for n in range(3):
                yield f"{name}{n}"
        finally:
            order.append(await one(f"cleaned {name}"))

    async def first_of(name: str) -> str:
        async for item in numbers(name):
            return item
        return "none"

    order += await asyncio.gather(*(first_of(f"r{n}") for n in range(4)))
    order.append(await one("after"))
    await aob.wait_until(lambda: len(order) == 9)
    return order


@aob.workflow
async def timers_at_once() -> list[str]:
    """Timers that are due at the same time, and some in between."""
    order: list[str] = []

    async def after(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append(name)

    await asyncio.gather(*(after(f"t{n}", 0.02 if n % 2 else 0.01) for n in range(10)))
    return order


FLOWS = [
    group_aborts, child_aborts_group, nested_groups, waits_for_all, waits_for_first, waits_again_and_again,
    as_completed_steps, as_completed_coroutines, as_completed_tasks, as_completed_twice, as_completed_of_a_set,
    gathers_inside, gather_cancelled, all_tasks_cancelled, a_set_of_calls, queue_and_locks, generators_and_contexts,
    generators_left_open, timers_at_once,
]  # fmt: skip
