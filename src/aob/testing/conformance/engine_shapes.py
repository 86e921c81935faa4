"""Workflows of the engine suite whose steps come in many orders and ways."""

from __future__ import annotations

import asyncio

import aob
from aob.testing.conformance.engine_flows import leave


@aob.activity
async def one(text: str) -> str:
    return text


@aob.activity
async def two(text: str) -> str:
    return text


@aob.activity(name="uno")
async def renamed(text: str) -> str:
    return text


@aob.workflow
async def two_names() -> None:
    for n, text in enumerate("abcde"):
        await (two if n % 2 else one)(text)


@aob.workflow
async def awaits_backwards() -> list[str]:
    first, second, third = one("first"), one("second"), one("third")
    return [await third, await second, await first]


@aob.workflow
async def forgets() -> None:
    dropped = [one("a"), one("c")]
    await one("b")
    dropped.clear()
    await one("d")


@aob.workflow
async def tasks_first_run() -> None:
    tasks = [asyncio.create_task(one(f"task {n}")) for n in (1, 2)]  # type: ignore[arg-type]
    await one("direct")
    await asyncio.gather(*tasks)
    await one("last")


@aob.workflow
async def gathers(count: int) -> list[str]:
    return list(await asyncio.gather(*(one(f"g{n}") for n in range(count))))


@aob.workflow
async def with_options() -> None:
    await one("a")
    await one.options(timeout=5)("b")
    await renamed("c")


@aob.workflow
async def small(number: int) -> int:
    return number + 1


@aob.workflow
async def parent(number: int) -> int:
    return await small(number)


@aob.workflow
async def all_kinds() -> None:
    await aob.side_effect(lambda: 1)
    await aob.side_effect(lambda: 2)
    await aob.sleep(0.01)
    await small(1)
    await small(2)
    await aob.sleep(0.01)


@aob.workflow
async def races(count: int) -> list[str]:
    """Steps that end together, each followed by another one; the order in which they ended."""
    order: list[str] = []

    async def leg(name: str) -> None:
        order.append(await one(name))
        await two(f"after {name}")

    await asyncio.gather(*(leg(f"r{n}") for n in range(count)))
    return order


@aob.activity
async def fails_some(number: int, times: int) -> int:
    if aob.info().attempt <= times:
        raise ValueError(f"{number} failed")
    return number


@aob.workflow
async def fails(number: int) -> int:
    return await fails_some(number, 99)


@aob.activity
async def raises_here(kind: str) -> None:
    raise ValueError(f"from {kind}")


@aob.workflow
async def raises(kind: str) -> None:
    await one("first")
    if kind == "activity":
        await raises_here(kind)
    raise ValueError(f"from {kind}")


QUICK = aob.Retry(initial=0.02, factor=2.0, max_attempts=4, jitter=0.0)


@aob.workflow
async def fails_twice(number: int) -> int:
    return await fails_some.options(retry=QUICK)(number, 2)


@aob.activity(retry=aob.Retry(initial=0.3, factor=1.0, max_attempts=4, jitter=0.0))
async def attempts(trace: str) -> None:
    leave(trace, f"attempt {aob.info().attempt}")
    raise ValueError("again")


@aob.workflow
async def fails_always(trace: str) -> None:
    await attempts(trace)


@aob.workflow(fidelity="full")
async def in_full(number: int) -> int:
    return await fails_some.options(retry=QUICK)(number, 1)


@aob.workflow
async def timeouts() -> list[str]:
    """Four time-outs, of which the last one passes."""
    got: list[str] = []
    async with asyncio.timeout(60):
        got.append(await one("a"))
    got.append(await asyncio.wait_for(one("b"), 60))
    async with asyncio.timeout(60) as limit:
        limit.reschedule(None)
        got.append(await one("c"))
    try:
        async with asyncio.timeout(0.02):
            await asyncio.Event().wait()
    except TimeoutError:
        got.append("late")
    return got


@aob.workflow
async def many_timers() -> None:
    """Sleeps for a minute and an hour; then for less; then for ever."""
    tasks = [asyncio.create_task(asyncio.sleep(s)) for s in (3_600, 60)]
    await aob.wait_signal("sooner")
    tasks.append(asyncio.create_task(asyncio.sleep(5)))
    await aob.wait_signal("never")
    for task in tasks:
        task.cancel()
    await aob.wait_signal("end")
