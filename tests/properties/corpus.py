"""Small workflows, each for one thing that must replay. Golden histories hold them for ever: add, never change one.

Their results depend on every decision that they make, so that a replay that decides otherwise shows.
"""

import asyncio
import contextlib
import contextvars
import enum
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import anyio
import pydantic

import aob
from aob.testing import Environment

Drive = Callable[[Environment, aob.Run[Any]], Awaitable[None]]


class Case(NamedTuple):
    """A workflow, its input, and what the outside does to it."""

    workflow: aob.Workflow[..., Any]
    args: tuple[Any, ...]
    drive: Drive

    @property
    def name(self) -> str:
        return self.workflow.name


CASES: dict[str, Case] = {}


async def nothing(env: Environment, run: aob.Run[Any]) -> None:
    """The outside leaves it alone."""


def case(*args: Any, drive: Drive = nothing) -> Callable[[aob.Workflow[..., Any]], aob.Workflow[..., Any]]:
    def register(workflow: aob.Workflow[..., Any]) -> aob.Workflow[..., Any]:
        CASES[workflow.name] = Case(workflow, args, drive)
        return workflow

    return register


# --- activities -------------------------------------------------------------------------------------------------------


@aob.activity
async def work(name: str, seconds: float = 0) -> str:
    await asyncio.sleep(seconds)
    return f"{name} after {seconds:g} s"


@aob.activity
async def broken(name: str, seconds: float = 0) -> str:
    await asyncio.sleep(seconds)
    raise LookupError(name)


@aob.activity(retry=aob.Retry(initial=1, jitter=0.2, max_attempts=4))
async def flaky(times: int) -> int:
    if aob.info().attempt <= times:
        raise ConnectionError(f"attempt {aob.info().attempt}")
    return aob.info().attempt


@aob.activity(on_cancel="wait")
async def careful() -> str:
    try:
        await asyncio.sleep(100)
    finally:
        await asyncio.sleep(2)
    return "finished"


# --- steps and tasks --------------------------------------------------------------------------------------------------


@case(4)
@aob.workflow
async def sequence(count: int) -> list[str]:
    return [await work(f"step {i}", i) for i in range(count)]


@case()
@aob.workflow
async def gathers() -> list[Any]:
    first = await asyncio.gather(work("c", 3), work("a", 1), broken("b", 2), work("d"), return_exceptions=True)
    second = await asyncio.gather(work("x", 2), broken("y", 1), return_exceptions=True)
    return [str(result) for result in (*first, *second)]


@case(5)
@aob.workflow
async def task_group(count: int) -> list[str]:
    order: list[str] = []

    async def one(i: int) -> None:
        order.append(await work(f"t{i}", (i * 7) % count))
        order.append(await work(f"u{i}", (i * 3) % count))

    async with asyncio.TaskGroup() as tasks:
        for i in range(count):
            tasks.create_task(one(i))
    return order


@case(6)
@aob.workflow
async def task_group_aborts(count: int) -> list[str]:
    order: list[str] = []

    async def one(i: int) -> None:
        try:
            await work(f"slow {i}", 50)
        finally:
            order.append(f"stopped {i}")
            await work(f"cleanup {i}")

    try:
        async with asyncio.TaskGroup() as tasks:
            for i in range(count):
                tasks.create_task(one(i))
            tasks.create_task(broken("bad", 1))
    except* LookupError as group:
        order.append(str(group.exceptions[0]))
    return order


@case()
@aob.workflow
async def completed_first() -> list[str]:
    order = [await done for done in asyncio.as_completed([work("b", 2), work("a", 1), work("c", 3)])]
    pending = {asyncio.create_task(work(f"w{i}", 4 - i)) for i in range(4)}
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        order += sorted(task.result() for task in done)
    return order


