"""`crash_everywhere` passes what is right and names what is not: it is itself tested with planted bugs."""

import asyncio
from pathlib import Path

import pytest

import aob
import aob.testing
from aob.engine.active import ActiveRun
from aob.engine.commits import Commits
from aob.engine.dispatch import Dispatch
from aob.engine.group import Group
from aob.engine.host import Host
from aob.engine.inbox import Inbox
from aob.engine.wakeups import Wakeups
from aob.kernel import events as ev
from aob.stores.rows import Appended, Message

charged: list[str] = []


@aob.activity(retry=aob.Retry(initial=5))
async def charge(amount: int) -> str:
    await asyncio.sleep(1)
    charged.append(aob.info().idempotency_key)
    if aob.info().attempt < 2:
        raise ConnectionError("busy")
    return f"charged {amount}"


@aob.activity
def ship(order: str) -> str:
    return f"shipped {order}"


@aob.workflow
async def child(amount: int) -> str:
    await aob.sleep(10)
    return await charge(amount)


@aob.workflow
async def order(amount: int) -> list[str]:
    async with asyncio.TaskGroup() as tasks:
        a, b = tasks.create_task(child(amount)), tasks.create_task(charge(amount + 1))
    key = str(aob.uuid4())
    answer = await aob.wait_signal("go", str)
    return [a.result(), b.result(), await ship(key), answer, await aob.side_effect(lambda: "once")]


@aob.workflow
async def fails() -> None:
    await aob.sleep(1)
    await ship("x")
    raise ValueError("out of stock")


async def go(run: aob.Run[list[str]]) -> None:
    await run.signal("go", "yes", id="go")


@pytest.mark.parametrize("files", [False, True], ids=["memory", "sqlite"])
async def test_a_workflow_comes_to_the_same_end_wherever_its_worker_dies(files: bool, tmp_path: Path) -> None:
    directory = str(tmp_path) if files else None
    charged.clear()
    done = await aob.testing.crash_everywhere(
        order, 5, drive=go, directory=directory, at_most=6 if files else None, seed=3
    )
    assert done.kills == (18 if files else 3 * done.points)
    assert done.points > 10
    assert done.attempts > done.kills
    assert len(set(charged)) < len(charged) / 2


async def test_failures_are_compared_too() -> None:
    assert (await aob.testing.crash_everywhere(fails)).points > 3


async def test_only_the_deaths_asked_for() -> None:
    done = await aob.testing.crash_everywhere(fails, at_most=2, hows=["after"])
    assert done.kills == 2


async def test_two_crash_tests_in_one_loop_and_inside_an_environment() -> None:
    async with aob.testing.environment() as env:
        run = await env.start(fails)
        done = await asyncio.gather(
            aob.testing.crash_everywhere(fails, at_most=2), aob.testing.crash_everywhere(fails, at_most=2)
        )
        assert done[0] == done[1]
        with pytest.raises(aob.RunFailed, match="out of stock"):
            await run.result()


async def test_an_outcome_that_depends_on_the_process_is_found() -> None:
    lives: list[int] = []

    @aob.workflow
    async def forgetful() -> int:
        lives.append(1)
        await aob.sleep(1)
        return len(lives)

    with pytest.raises(aob.testing.CrashFailed, match=r"killed before write \d+ \(.*\): it ended as completed with"):
        await aob.testing.crash_everywhere(forgetful)


async def test_a_run_that_never_ends_is_named() -> None:
    @aob.workflow
    async def endless() -> None:
        await aob.wait_signal("never")

    with pytest.raises(aob.testing.CrashFailed, match="does not end, though nothing disturbs it"):
        await aob.testing.crash_everywhere(endless)


async def caught(match: str) -> None:
    with pytest.raises(aob.testing.CrashFailed, match=match):
        await aob.testing.crash_everywhere(order, 5, drive=go, seed=3)


async def test_an_idempotency_key_with_the_attempt_in_it_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def unstable(tenant: str, run_id: str, birth: str, step: str) -> str:
        calls.append(step)
        return f"{run_id}/{step}/{len(calls)}"

    monkeypatch.setattr("aob.worker.executor.idempotency_key", unstable)
    await caught("different idempotency keys|though nothing disturbed it")


async def test_a_result_that_is_seen_before_it_is_durable_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Dispatch.attempt_succeeded

    def early(self: Dispatch, attempt: object, data: bytes, value: object) -> None:
        original(self, attempt, data, value)  # pyright: ignore
        attempt.step.set_result(value)  # pyright: ignore

    monkeypatch.setattr(Dispatch, "attempt_succeeded", early)
    await caught(".")


async def test_a_store_error_that_is_swallowed_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def swallowed(self: Commits, group: Group, error: Exception) -> None:
        self._sent(group, Appended(committed=True))

    monkeypatch.setattr(Commits, "_not_sent", swallowed)
    await caught("after the store had failed|gone or changed|numbered|it ended as")


async def test_a_timer_that_fires_early_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Wakeups.set
    monkeypatch.setattr(Wakeups, "set", lambda self, key, due: original(self, key, due and due - 3_000_000))

    def early(self: Host, run: ActiveRun) -> None:
        assert run.machine is not None
        run.armed = None
        for timer in run.machine.timers.take_due(self.clock.now_us() + 3_000_000):
            self.record(run, ev.TimerFired(0, timer.id, timer.due))

    monkeypatch.setattr(Host, "fire_timers", early)
    await caught("though nothing disturbed it: .* the timer .* fired 3000000 µs early")


async def test_messages_taken_before_they_are_recorded_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inbox, "take", lambda self, messages: None)

    async def through_the_inbox(run: aob.Run[list[str]]) -> None:
        client = run._client
        body = b'{"name":"go","payload":"yes","id":"go"}'
        await client.store.send(Message(tenant=run.tenant, run_id=run.run_id, kind="signal", body=body))

    with pytest.raises(aob.testing.CrashFailed):
        await aob.testing.crash_everywhere(order, 5, drive=through_the_inbox)
