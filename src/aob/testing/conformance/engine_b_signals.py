"""Item 18: signals wait in the run's mailbox, in order, and count once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import aob
from aob.errors import BadInput, RunFinished, RunNotFound
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_b_setting import BesideSetting, has, of_kind, sound
from aob.testing.conformance.engine_harness import outcome, refused


@dataclass
class Vote:
    name: str
    count: int


@aob.workflow
async def reads_late(count: int) -> list[Any]:
    """Reads signals `vote` only after `go`."""
    await aob.wait_signal("go")
    return [await aob.wait_signal("vote") for _ in range(count)]


class SignalTests(BesideSetting):
    """Item 18."""

    async def test_18_signal_before_wait_is_kept_in_order(self) -> None:
        async with self.beside(reads_late) as (engine, client, other):
            run = await client.start(reads_late, 6, run_id="r")
            there = await other.get("r")
            for n in range(4):
                await (there if n % 2 else run).signal("vote", n)
            client = await engine.restart(reads_late)
            run = await client.get("r")
            await run.signal("vote", 4)
            await run.signal("vote", 5)
            await run.signal("go")
            assert await outcome(run) == [0, 1, 2, 3, 4, 5]
            await sound(run)

    async def test_18_any_text_is_an_id_or_a_name(self) -> None:
        @aob.workflow
        async def counts() -> list[Any]:
            told: list[Any] = []

            @aob.update
            def put(number: int) -> int:  # pyright: ignore[reportUnusedFunction]
                told.append(number)
                return number

            await aob.wait_signal("go")
            return [told, await aob.wait_signal("vo\0te"), await aob.wait_signal("vo\0te")]

        async with self.beside(counts) as (engine, client, other):
            run = await client.start(counts, run_id="r")
            for told in (await other.get("r"), run, None):
                if told is None:
                    client = await engine.restart(counts)
                run = told or await client.get("r")
                await run.signal("vo\0te", 1, id="a\0b")
                assert await run.update("put", 2, id="\0") == 2
            await run.signal("vo\0te", 3)
            await run.signal("go")
            assert await outcome(run) == [[2], 1, 3]
            await sound(run)

    async def test_18_no_run_has_a_name_that_cannot_be_stored(self) -> None:
        @aob.workflow
        async def tells(run_id: str) -> str:
            try:
                await aob.signal_run(run_id, "go")
            except aob.AobError as e:
                return e.code
            return "told"

        async with self.serving(tells) as client:
            for wrong in ({"tenant": "\0"}, {"workflow": "\0"}):
                start = client.start(wrong.get("workflow", tells), "r", tenant=wrong.get("tenant"))
                assert "cannot name" in await refused(start, BadInput)
            await refused(client.get("r\0"), RunNotFound)
            assert await outcome(await client.start(tells, "r\0")) in ("run_not_found", "bad_run_id")

    async def test_18_what_is_no_text_is_refused_and_work_goes_on(self) -> None:
        wrong = "\ud800"

        @aob.workflow
        async def says() -> list[str]:
            said: list[str] = []
            calls: list[Callable[[str], object]] = [aob.emit, aob.changed, partial(aob.signal_run, "r")]
            for call in calls:
                try:
                    call(wrong)
                except BadInput as e:
                    said.append(e.code)
            return said

        async with self.beside(reads_late, says) as (_, client, other):
            assert await outcome(await client.start(says)) == ["bad_input"] * 3
            run = await client.start(reads_late, 1, run_id="r")
            for told in (run, await other.get("r")):
                for call in (
                    told.signal(wrong), told.signal("vote", id=wrong), told.update("put", id=wrong),
                    told.cancel(wrong), told.pause(wrong), told.terminate(wrong),
                    client.start(reads_late, 1, tenant=wrong), client.start(reads_late, 1, attributes={"a": wrong}),
                    client.start(reads_late, 1, run_id="r", signal=("vote", 1, wrong)),
                    client.decide("t", True, by=wrong), client.decide("t", True, by="bob", reason=wrong),
                ):  # fmt: skip
                    assert "lone surrogate" in await refused(call, BadInput)
            await run.signal("vote", 1)
            await run.signal("go")
            assert await outcome(run) == [1]

    async def test_18_each_name_has_its_own_order(self) -> None:
        @aob.workflow
        async def both() -> list[Any]:
            await aob.wait_signal("go")
            second = [await aob.wait_signal("b") for _ in range(2)]
            return [second, [await aob.wait_signal("a") for _ in range(2)]]

        async with self.serving(both) as client:
            run = await client.start(both)
            for name, payload in (("a", 1), ("b", 2), ("a", 3), ("b", 4), ("go", None)):
                await run.signal(name, payload)
            assert await outcome(run) == [[2, 4], [1, 3]]

    async def test_18_waiters_of_one_name_are_served_in_their_order(self) -> None:
        @aob.workflow
        async def queue() -> list[Any]:
            async def one(n: int) -> list[Any]:
                return [n, await aob.wait_signal("next")]

            return list(await asyncio.gather(*(one(n) for n in range(3))))

        async with self.serving(queue) as client:
            run = await client.start(queue)
            for payload in "abc":
                await run.signal("next", payload)
            assert await outcome(run) == [[0, "a"], [1, "b"], [2, "c"]]

    async def test_18_unread_ones_are_listed_at_the_end(self) -> None:
        @aob.workflow
        async def leaves(how: str) -> int:
            await aob.wait_signal("go")
            if how == "fails":
                raise ValueError("no")
            if how == "waits":
                await aob.wait_signal("never")
            return 1

        async with self.serving(leaves) as client:
            for how, end in (("returns", "run_completed"), ("fails", "run_failed"), ("waits", "run_cancelled")):
                run = await client.start(leaves, how)
                await run.signal("b")
                await run.signal("a")
                await run.signal("b")
                await run.signal("go")
                if how == "waits":
                    await run.cancel()
                (event,) = await has(run, end)
                assert event.data["unread"] == {"a": 1, "b": 2}

    async def test_18_a_finished_run_refuses(self) -> None:
        async with self.beside(flows.twice) as (_, client, other):
            run = await client.start(flows.twice, 1, run_id="r")
            await outcome(run)
            for handle in (run, await client.get("r"), await other.get("r")):
                assert "r" in await refused(handle.signal("late"), RunFinished)
            assert (await sound(run))[-1].kind == "run_completed"

    async def test_18_a_repeated_id_counts_once_whichever_way_it_travels(self) -> None:
        async with self.beside(reads_late) as (engine, client, other):
            run = await client.start(reads_late, 3, run_id="r")
            there = await other.get("r")
            for handle in (run, run, there, there):
                await handle.signal("vote", 1, id="one")
            await there.signal("vote", 2, id="two")
            await has(run, "signal_received", 2)
            other = await engine.restart(reads_late)
            client = await engine.open()
            for handle in (await client.get("r"), await other.get("r")):
                await handle.signal("vote", 2, id="two")
                await handle.signal("vote", 3, id="three")
            await (await client.get("r")).signal("go")
            assert await outcome(await other.get("r")) == [1, 2, 3]

    async def test_18_repeats_at_once_count_once(self) -> None:
        async with self.beside(reads_late) as (_, client, other):
            run = await client.start(reads_late, 2, run_id="r")
            there = await other.get("r")
            handles = [run, there] * 10
            await asyncio.gather(*(h.signal("vote", 1, id="one") for h in handles))
            await there.signal("vote", 2)
            await there.signal("go")
            assert await outcome(run) == [1, 2]
            assert len(await of_kind(run, "signal_received")) == 3

    async def test_18_a_payload_that_does_not_fit_raises_there_and_is_consumed(self) -> None:
        @aob.workflow
        async def votes() -> list[Any]:
            try:
                await aob.wait_signal("vote", Vote)
            except aob.BadPayload as e:
                first = e.code
            else:
                first = ""
            vote = await aob.wait_signal("vote", Vote)
            return [first, vote.name, vote.count]

        async with self.engine() as engine:
            client = await engine.open(votes)
            run = await client.start(votes, run_id="r")
            await run.signal("vote", {"name": "x", "count": "many"})
            await has(run, "signal_received")
            client = await engine.restart()
            run = await client.get("r")
            await run.signal("vote", Vote("y", 2))
            assert await outcome(run) == ["bad_payload", "y", 2]

    async def test_18_a_wait_that_timed_out_takes_no_signal(self) -> None:
        @aob.workflow
        async def patient() -> list[Any]:
            got: list[Any] = []
            for _ in range(2):
                try:
                    got.append(await aob.wait_signal("vote", timeout=0.05))
                except TimeoutError:
                    got.append("none")
            try:
                async with asyncio.timeout(0.05):
                    got.append(await aob.wait_signal("vote"))
            except TimeoutError:
                got.append("none")
            return [*got, await aob.wait_signal("vote"), await aob.wait_signal("vote", timeout=60)]

        async with self.engine() as engine:
            client = await engine.open(patient)
            run = await client.start(patient, run_id="r")
            await has(run, "timer_fired", 3)
            await run.signal("vote", 1)
            client = await engine.restart()
            run = await client.get("r")
            await run.signal("vote", 2)
            assert await outcome(run) == ["none", "none", "none", 1, 2]

    async def test_18_one_process_and_many_signals_with_and_without_ids_keep_their_order(self) -> None:
        async with self.beside(reads_late, resident_runs=1, evict_after=0.0, lease_ttl=1.5) as (_, client, other):
            run = await client.start(reads_late, 100, run_id="r")
            await client.start(reads_late, 1, run_id="pushes-it-out")
            there = await other.get("r")
            for n in range(100):
                await there.signal("vote", n, id=f"id-{n}" if n % 3 else None)
            await there.signal("go")
            assert await outcome(run) == list(range(100))

    async def test_18_a_signal_with_the_start_and_to_a_run_that_has_not_begun(self) -> None:
        async with self.engine() as engine:
            other = await engine.open()
            await other.start(flows.waits, "go", run_id="one", signal=("go", 1))
            await other.start(flows.waits, "go", run_id="two")
            client = await engine.open(flows.waits)
            for handle in (await client.get("two"), await client.get("one")):
                await handle.signal("go", 2)
                await handle.signal("go", "end")
            assert await outcome(await client.get("one")) == [1, 2]
            assert await outcome(await client.get("two")) == [2]
            await sound(await client.get("two"))

    async def test_18_signal_run_is_a_step_that_counts_once(self) -> None:
        @aob.workflow
        async def sends(to: str) -> str:
            await aob.signal_run(to, "vote", Vote("x", 1).count)
            await aob.wait_signal("go")
            await aob.signal_run(to, "vote", 2)
            return "sent"

        async with self.engine() as engine:
            client = await engine.open(sends, reads_late)
            reader = await client.start(reads_late, 2, run_id="reader")
            await client.start(sends, "reader", run_id="sender")
            await has(reader, "signal_received")
            client = await engine.restart()
            await (await client.get("sender")).signal("go")
            assert await outcome(await client.get("sender")) == "sent"
            reader = await client.get("reader")
            await reader.signal("go")
            assert await outcome(reader) == [1, 2]
            assert len(await of_kind(reader, "signal_received")) == 3

    async def test_18_signal_run_to_no_run_or_an_ended_one_fails_in_the_workflow(self) -> None:
        @aob.workflow
        async def sends() -> list[str]:
            got: list[str] = []
            for to in ("nobody", "ended"):
                try:
                    await aob.signal_run(to, "vote", 1)
                except (RunNotFound, RunFinished) as e:
                    got.append(e.code)
            return got

        async with self.serving(sends, flows.twice) as client:
            await outcome(await client.start(flows.twice, 1, run_id="ended"))
            assert await outcome(await client.start(sends)) == ["run_not_found", "run_finished"]

    async def test_18_signals_wait_while_nobody_serves(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(reads_late)
            await client.start(reads_late, 2, run_id="r")
            await engine.crash()
            client = await engine.open()
            run = await client.get("r")
            await run.signal("vote", 1)
            await run.signal("vote", 2)
            await run.signal("go")
            client = await engine.open(reads_late)
            assert await outcome(await client.get("r")) == [1, 2]

    async def test_18_another_process_signals(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            client = await engine.open(flows.waits)
            run = await client.start(flows.waits, "go", run_id="r")
            process = await engine.process()
            for n in range(20):
                await process.run("r", "signal", "go", n, id=f"id-{n // 2}")
            await process.run("r", "signal", "go", "end")
            assert await outcome(run) == list(range(0, 20, 2))

    async def test_18_a_signal_that_ends_a_run_leaves_the_next_refused_or_unread(self) -> None:
        async with self.beside(flows.waits) as (_, client, other):
            run = await client.start(flows.waits, "go", run_id="r")
            there = await other.get("r")
            sent = await asyncio.gather(
                *(h.signal("go", "end") for h in (run, there, run, there)), return_exceptions=True
            )
            assert all(e is None or isinstance(e, RunFinished) for e in sent)
            assert await outcome(run) == []
            await sound(run)
