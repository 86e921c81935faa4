"""Virtual time, seeds, and what a stuck test is told."""

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import aob
import aob.testing

MONTH = timedelta(days=30)
AT = datetime(2030, 5, 1, tzinfo=UTC)


@aob.activity
async def slow(hours: float) -> float:
    await asyncio.sleep(hours * 3600)
    return hours


@aob.activity(timeout=60)
async def too_slow() -> None:
    await asyncio.sleep(3600)


@aob.activity
def blocking(x: int) -> int:
    time.sleep(0.01)
    return x * 2


@aob.activity(retry=aob.Retry(initial=60, jitter=0.5, max_attempts=3))
async def flaky() -> int:
    if aob.info().attempt < 3:
        raise ConnectionError("try again")
    return aob.info().attempt


@aob.activity
async def clock_of_an_activity() -> datetime:
    return aob.now()


@aob.workflow
async def sleeps(days: int) -> datetime:
    await aob.sleep(timedelta(days=days))
    return aob.now()


@aob.workflow
async def decades(naps: int) -> datetime:
    for _ in range(naps):
        await aob.sleep(timedelta(days=1234, seconds=0.1))
        await slow(7.7)
    return aob.now()


@aob.workflow
async def works() -> tuple[float, int, int]:
    return await slow(5), await blocking(4), await flaky()


@aob.workflow
async def times_out() -> str:
    try:
        await too_slow()
    except aob.StepTimeout as e:
        return f"{e.message} at {aob.now():%H:%M:%S}"
    return "in time"


@aob.workflow
async def chooses() -> list[str]:
    found = [str(aob.uuid4()), str(aob.random().random())]
    found.append(str(await flaky()))
    return found


@aob.workflow
async def asks() -> str:
    try:
        return await aob.wait_signal("answer", str, timeout=3600)
    except TimeoutError:
        return "nobody answered"


@aob.workflow
async def waits_for_ever() -> str:
    return await aob.wait_signal("never", str)


@aob.workflow
async def looks_at_clocks() -> tuple[datetime, datetime]:
    return aob.now(), await clock_of_an_activity()


async def test_a_month_of_sleep_passes_at_once_and_exactly() -> None:
    async with aob.testing.environment(at=AT) as env:
        run = await env.start(sleeps, 30)
        assert await run.result() == AT + MONTH
        assert env.now == AT + MONTH


async def test_time_stays_exact_for_decades() -> None:
    async with aob.testing.environment(at=AT) as env:
        took = 20 * timedelta(days=1234, seconds=0.1, hours=7.7)
        assert abs(await (await env.start(decades, 20)).result() - (AT + took)) < timedelta(milliseconds=0.1)


async def test_activities_sleep_virtually_too_and_threads_are_waited_for() -> None:
    async with aob.testing.environment(at=AT) as env:
        assert await (await env.start(works)).result() == (5.0, 8, 3)
        assert timedelta(hours=5, minutes=1) < env.now - AT < timedelta(hours=5, minutes=2)


async def test_time_outs_of_attempts_are_virtual() -> None:
    async with aob.testing.environment(at=AT) as env:
        assert await (await env.start(times_out)).result() == (
            "activity too_slow ran longer than its timeout of 60 s at 00:01:00"
        )


async def test_everybody_sees_the_same_virtual_clock() -> None:
    async with aob.testing.environment(at=AT) as env:
        await env.advance(5)
        run = await env.start(looks_at_clocks)
        assert await run.result() == (AT + timedelta(seconds=5), AT + timedelta(seconds=5))
    assert aob.now() - datetime.now(UTC) < timedelta(minutes=1)


async def test_a_seed_makes_the_same_history_and_another_seed_another() -> None:
    async def told(seed: int) -> list[aob.Event]:
        async with aob.testing.environment(seed=seed) as env:
            run = await env.start(chooses)
            await run.result()
            return await run.history()

    first, again, other = [await told(seed) for seed in (1, 1, 2)]
    assert first == again
    assert [e.kind for e in other] == [e.kind for e in first]
    assert other != first


