"""Items 17 and 20: `side_effect`, `emit`, `wait_until`."""

from __future__ import annotations

import asyncio
from typing import Any

import aob
from aob.client.run import Run
from aob.testing.conformance.engine_b_setting import BesideSetting, a_while, failure, has, of_kind, so_far
from aob.testing.conformance.engine_harness import outcome, reaches


@aob.activity
async def echo(value: Any = None) -> Any:
    return value


async def emitted(run: Run[Any]) -> list[Any]:
    """What a run has emitted, in order."""
    return [e.data["data"] for e in await of_kind(run, "emitted")]


class EffectTests(BesideSetting):
    """Items 17 and 20."""

    # --- 17 ---------------------------------------------------------------------------------------

    async def test_17_a_side_effect_is_made_once_and_its_value_kept(self) -> None:
        made: list[int] = []

        def draw() -> int:
            made.append(1)
            return 40 + len(made)

        @aob.workflow
        async def draws() -> list[int]:
            one = await aob.side_effect(draw)
            await aob.wait_signal("go")
            return [one, await aob.side_effect(draw)]

        async with self.engine() as engine:
            client = await engine.open(draws)
            run = await client.start(draws, run_id="r")
            (event,) = await has(run, "step_completed")
            assert (event.step, event.data["result"]) == ("side_effect#1", 41)
            client = await engine.restart()
            run = await client.get("r")
            await run.signal("go")
            assert await outcome(run) == [41, 42]
            assert len(made) == 2

    async def test_17_a_side_effect_that_raises_has_failed(self) -> None:
        made: list[int] = []

        def broken() -> int:
            made.append(1)
            raise LookupError("nothing there")

        @aob.workflow
        async def draws() -> str:
            try:
                await aob.side_effect(broken)
            except LookupError as e:
                await aob.wait_signal("go")
                return str(e)
            return ""

        async with self.engine() as engine:
            client = await engine.open(draws)
            await has(await client.start(draws, run_id="r"), "step_failed")
            client = await engine.restart()
            run = await client.get("r")
            await run.signal("go")
            assert await outcome(run) == "nothing there"
            assert len(made) == 1

    async def test_17_a_side_effects_value_must_be_plain(self) -> None:
        @aob.workflow
        async def draws() -> None:
            await aob.side_effect(lambda: object())

        async with self.serving(draws) as client:
            assert isinstance((await failure(await client.start(draws))).__cause__, aob.BadValue)

    async def test_17_what_is_emitted_reaches_a_watcher_once_and_in_order(self) -> None:
        @aob.workflow
        async def tells() -> None:
            for n in range(3):
                aob.emit("told", n)
                await echo()
                aob.emit("told", n + 0.5)
            await aob.wait_signal("go")
            aob.emit("told", "end")

        async with self.engine() as engine:
            client = await engine.open(tells)
            run = await client.start(tells, run_id="r")
            await has(run, "emitted", 6)
            client = await engine.restart()
            run = await client.get("r")
            watching = asyncio.create_task(_watched(run))
            await run.signal("go")
            await outcome(run)
            assert await watching == await emitted(run) == [0, 0.5, 1, 1.5, 2, 2.5, "end"]

    async def test_17_what_is_emitted_is_not_compared_on_replay(self) -> None:
        word = ["first"]

        @aob.workflow
        async def tells() -> str:
            aob.emit(word[0], {"at": word[0]})
            await aob.wait_signal("go")
            return "done"

        async with self.engine() as engine:
            client = await engine.open(tells)
            run = await client.start(tells, run_id="r")
            await has(run, "emitted")
            word[0] = "second"
            client = await engine.restart()
            run = await client.get("r")
            await run.signal("go")
            assert await outcome(run) == "done"
            assert (await of_kind(run, "emitted"))[0].data["name"] == "first"

    async def test_17_a_pass_that_emits_before_its_checkpoint_tells_the_next_passs_too(self) -> None:
        @aob.workflow
        async def tells() -> None:
            done: int = aob.checkpoint_state(int) or 0
            aob.emit("told", done)
            await aob.wait_signal("go")
            aob.emit("told", done + 0.5)
            if done < 3:
                aob.checkpoint(done + 1)

        async with self.engine() as engine:
            client = await engine.open(tells)
            run = await client.start(tells, run_id="r")
            for done in range(4):
                await has(run, "emitted", 2 * done + 1)
                client = await engine.restart()
                run = await client.get("r")
                await run.signal("go")
            await outcome(run)
            assert await emitted(run) == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]

    async def test_17_in_an_activity_it_is_live_progress_and_in_no_history(self) -> None:
        goes: list[bool] = []

        @aob.activity
        async def reports() -> None:
            while not goes:  # noqa: ASYNC110 (a test appends to it)
                await asyncio.sleep(0.005)
            aob.emit("progress", 0.5)

        @aob.workflow
        async def tells() -> None:
            await reports()
            await echo()

        async with self.serving(tells) as client:
            run = await client.start(tells)
            watching = asyncio.create_task(_streamed(run))
            await a_while()
            goes.append(True)
            await outcome(run)
            (item,) = await watching
            assert (item["name"], item["data"], item["attempt"]) == ("progress", 0.5, 1)
            assert await emitted(run) == []

    # --- 20 ---------------------------------------------------------------------------------------

    async def test_20_wait_until_looks_after_every_event(self) -> None:
        @aob.workflow
        async def counts() -> list[Any]:
            got: list[Any] = []

            async def collect() -> None:
                async for signal in aob.signals("add"):
                    got.append(signal)

            collecting = asyncio.create_task(collect())
            await aob.wait_until(lambda: len(got) >= 3)
            collecting.cancel()
            return got

        async with self.engine() as engine:
            client = await engine.open(counts)
            run = await client.start(counts, run_id="r")
            await run.signal("add", 1)
            await run.signal("add", 2)
            client = await engine.restart()
            run = await client.get("r")
            await a_while()
            assert await run.status() == "waiting"
            await run.signal("add", 3)
            assert await outcome(run) == [1, 2, 3]

    async def test_20_what_is_true_already_is_not_waited_for(self) -> None:
        @aob.workflow
        async def counts() -> int:
            await aob.wait_until(lambda: True)
            return 1

        async with self.serving(counts) as client:
            run = await client.start(counts)
            assert await outcome(run) == 1
            assert len(await run.history()) == 2

    async def test_20_one_condition_may_make_another_true(self) -> None:
        @aob.workflow
        async def chain() -> list[int]:
            got: list[int] = []

            async def link(n: int) -> None:
                await aob.wait_until(lambda: len(got) == n)
                got.append(n)

            links = [asyncio.create_task(link(n)) for n in (3, 1, 2)]
            await aob.wait_signal("go")
            got.append(0)
            await asyncio.gather(*links)
            return got

        async with self.serving(chain) as client:
            run = await client.start(chain)
            await run.signal("go")
            assert await outcome(run) == [0, 1, 2, 3]

    async def test_20_what_one_makes_false_lets_no_other_go_on(self) -> None:
        @aob.workflow
        async def takes_turns() -> list[int]:
            free, seen = 0, list[int]()

            async def one(timeout: float | None) -> None:
                nonlocal free
                await aob.wait_until(lambda: free > 0, timeout)
                free -= 1
                seen.append(free)
                await aob.sleep(0.01)
                free += 1

            waiting = [asyncio.create_task(one(timeout)) for timeout in (None, 60, None)]
            await aob.wait_signal("go")
            free += 1
            await asyncio.gather(*waiting)
            return seen

        async with self.serving(takes_turns) as client:
            run = await client.start(takes_turns)
            await run.signal("go")
            assert await outcome(run) == [0, 0, 0]

    async def test_20_a_timeout_that_passes_is_a_timeout_error(self) -> None:
        @aob.workflow
        async def waits() -> str:
            late: list[bool] = []
            try:
                await aob.wait_until(lambda: bool(late), timeout=0.1)
            except TimeoutError:
                late.append(True)
            await aob.wait_until(lambda: bool(late), timeout=60)
            return "late" if late else ""

        async with self.serving(waits) as client:
            assert await outcome(await client.start(waits)) == "late"

    async def test_20_a_predicates_error_is_raised_where_it_is_awaited(self) -> None:
        @aob.workflow
        async def waits() -> str:
            state: dict[str, int] = {"n": 0}

            async def listen() -> None:
                await aob.wait_signal("go")
                del state["n"]

            listening = asyncio.create_task(listen())
            try:
                await aob.wait_until(lambda: state["n"] > 0)
            except KeyError as e:
                await listening
                return f"KeyError {e}"
            return ""

        async with self.serving(waits) as client:
            run = await client.start(waits)
            await run.signal("go")
            assert await outcome(run) == "KeyError 'n'"

    async def test_20_a_predicate_must_not_await(self) -> None:
        async def later() -> bool:
            return True

        @aob.workflow
        async def waits(which: str) -> None:
            predicate: Any = {"async": later, "step": lambda: echo(True)}[which]
            await aob.wait_until(predicate)

        async with self.serving(waits) as client:
            for which in ("async", "step"):
                run = await client.start(waits, which)
                assert "must not await" in str((await failure(run)).__cause__)

    async def test_20_a_predicate_has_no_effects(self) -> None:
        @aob.workflow
        async def waits(at_once: bool) -> None:
            looked: list[int] = []

            def predicate() -> bool:
                looked.append(1)
                if at_once or len(looked) > 2:
                    aob.emit("looked")
                return False

            await aob.wait_until(predicate)

        async with self.serving(waits) as client:
            for at_once in (True, False):
                run = await client.start(waits, at_once)
                if not at_once:
                    await run.signal("go")
                assert "only read" in str((await failure(run)).__cause__)
                assert await emitted(run) == []

    async def test_20_a_cancelled_wait_is_over(self) -> None:
        looked: list[int] = []

        @aob.workflow
        async def waits() -> str:
            def predicate() -> bool:
                looked.append(1)
                return False

            waiting = asyncio.create_task(aob.wait_until(predicate))
            await aob.wait_signal("go")
            waiting.cancel()
            await asyncio.wait([waiting])
            before = len(looked)
            await aob.wait_signal("go")
            return "over" if len(looked) == before else "still looking"

        async with self.serving(waits) as client:
            run = await client.start(waits)
            await so_far(looked, 1)
            await run.signal("go")
            await reaches(run, "waiting")
            await run.signal("go")
            assert await outcome(run) == "over"


async def _watched(run: Run[Any]) -> list[Any]:
    return [e.data["data"] async for e in run.events() if e.kind == "emitted"]


async def _streamed(run: Run[Any]) -> list[dict[str, Any]]:
    return [e.data async for e in run.events(live=True) if e.kind == "stream" and e.seq is None]
