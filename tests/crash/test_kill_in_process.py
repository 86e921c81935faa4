"""I1 to I9 again, by `crash_everywhere`: every write of the corner cases that the killed processes do not meet.

In virtual time a death costs milliseconds, so what is rare is tried here: runs that left memory, families, retries that
wait, approvals, updates.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import aob
import aob.testing

FORGETFUL = aob.Settings(resident_runs=1)
"""Every waiting run leaves memory as soon as another one comes."""


@aob.activity
async def work(n: int) -> int:
    await asyncio.sleep(1)
    return n + 1


@aob.activity(retry=aob.Retry(initial=30, jitter=0))
async def second_time_lucky(n: int) -> int:
    if aob.info().attempt < 3:
        raise ConnectionError("busy")
    return n


@aob.workflow
async def child(n: int) -> int:
    await aob.sleep(10 * n)
    return await work(n)


@aob.workflow
async def failing_child(n: int) -> int:
    await aob.sleep(n)
    raise ValueError(f"child {n}")


@aob.workflow
async def endless_child() -> None:
    try:
        await aob.wait_signal("never")
    finally:
        await work(0)


@aob.workflow
async def one_by_one(n: int) -> list[int]:
    return [await child(i) for i in range(n)]


@aob.workflow
async def at_once(n: int) -> list[int]:
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(child(i)) for i in range(n)]
    return [task.result() for task in made]


@aob.workflow
async def generations(n: int) -> int:
    if n == 0:
        return await child(1)
    await aob.sleep(5)
    return await generations(n - 1) + 1


@aob.workflow
async def abandons() -> str:
    try:
        async with asyncio.timeout(20):
            await endless_child()
    except TimeoutError:
        pass
    await aob.sleep(60)
    return "went on"


@aob.workflow
async def leaves_children_behind() -> str:
    task = asyncio.create_task(endless_child())
    await aob.sleep(10)
    assert not task.done()
    return "done"


@aob.workflow
async def fails_with_a_child() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(endless_child())
        tasks.create_task(failing_child(5))


@aob.workflow
async def naps_briefly() -> int:
    await aob.sleep(0.05)  # as long as it takes until a waiting run is written down as one
    return await work(1)


@aob.workflow
async def retries() -> int:
    return await second_time_lucky(1) + await second_time_lucky(2)


@aob.workflow
async def detaches() -> str:
    handle = await child.options(detached=True)(3)
    await aob.signal_run(handle.run_id, "hello", 1)
    return handle.run_id


@aob.workflow
async def accounts(until: int) -> list[str]:
    book: list[str] = []

    @aob.update
    async def deposit(amount: int) -> int:
        book.append(f"deposit {amount}")
        return await work(amount)

    @aob.query
    def balance() -> int:
        return len(book)

    await aob.wait_until(lambda: len(book) >= until)
    await aob.wait_signal("close")
    return book


@aob.workflow
async def asks() -> list[Any]:
    first = await aob.approval("Refund?", data={"amount": 7}, timeout=3600, on_timeout="reject")
    second = await aob.approval("Really?", timeout=600, on_timeout="escalate", escalate_to="boss")
    return [first.approved, first.by, second.approved]


@aob.workflow(timeout=100)
async def passes_its_deadline() -> None:
    try:
        await aob.sleep(1000)
    finally:
        await work(1)


async def nothing(run: aob.Run[Any]) -> None:
    pass


async def deposits(run: aob.Run[Any]) -> None:
    for n in range(3):
        assert await run.update("deposit", n, id=f"d{n}") == n + 1
    assert await run.query("balance") == 3
    await run.signal("close", id="close")


async def decides(run: aob.Run[Any]) -> None:
    client = run._client
    await asyncio.sleep(1)
    (ticket,) = [t for t in await client.tickets(None) if t.title == "Refund?"]
    if ticket.status == "open":
        await client.decide(ticket.id, True, by="ann", reason="fine")


async def cancels(run: aob.Run[Any]) -> None:
    await asyncio.sleep(7)
    await run.cancel("enough")


async def pauses(run: aob.Run[Any]) -> None:
    await asyncio.sleep(3)
    await run.pause()
    await asyncio.sleep(100)
    await run.resume()


Drive = Callable[[aob.Run[Any]], Awaitable[None]]
CASES: list[tuple[aob.Workflow[..., Any], tuple[Any, ...], Drive]] = [
    (one_by_one, (3,), nothing),
    (at_once, (3,), nothing),
    (at_once, (3,), cancels),
    (at_once, (3,), pauses),
    (generations, (3,), nothing),
    (generations, (3,), cancels),
    (abandons, (), nothing),
    (leaves_children_behind, (), nothing),
    (fails_with_a_child, (), nothing),
    (naps_briefly, (), nothing),
    (retries, (), nothing),
    (retries, (), cancels),
    (retries, (), pauses),
    (detaches, (), nothing),
    (accounts, (3,), deposits),
    (asks, (), decides),
    (passes_its_deadline, (), nothing),
]


@pytest.mark.parametrize("settings", [None, FORGETFUL], ids=["in memory", "evicted"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].name}-{case[2].__name__}")
async def test_a_death_at_any_write_changes_nothing(
    case: tuple[aob.Workflow[..., Any], tuple[Any, ...], Drive], settings: aob.Settings | None
) -> None:
    workflow, args, drive = case
    done = await aob.testing.crash_everywhere(workflow, *args, drive=drive, settings=settings)
    assert done.points >= 4
