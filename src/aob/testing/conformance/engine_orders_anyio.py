"""The same traps with anyio, whose task groups and cancel scopes keep tasks in sets too. Needs anyio."""

from __future__ import annotations

import anyio
from anyio.abc import TaskStatus

import aob
from aob.testing.conformance.engine_orders import MANY
from aob.testing.conformance.engine_shapes import one


class Stops:
    """Notes the order in which tasks are cancelled."""

    def __init__(self) -> None:
        self.order: list[str] = []

    async def child(self, name: str) -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.order.append(name)
            with anyio.CancelScope(shield=True):
                self.order.append(await one(f"cleaned {name}"))
            raise


@aob.workflow
async def anyio_group_aborts() -> list[str]:
    stops = Stops()
    try:
        async with anyio.create_task_group() as group:
            for n in range(MANY):
                group.start_soon(stops.child, f"c{n}")
            await one("begun")
            raise ValueError
    except* ValueError:
        await one("aborted")
    return stops.order


@aob.workflow
async def anyio_scope_cancelled() -> list[str]:
    """A group's cancel scope is cancelled; groups inside it as well."""
    stops = Stops()

    async def inner(name: str) -> None:
        async with anyio.create_task_group() as group:
            for n in range(4):
                group.start_soon(stops.child, f"{name}.{n}")

    async with anyio.create_task_group() as group:
        for n in range(4):
            group.start_soon(inner, f"g{n}")
        await one("begun")
        group.cancel_scope.cancel()
    return stops.order


@aob.workflow
async def anyio_first_wins() -> list[str]:
    """The first child to end cancels the others; each waits for a step."""
    order: list[str] = []
    async with anyio.create_task_group() as group:

        async def leg(name: str) -> None:
            try:
                order.append(await one(name))
                group.cancel_scope.cancel()
            except anyio.get_cancelled_exc_class():
                order.append(f"lost {name}")
                raise

        for n in range(MANY):
            group.start_soon(leg, f"l{n}")
    return order


@aob.workflow
async def anyio_time_limits() -> list[str]:
    """`move_on_after`, `fail_after`, nested, one shielded."""
    order: list[str] = []
    stops = Stops()
    with anyio.move_on_after(0.02) as scope:
        await anyio.sleep(60)
    order.append(f"moved on {scope.cancelled_caught}")
    try:
        with anyio.fail_after(0.02):
            async with anyio.create_task_group() as group:
                for n in range(5):
                    group.start_soon(stops.child, f"c{n}")
    except TimeoutError:
        order += stops.order
    with anyio.move_on_after(60):
        order.append(await one("in time"))
    with anyio.move_on_after(0.01), anyio.CancelScope(shield=True):
        await anyio.sleep(0.03)
        order.append(await one("shielded"))
    return order


@aob.workflow
async def anyio_streams() -> list[str]:
    """Memory streams, events, locks, a limiter and started tasks."""
    order: list[str] = []
    send, receive = anyio.create_memory_object_stream[str](2)
    lock, limiter = anyio.Lock(), anyio.Semaphore(2)

    async def worker(name: str, *, task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started(await one(f"{name} ready"))
        async with receive.clone() as mine:
            async for item in mine:
                async with limiter:
                    got = await one(f"{name}:{item}")
                async with lock:
                    order.append(got)

    async with anyio.create_task_group() as group:
        for n in range(4):
            order.append(await group.start(worker, f"w{n}"))
        receive.close()
        async with send:
            for n in range(12):
                await send.send(f"i{n}")
    return order


@aob.workflow
async def anyio_and_asyncio() -> list[str]:
    """anyio's groups in tasks of asyncio's, cancelled from outside."""
    stops = Stops()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            for n in range(MANY):
                group.start_soon(stops.child, f"c{n}")
            await one("begun")
            scope.cancel()
            await anyio.sleep(60)
    stops.order.append(str(scope.cancelled_caught))
    return stops.order


FLOWS = [
    anyio_group_aborts, anyio_scope_cancelled, anyio_first_wins, anyio_time_limits, anyio_streams, anyio_and_asyncio,
]  # fmt: skip