@case()
@aob.workflow
async def primitives() -> list[str]:
    told: list[str] = []
    queue: asyncio.Queue[int] = asyncio.Queue(2)
    lock, gate, door = asyncio.Lock(), asyncio.Semaphore(2), asyncio.Event()

    async def produce() -> None:
        for i in range(5):
            await work("make", i % 2)
            await queue.put(i)
        door.set()

    async def consume(name: str) -> None:
        while not door.is_set() or not queue.empty():
            item = await queue.get()
            async with gate, lock:
                told.append(f"{name} {item} {await work('use', 1)}")
            if item == 4:
                return

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(produce())
        tasks.create_task(consume("ann"))
    return told


@case()
@aob.workflow
async def generators() -> list[str]:
    async def numbers() -> AsyncIterator[str]:
        try:
            for i in range(4):
                yield await work(f"n{i}")
        finally:
            await work("closed")

    out: list[str] = []
    source = numbers()
    async for text in source:
        out.append(text)
        if len(out) == 2:
            break
    await source.aclose()  # pyright: ignore
    return out


@case()
@aob.workflow
async def context_variables() -> list[str]:
    who = contextvars.ContextVar("who", default="nobody")

    async def one(name: str) -> str:
        who.set(name)
        await work(name, len(name))
        return who.get()

    found = await asyncio.gather(one("ann"), one("bo"), asyncio.create_task(one("charles")))
    return [*found, who.get()]


@case()
@aob.workflow
async def with_anyio() -> list[str]:
    order: list[str] = []

    async def one(name: str, seconds: float) -> None:
        try:
            await anyio.sleep(seconds)
            order.append(await work(name))
        finally:
            order.append(f"left {name}")

    with anyio.move_on_after(5) as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, "quick", 1)
            tasks.start_soon(one, "slow", 50)
            tasks.start_soon(one, "slower", 60)
    order.append(f"moved on: {scope.cancelled_caught}")
    with anyio.CancelScope(shield=True):
        order.append(await work("shielded", 1))
    return order


@case()
@aob.workflow
async def takes_turns() -> list[str]:
    told: list[str] = []
    free = 1

    async def one(name: str, seconds: float) -> None:
        nonlocal free
        await aob.wait_until(lambda: free > 0)
        free -= 1
        told.append(f"{await work(name, seconds)}, {free} free")
        free += 1

    await asyncio.gather(one("a", 2), one("b", 3), one("c", 1), one("d", 1))
    return told


# --- time -------------------------------------------------------------------------------------------------------------


@case()
@aob.workflow
async def timers() -> list[str]:
    told: list[str] = []
    began = aob.now()

    async def ring(seconds: float) -> None:
        await aob.sleep(seconds)
        told.append(f"{seconds:g} at {(aob.now() - began).total_seconds():g}")

    await asyncio.gather(*(ring(s) for s in (5, 1, 3, 1, 86_400, 0)))
    return told


@case()
@aob.workflow
async def timeouts() -> list[str]:
    told: list[str] = []
    try:
        async with asyncio.timeout(3):
            await work("too slow", 10)
    except TimeoutError:
        told.append("timed out")
    try:
        await asyncio.wait_for(work("slow too", 10), 2)
    except TimeoutError:
        told.append("again")
    async with asyncio.timeout(10):
        told.append(await work("in time", 2))
    return told


@case()
@aob.workflow(timeout=30)
async def deadline() -> None:
    try:
        await aob.sleep(1000)
    finally:
        await work("cleanup", 1)


# --- messages ---------------------------------------------------------------------------------------------------------


async def posts(env: Environment, run: aob.Run[Any]) -> None:
    for i in range(3):
        await run.signal("other", i)
        await run.signal("post", f"p{i}", id=f"{i}")
        await env.advance(3)


@case(drive=posts)
@aob.workflow
async def signals() -> list[Any]:
    got: list[Any] = [await aob.wait_signal("post", str)]
    await work("reads", 5)
    got.append(await aob.wait_signal("post", str))
    try:
        got.append(await aob.wait_signal("nobody", timeout=1))
    except TimeoutError:
        got.append("nobody wrote")
    first, second = await asyncio.gather(aob.wait_signal("other", int), aob.wait_signal("post", str))
    return [*got, first, second]


