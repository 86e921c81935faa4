"""The simulated event loop: time jumps, the dead stay as they are, the stopped go on where they were."""

import asyncio
from contextvars import Context, copy_context

import pytest

from aob.testing.simulation.clocks import ORIGIN_US, SimClock
from aob.testing.simulation.loop import LIFE, Deadlock, Life, SimLoop


def in_life(life: Life, coro) -> asyncio.Task[None]:
    context = copy_context()
    context.run(LIFE.set, life)
    return asyncio.get_running_loop().create_task(coro, context=context)


def live(world) -> float:
    loop = SimLoop()
    try:
        loop.live(world(loop))
        return loop.time()
    finally:
        loop.bury()


def test_a_month_passes_at_once() -> None:
    async def world(_: SimLoop) -> None:
        await asyncio.sleep(30 * 86_400)

    assert live(world) == 30 * 86_400


def test_no_cleanup_code_runs_in_a_kill() -> None:
    said: list[str] = []

    async def worker() -> None:
        try:
            await asyncio.sleep(10)
            said.append("done")
        finally:
            said.append("cleanup")

    async def world(loop: SimLoop) -> None:
        life = Life("a", None)
        loop.born(life)
        in_life(life, worker())
        await asyncio.sleep(5)
        loop.kill(life)
        await asyncio.sleep(100)
        assert said == []

    live(world)


def test_who_is_stopped_goes_on_later_with_what_came_meanwhile() -> None:
    at: list[tuple[str, float]] = []

    async def worker(loop: SimLoop, news: asyncio.Event) -> None:
        await news.wait()
        at.append(("news", loop.time()))
        await asyncio.sleep(1)
        at.append(("slept", loop.time()))

    async def world(loop: SimLoop) -> None:
        life, news = Life("a", None), asyncio.Event()
        loop.born(life)
        in_life(life, worker(loop, news))
        await asyncio.sleep(1)
        loop.stop_life(life)
        news.set()
        await asyncio.sleep(9)
        loop.go_on(life)
        await asyncio.sleep(5)

    live(world)
    assert at == [("news", 10.0), ("slept", 11.0)]


def test_tasks_of_a_process_belong_to_it_though_their_context_is_empty() -> None:
    async def nothing() -> None:
        await asyncio.sleep(1)

    async def parent() -> None:
        asyncio.get_running_loop().create_task(nothing(), context=Context())
        await asyncio.sleep(0)

    async def world(loop: SimLoop) -> None:
        life = Life("a", None)
        loop.born(life)
        in_life(life, parent())
        await asyncio.sleep(0.5)
        assert len(life.tasks) == 2

    live(world)


def test_waiting_for_nothing_is_a_deadlock() -> None:
    async def world(loop: SimLoop) -> None:
        await loop.create_future()

    with pytest.raises(Deadlock, match="nothing is left"):
        live(world)


def test_going_round_for_ever_is_noticed() -> None:
    async def world(loop: SimLoop) -> None:
        def again() -> None:
            loop.call_soon(again)

        again()
        await asyncio.sleep(1)

    with pytest.raises(Deadlock, match="round and round"):
        live(world)


def test_a_wall_clock_that_is_set_forward_wakes_who_waits_for_it() -> None:
    fired: list[float] = []

    async def world(loop: SimLoop) -> None:
        clock = SimClock(loop)
        clock.call_at(ORIGIN_US + 3_600_000_000, lambda: fired.append(loop.time()))
        await asyncio.sleep(60)
        clock.set_to(3_600)
        await asyncio.sleep(60)

    live(world)
    assert len(fired) == 1
    assert 60 <= fired[0] <= 65


def test_a_clock_that_goes_fast_comes_early() -> None:
    async def world(loop: SimLoop) -> None:
        await SimClock(loop, rate=2.0).sleep(100)
        assert loop.time() == 50

    live(world)
