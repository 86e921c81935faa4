"""Sagas: what was done is undone in reverse, whatever ended the block, once."""

from __future__ import annotations

import asyncio

import aob
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_b_cancel import note
from aob.testing.conformance.engine_b_setting import BesideSetting, failure, has, sound
from aob.testing.conformance.engine_harness import eventually, outcome


@aob.activity
async def breaks(message: str) -> None:
    raise ValueError(message)


@aob.workflow
async def books(trace: str, fails_at: int) -> list[str]:
    """Books three things; the one at `fails_at` fails."""
    done: list[str] = []
    async with aob.saga():
        for n in range(3):
            if n == fails_at:
                await breaks(f"{n} is full")
            done.append(await note(trace, f"book {n}"))
            aob.compensate(note, trace, f"undo {n}")
    return done


@aob.workflow
async def undoes_slowly(trace: str) -> None:
    """Fails, and needs a gate to undo."""
    async with aob.saga():
        aob.compensate(note, trace, "undo last")
        aob.compensate(flows.gate, trace, "undo")
        await note(trace, "done")
        await breaks("broken")


class SagaTests(BesideSetting):
    """Compensations."""

    async def test_saga_undoes_in_reverse_what_was_done_and_raises_on(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(books)
            for n, want in enumerate(([], ["undo 0"], ["undo 1", "undo 0"])):
                trace = engine.trace(f"t{n}")
                error = await failure(await client.start(books, trace.path, n))
                assert str(error.__cause__) == f"{n} is full"
                assert trace.lines() == [*(f"book {k}" for k in range(n)), *want]
            trace = engine.trace("good")
            assert await outcome(await client.start(books, trace.path, 9)) == ["book 0", "book 1", "book 2"]
            assert trace.lines() == ["book 0", "book 1", "book 2"]

    async def test_saga_may_be_caught_and_the_run_goes_on(self) -> None:
        @aob.workflow
        async def tries(trace: str) -> str:
            try:
                async with aob.saga():
                    aob.compensate(note, trace, "undo")
                    await breaks("broken")
            except ValueError:
                return await note(trace, "instead")
            return ""

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(tries)
            run = await client.start(tries, trace.path, run_id="r")
            assert await outcome(run) == "instead"
            assert trace.lines() == ["undo", "instead"]

    async def test_saga_goes_on_undoing_after_a_crash(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(undoes_slowly)
            await client.start(undoes_slowly, trace.path, run_id="r")
            await trace.until(2)
            await engine.crash()
            flows.open_gate(trace.path, "undo")
            client = await engine.open(undoes_slowly)
            run = await client.get("r")
            assert str((await failure(run)).__cause__) == "broken"
            assert trace.lines() == ["done", "undo", "undo", "through undo", "undo last"]
            await sound(run)

    async def test_saga_is_undone_when_the_run_is_cancelled_or_timed_out(self) -> None:
        @aob.workflow(timeout=1.0)
        async def waits(trace: str) -> None:
            async with aob.saga():
                await note(trace, "done")
                aob.compensate(note, trace, "undo")
                await aob.wait_signal("never")

        async with self.engine() as engine:
            client = await engine.open(waits)
            for how, kind in (("cancel", aob.RunCancelled), ("time out", aob.RunTimedOut)):
                trace = engine.trace(how)
                run = await client.start(waits, trace.path)
                await has(run, "step_completed")
                if how == "cancel":
                    await run.cancel()
                await failure(run, kind)
                assert trace.lines() == ["done", "undo"]

    async def test_saga_is_undone_to_its_end_though_a_cancel_comes(self) -> None:
        async with self.beside(undoes_slowly) as (engine, client, other):
            for n, from_here in enumerate((True, False)):
                trace = engine.trace(f"t{n}")
                run = await client.start(undoes_slowly, trace.path, run_id=f"r{n}")
                await trace.until(2)
                await (run if from_here else await other.get(f"r{n}")).cancel("meanwhile")
                await has(run, "cancel_requested")
                flows.open_gate(trace.path, "undo")
                await failure(run, aob.RunCancelled)
                assert trace.lines() == ["done", "undo", "through undo", "undo last"]
                await sound(run)

    async def test_saga_in_a_task_is_undone_to_its_end_when_its_group_is_aborted(self) -> None:
        @aob.workflow
        async def groups(trace: str) -> str:
            async def one() -> None:
                async with aob.saga():
                    aob.compensate(note, trace, "undo last")
                    aob.compensate(flows.gate, trace, "undo")
                    await breaks("broken")

            async def two() -> None:
                await aob.wait_signal("go")
                raise LookupError("beside it")

            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(one())
                    group.create_task(two())
            except ExceptionGroup as e:
                return ",".join(sorted(type(x).__name__ for x in e.exceptions))
            return ""

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(groups)
            run = await client.start(groups, trace.path, run_id="r")
            await trace.until(1)
            await run.signal("go")
            await has(run, "signal_received")
            flows.open_gate(trace.path, "undo")
            assert "LookupError" in await outcome(run)
            assert trace.lines() == ["undo", "through undo", "undo last"]

    async def test_saga_whose_undoing_fails_undoes_the_rest_and_raises_that_error(self) -> None:
        @aob.workflow
        async def cannot(trace: str) -> None:
            async with aob.saga():
                aob.compensate(note, trace, "first")
                aob.compensate(breaks, "stuck")
                aob.compensate(note, trace, "second")
                raise LookupError("why")

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(cannot)
            error = await failure(await client.start(cannot, trace.path))
            assert str(error.__cause__) == "stuck"
            assert trace.lines() == ["second", "first"]

    async def test_saga_takes_plain_and_async_functions_and_nests(self) -> None:
        @aob.workflow
        async def nested(trace: str) -> list[str]:
            seen: list[str] = []

            async def later(word: str) -> None:
                seen.append(await note(trace, word))

            try:
                async with aob.saga():
                    aob.compensate(seen.append, "outer")
                    async with aob.saga():
                        aob.compensate(later, "inner")
                    try:
                        async with aob.saga():
                            aob.compensate(later, word="caught")
                            raise LookupError("x")
                    except LookupError:
                        pass
                    raise ValueError("y")
            except ValueError:
                return seen
            return []

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(nested)
            assert await outcome(await client.start(nested, trace.path)) == ["caught", "outer"]

    async def test_saga_of_the_whole_run_is_undone_when_it_fails_but_not_when_it_returns(self) -> None:
        @aob.workflow
        async def whole(trace: str, how: str) -> str:
            for n in range(2):
                await note(trace, f"do {n}")
                aob.compensate(note, trace, f"undo {n}")
            if how == "fail":
                await breaks("broken")
            if how == "wait":
                await aob.wait_signal("never")
            return how

        async with self.engine() as engine:
            client = await engine.open(whole)
            for how in ("return", "fail", "wait"):
                trace = engine.trace(how)
                run = await client.start(whole, trace.path, how, run_id=how)
                if how == "wait":
                    await has(run, "step_completed", 2)
                    client = await engine.restart()
                    run = await client.get(how)
                    await run.cancel()
                    await failure(run, aob.RunCancelled)
                elif how == "fail":
                    assert str((await failure(run)).__cause__) == "broken"
                else:
                    assert await outcome(run) == "return"
                undone = [] if how == "return" else ["undo 1", "undo 0"]
                assert trace.lines() == ["do 0", "do 1", *undone]
                assert (await sound(run))[-1].data.get("compensated", False) is bool(undone)

    async def test_saga_of_the_whole_run_that_is_cancelled_while_it_undoes_ends_as_it_failed(self) -> None:
        @aob.workflow
        async def whole(trace: str) -> None:
            aob.compensate(note, trace, "undo last")
            aob.compensate(flows.gate, trace, "undo")
            await breaks("broken")

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(whole)
            run = await client.start(whole, trace.path, run_id="r")
            await trace.until(1)
            await run.cancel()
            client = await engine.restart()
            flows.open_gate(trace.path, "undo")
            run = await client.get("r")
            assert str((await failure(run)).__cause__) == "broken"
            assert trace.lines()[-2:] == ["through undo", "undo last"]
            await sound(run)

    async def test_saga_that_outlasts_the_grace_of_a_cancel_is_ended(self) -> None:
        @aob.workflow(cancel_grace=0.3)
        async def slow(trace: str) -> None:
            async with aob.saga():
                aob.compensate(flows.gate, trace, "undo")
                await aob.wait_signal("never")

        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(slow)
            run = await client.start(slow, trace.path)
            await run.cancel()
            await failure(run, aob.RunCancelled)
            assert (await sound(run))[-1].data["compensated"] is True
            await eventually(lambda: trace.lines() == ["undo"], "the gate")