async def visits(env: Environment, run: aob.Run[Any]) -> None:
    for i in range(3):
        await run.update("put", i, id=f"u{i}")
        assert await run.query("total") >= i
    try:
        await run.update("put", -1)
    except ValueError:
        await run.signal("close")


@case(drive=visits)
@aob.workflow
async def queries_and_updates() -> list[str]:
    book: list[str] = []

    @aob.query
    def total() -> int:
        return len(book)

    @aob.update
    async def put(n: int) -> int:
        book.append(await work(f"put {n}", 2 - n))
        return len(book)

    @put.validator
    def check(n: int) -> None:
        if n < 0:
            raise ValueError("no less than nothing")

    await aob.wait_until(lambda: len(book) >= 3)
    book.append("enough")
    await aob.wait_signal("close")
    return book


async def decides(env: Environment, run: aob.Run[Any]) -> None:
    await env.settle()
    (ticket,) = await env.client.tickets()
    await env.client.decide(ticket.id, True, by="ann", reason="fine", data={"amount": 5})


@case(drive=decides)
@aob.workflow
async def approvals() -> list[Any]:
    first = await aob.approval("Refund?", data={"amount": 7})
    second = await aob.approval("And this?", timeout=60, on_timeout="escalate", escalate_to=["bob", "eve"])
    return [first.approved, first.by, first.data, second.approved, second.by]


# --- children ---------------------------------------------------------------------------------------------------------


@aob.workflow
async def child(name: str, seconds: float) -> str:
    await aob.sleep(seconds)
    if name == "bad":
        raise ValueError(name)
    return await work(name)


@case()
@aob.workflow
async def children() -> list[str]:
    told = list(await asyncio.gather(child("b", 2), child("a", 1)))
    try:
        await child("bad", 1)
    except aob.RunFailed as e:
        told.append(type(e).__name__)
    handle = await child.options(detached=True)("later", 500)
    return [*told, handle.run_id]


@case()
@aob.workflow
async def abandons_children() -> str:
    try:
        async with asyncio.timeout(5):
            await asyncio.gather(child("slow", 100), child("slower", 200))
    except TimeoutError:
        return await work("left them")
    return "waited"


# --- sagas and ends ---------------------------------------------------------------------------------------------------


@case()
@aob.workflow
async def saga() -> list[str]:
    undone: list[str] = []

    async def undo(what: str) -> None:
        undone.append(await work(f"undo {what}", 1))

    try:
        async with aob.saga():
            for what in ("flight", "hotel", "car"):
                await work(what)
                aob.compensate(undo, what)
            await broken("train")
    except LookupError:
        undone.append("all undone")
    return undone


@case()
@aob.workflow
async def compensates_the_run() -> None:
    await work("paid")
    aob.compensate(work, "refunded", 1)
    raise RuntimeError("sold out") from KeyError("item")


async def cancels(env: Environment, run: aob.Run[Any]) -> None:
    await env.advance(3)
    await run.cancel("enough")


@case(drive=cancels)
@aob.workflow
async def cancelled() -> None:
    try:
        await asyncio.gather(work("a", 50), careful(), child("c", 60))
    finally:
        await work("cleanup", 1)
        await aob.sleep(1)


@case(drive=cancels)
@aob.workflow
async def refuses_to_stop() -> str:
    try:
        await aob.sleep(50)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
    return await work("went on", 2)


async def pauses(env: Environment, run: aob.Run[Any]) -> None:
    await env.advance(2)
    await run.pause("lunch")
    await run.signal("post", "while paused")
    await env.advance(3600)
    await run.resume()


@case(drive=pauses)
@aob.workflow
async def paused() -> list[str]:
    told = [await work("before", 4)]
    told.append(await aob.wait_signal("post", str))
    await aob.sleep(10)
    return [*told, await work("after")]