async def test_advance_fires_timers_in_between_and_signals_come_in_time() -> None:
    async with aob.testing.environment(at=AT) as env:
        late, answered = await env.start(asks, run_id="late"), await env.start(asks, run_id="answered")
        await env.advance(timedelta(minutes=59))
        assert await late.status() == "waiting"
        await answered.signal("answer", "yes")
        await env.advance(60)
        assert [await run.status() for run in (late, answered)] == ["completed", "completed"]
        assert [await run.result() for run in (late, answered)] == ["nobody answered", "yes"]
        assert env.now == AT + timedelta(hours=1)


async def test_settle_waits_for_all_that_happens_without_time() -> None:
    async with aob.testing.environment(at=AT) as env:
        run = await env.start(asks)
        await env.settle()
        assert env.now == AT
        assert [e.kind for e in await run.history()] == ["run_started"]
        await run.signal("answer", "yes")
        await env.settle()
        assert env.now == AT
        assert await run.status() == "completed"


async def test_a_restart_replays_open_runs() -> None:
    async with aob.testing.environment() as env:
        run = await env.start(asks)
        await env.restart()
        await run.signal("answer", "still there")
        assert await run.result() == "still there"


async def test_a_test_that_waits_for_nothing_is_told_what_it_waits_for() -> None:
    with pytest.raises(aob.testing.Stuck, match="run lost waits for signal 'never'"):
        async with aob.testing.environment() as env:
            run = await env.start(waits_for_ever, run_id="lost")
            await run.result()
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


async def test_a_time_out_in_the_test_is_virtual_and_no_deadlock() -> None:
    async with aob.testing.environment(at=AT) as env:
        run = await env.start(waits_for_ever)
        for day in (86_400, timedelta(days=1)):
            with pytest.raises(TimeoutError):
                await run.result(timeout=day)
        assert env.now == AT + timedelta(days=2)


async def test_the_loop_is_given_back_with_the_timers_it_had() -> None:
    loop = asyncio.get_running_loop()
    rang: list[str] = []
    before = loop.call_later(0.05, rang.append, "before")
    far = loop.call_later(3600, rang.append, "far")
    async with aob.testing.environment() as env:
        inside = loop.call_later(3600 * 24 * 31, rang.append, "inside")
        await (await env.start(sleeps, 30)).result()
        assert rang == ["before", "far"]
    assert abs(loop.time() - time.monotonic()) < 60
    assert 0 < inside.when() - loop.time() <= 86_400
    inside.cancel()
    await asyncio.sleep(0.001)
    assert rang == ["before", "far"]
    assert before.cancelled() is far.cancelled() is False
    assert "time" not in vars(loop)


async def test_a_sqlite_file_keeps_runs_from_one_environment_to_the_next(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/aob.db"
    async with aob.testing.environment(url=url) as env:
        await env.start(asks, run_id="kept")
        await env.settle()
    async with aob.testing.environment(asks, url=url) as env:
        run = await env.client.get("kept")
        await run.signal("answer", "later")
        assert await run.result() == "later"


async def test_real_connections_are_waited_for() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        later, loop = asyncio.Event(), asyncio.get_running_loop()
        threading.Timer(0.2, loop.call_soon_threadsafe, (later.set,)).start()
        await later.wait()
        writer.write(b"hello\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    @aob.activity(timeout=30)
    async def call() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hi\n")
        try:
            return (await reader.readline()).decode()
        finally:
            writer.close()
            await writer.wait_closed()

    @aob.workflow
    async def calls() -> str:
        return await call()

    async with server, aob.testing.environment(activities=[call]) as env:
        assert await (await env.start(calls)).result() == "hello\n"
        assert env.now < datetime(2025, 1, 1, 0, 0, 10, tzinfo=UTC)


def test_it_needs_no_import_of_its_own() -> None:
    assert aob.testing.replay.__module__ == "aob.testing.replays"
    with pytest.raises(AttributeError, match="nothing_such"):
        aob.nothing_such  # noqa: B018