@case()
@aob.workflow
async def retries() -> list[int]:
    return list(await asyncio.gather(flaky(0), flaky(1), flaky(3)))


@case()
@aob.workflow
async def fails() -> None:
    try:
        await flaky(9)
    except ConnectionError as e:
        raise ValueError("gave up") from e


@case()
@aob.workflow(limits=aob.Limits(steps=3))
async def exhausted() -> None:
    try:
        for i in range(10):
            await work(f"{i}")
    finally:
        await work("cleanup")


# --- what is recorded -------------------------------------------------------------------------------------------------


@case()
@aob.workflow
async def drawn() -> list[str]:
    numbers = [str(aob.uuid4())]
    if aob.random().random() < 0.5:
        numbers.append(await work("heads"))
    else:
        numbers.append(await work("tails", 1))
    names = ["x", "y", "z"]
    aob.random().shuffle(names)
    return [*numbers, *names, str(aob.random().gauss(0, 1)), str(aob.uuid4())]


@case()
@aob.workflow
async def side_effects() -> list[Any]:
    clock = iter(range(100))
    return [await aob.side_effect(lambda: next(clock)) for _ in range(3)]


@case()
@aob.workflow
async def emits() -> int:
    for i in range(3):
        aob.emit("progress", {"done": i})
        await work(f"{i}")
    aob.emit("ready")
    return 3


@case()
@aob.workflow
async def versioned() -> list[str]:
    told = [await work("old")]
    if aob.changed("add-a-step"):
        told.append(await work("new"))
    await aob.sleep(1)
    return [*told, str(aob.changed("add-a-step"))]


async def posts_once(env: Environment, run: aob.Run[Any]) -> None:
    await run.signal("post", "unread")


@case(4, drive=posts_once)
@aob.workflow
async def rounds(count: int) -> list[str]:
    state = aob.checkpoint_state(list[str]) or []
    state.append(f"{await work('round', 1)} {aob.random().randrange(1000)}")
    if len(state) < count:
        aob.emit("round", len(state))
        aob.checkpoint(state)
    return [*state, await aob.wait_signal("post", str)]


@case(2)
@aob.workflow(fidelity="full")
async def in_full(count: int) -> list[Any]:
    return [await flaky(i) for i in range(count)] + [await child("c", 1)]


@case()
@aob.workflow
async def regroups() -> list[str]:
    order = aob.checkpoint_state(list[str])
    if order is None:
        aob.checkpoint(list(await asyncio.gather(*(work(f"first {i}") for i in range(3)))))

    async def one(i: int) -> None:
        try:
            await work(f"slow {i}", 50)
        finally:
            order.append(f"stopped {i}")
            await work(f"cleanup {i}")

    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as tasks:
            for i in range(6):
                tasks.create_task(one(i))
            tasks.create_task(broken("bad", 1))
    return order


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    when: datetime


class Order(pydantic.BaseModel):
    price: Decimal
    tags: set[str]
    colour: Colour
    points: dict[str, Point] = {}
    wait: timedelta = timedelta(0)


@aob.activity
async def price(order: Order) -> Order:
    points = {tag: Point(len(tag), datetime(2024, 2, 29, tzinfo=UTC)) for tag in sorted(order.tags)}
    return order.model_copy(update={"price": order.price * 2, "points": points, "wait": timedelta(hours=1.5)})


@case(Order(price=Decimal("9.95"), tags={"new", "gift", "red", "small"}, colour=Colour.RED))
@aob.workflow
async def typed(order: Order) -> tuple[Order, list[str], frozenset[int]]:
    priced = await price(order)
    seen = [await work(f"{tag} {priced.points[tag].x}") for tag in sorted(priced.tags)]
    return priced, seen, frozenset(point.x for point in priced.points.values())


WORKFLOWS = (*(c.workflow for c in CASES.values()), child)
