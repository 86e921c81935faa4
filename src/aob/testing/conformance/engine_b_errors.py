"""Items 15 and 16: errors as values, and the time-outs of attempts and steps."""

from __future__ import annotations

import asyncio
from typing import Any

import aob
from aob.process import pause
from aob.testing.conformance.engine_b_setting import BesideSetting, a_while, failure, has, of_kind, sound
from aob.testing.conformance.engine_harness import outcome


class OutOfStock(Exception):
    """Can be rebuilt from its arguments."""

    def __init__(self, sku: str, left: int) -> None:
        super().__init__(sku, left)
        self.sku = sku


class Refused(aob.NonRetryable):
    """Final at once."""


def described(error: BaseException | None) -> list[Any]:
    """All that can be seen of an error and its causes."""
    if error is None:
        return []
    record = [getattr(error, name, None) for name in ("type", "traceback", "original_code", "step", "sku")]
    return [type(error).__name__, str(error), list(map(str, error.args)), record, *described(error.__cause__)]


class ErrorTests(BesideSetting):
    """Items 15 and 16."""

    # --- 15 ---------------------------------------------------------------------------------------

    async def test_15_a_step_raises_its_own_type_with_activity_failed_as_cause(self) -> None:
        @aob.activity
        async def fetch() -> None:
            raise OutOfStock("b7", 2)

        @aob.workflow
        async def shop() -> list[Any]:
            try:
                await fetch()
            except OutOfStock as e:
                assert isinstance(e.__cause__, aob.ActivityFailed)
                return [e.sku, list(e.args), e.__cause__.type.rpartition(":")[2]]
            return []

        async with self.serving(shop) as client:
            assert await outcome(await client.start(shop)) == ["b7", ["b7", 2], "OutOfStock"]

    async def test_15_an_error_that_cannot_be_rebuilt_is_activity_failed(self) -> None:
        class Unreachable(Exception):
            pass

        @aob.activity
        async def fetch() -> None:
            raise Unreachable("no way")

        @aob.workflow
        async def shop() -> list[Any]:
            try:
                await fetch()
            except aob.ActivityFailed as e:
                return [e.message, e.type.rpartition(".")[2], e.step]
            return []

        async with self.serving(shop) as client:
            assert await outcome(await client.start(shop)) == ["no way", "Unreachable", "fetch#1"]

    async def test_15_an_error_is_the_same_live_as_on_replay(self) -> None:
        class Odd(Exception):
            pass

        @aob.activity
        async def fetch(which: str) -> None:
            try:
                raise KeyError("behind it")
            except KeyError as e:
                raise {"own": OutOfStock("b7", 2), "odd": Odd("odd"), "aob": aob.RunNotFound("none")}[which] from e

        @aob.workflow
        async def shop() -> list[Any]:
            seen: list[Any] = []

            @aob.query
            def look() -> list[Any]:
                return seen

            for which in ("own", "odd", "aob"):
                try:
                    await fetch(which)
                except Exception as e:
                    seen.append(described(e))
            await aob.wait_signal("go")
            return seen

        async with self.engine() as engine:
            client = await engine.open(shop)
            run = await client.start(shop, run_id="r")
            await has(run, "step_failed", 3)
            live = await run.query("look")
            assert [d[0] for d in live] == ["OutOfStock", "ActivityFailed", "RunNotFound"]
            assert all("KeyError" in d for d in live)
            client = await engine.restart()
            run = await client.get("r")
            assert await run.query("look") == live
            await run.signal("go")
            assert await outcome(run) == live

    async def test_15_a_failed_run_has_the_original_error_behind_it_in_every_process(self) -> None:
        @aob.activity
        async def fetch() -> None:
            raise OutOfStock("b7", 2) from ValueError("empty shelf")

        @aob.workflow
        async def shop() -> None:
            await fetch()

        async with self.beside(shop) as (_, client, other):
            run = await client.start(shop, run_id="r")
            for handle in (run, await client.get("r"), await other.get("r")):
                error = await failure(handle)
                assert (error.run_id, error.step) == ("r", "fetch#1")
                cause = error.__cause__
                assert isinstance(cause, OutOfStock)
                assert cause.sku == "b7"
                assert isinstance(cause.__cause__, aob.ActivityFailed)
                assert isinstance(cause.__cause__.__cause__, ValueError)
            assert await client.list(status="failed")

    async def test_15_a_failed_run_keeps_one_record_of_its_error_however_far_it_went(self) -> None:
        class Unreachable(Exception):
            pass

        @aob.activity(timeout=0.1)
        async def fetch(how: str) -> None:
            if how == "late":
                await asyncio.sleep(60)
            raise Unreachable("no way") if how == "odd" else Refused("not to you")

        @aob.workflow
        async def shop(how: str) -> None:
            await fetch(how)

        @aob.workflow
        async def market(how: str) -> None:
            await shop(how)

        async with self.serving(market, shop) as client:
            for how, kind in (("odd", "Unreachable"), ("ours", "Refused"), ("late", "StepTimeout")):
                run = await client.start(market, how, run_id=how)
                await failure(run)
                (mine,) = await of_kind(await client.get(f"{how}~shop.1"), "run_failed")
                assert mine.data["failure"]["type"].endswith(kind)
                assert "(step" not in mine.data["failure"]["message"]
                (theirs,) = await of_kind(run, "run_failed")
                record = theirs.data["failure"]
                assert record["type"].endswith("RunFailed")
                assert record["cause"]["type"].endswith(kind)
                assert record["cause"].get("cause") is None

    async def test_15_an_error_of_workflow_code_ends_the_run_with_it(self) -> None:
        @aob.workflow
        async def shop() -> None:
            raise OutOfStock("b7", 2)

        async with self.serving(shop) as client:
            error = await failure(await client.start(shop))
            assert isinstance(error.__cause__, OutOfStock)
            assert error.step is None

    async def test_15_except_exception_catches_no_control_flow(self) -> None:
        @aob.workflow
        async def stubborn() -> int:
            passes: int = aob.checkpoint_state(int) or 0
            try:
                if passes < 3:
                    aob.checkpoint(passes + 1)
            except Exception:
                return -1
            while True:
                try:
                    await aob.wait_signal("never")
                except Exception:
                    return -2

        async with self.engine() as engine:
            client = await engine.open(stubborn)
            await has(await client.start(stubborn, run_id="r"), "checkpoint", 3)
            client = await engine.restart()
            run = await client.get("r")
            await run.cancel("enough")
            await failure(run, aob.RunCancelled)
            await sound(run)

    async def test_15_non_retryable_is_final_at_once(self) -> None:
        tried: list[int] = []

        @aob.activity(retry=aob.Retry(initial=0, max_attempts=5))
        async def fetch() -> None:
            tried.append(1)
            raise Refused("no")

        @aob.workflow
        async def shop() -> None:
            await fetch()

        async with self.serving(shop) as client:
            error = await failure(await client.start(shop))
            assert isinstance(error.__cause__, Refused)
            assert len(tried) == 1

    # --- 16 ---------------------------------------------------------------------------------------

    async def test_16_timeout_is_one_attempts(self) -> None:
        @aob.activity(timeout=0.1, retry=aob.Retry(initial=0, max_attempts=3))
        async def slow() -> int:
            attempt = aob.info().attempt
            if attempt < 3:
                await asyncio.sleep(60)
            return attempt

        @aob.workflow
        async def shop() -> int:
            return await slow()

        async with self.serving(shop) as client:
            run = await client.start(shop)
            assert await outcome(run) == 3
            assert [e.data["attempt"] for e in await of_kind(run, "attempt_failed")] == [1, 2]

    async def test_16_a_timeout_without_retry_is_a_step_timeout(self) -> None:
        stopped: list[str] = []

        @aob.activity(timeout=0.1)
        async def slow() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                stopped.append(str(aob.info().cancelled))
                raise

        @aob.workflow
        async def shop() -> str:
            try:
                await slow()
            except TimeoutError as e:
                return type(e).__name__
            return ""

        async with self.serving(shop) as client:
            assert await outcome(await client.start(shop)) == "StepTimeout"
            assert stopped == ["True"]

    async def test_16_total_timeout_covers_the_retries(self) -> None:
        @aob.activity(total_timeout=0.5, retry=aob.Retry(initial=0.05, factor=1, max_attempts=0))
        async def broken() -> None:
            raise OutOfStock("b7", 2)

        @aob.workflow
        async def shop() -> None:
            await broken()

        async with self.serving(shop) as client:
            run = await client.start(shop)
            error = await failure(run)
            assert isinstance(error.__cause__, aob.StepTimeout)
            assert "OutOfStock" in str(described(error.__cause__))
            assert len(await of_kind(run, "attempt_failed")) >= 1

    async def test_16_total_timeout_ends_an_attempt_that_hangs(self) -> None:
        @aob.activity(total_timeout=0.2, retry=aob.Retry(initial=0, max_attempts=0))
        async def hangs() -> None:
            await asyncio.sleep(60)

        @aob.workflow
        async def shop() -> None:
            await hangs()

        async with self.serving(shop) as client:
            assert isinstance((await failure(await client.start(shop))).__cause__, aob.StepTimeout)

    async def test_16_total_timeout_counts_on_across_a_restart(self) -> None:
        tried: list[int] = []

        @aob.activity(total_timeout=1.0, retry=aob.Retry(initial=0.3, factor=1, jitter=0, max_attempts=0))
        async def broken() -> None:
            tried.append(aob.info().attempt)
            if aob.info().attempt > 1:
                await asyncio.sleep(60)
            raise OutOfStock("b7", 2)

        @aob.workflow
        async def shop() -> None:
            await broken()

        async with self.engine() as engine:
            client = await engine.open(shop)
            await has(await client.start(shop, run_id="r"), "attempt_failed")
            await engine.crash()
            before = list(tried)
            await a_while(1.0)
            client = await engine.open(shop)
            assert isinstance((await failure(await client.get("r"))).__cause__, aob.StepTimeout)
            assert tried == before

    async def test_16_a_sync_attempt_is_told_and_its_late_result_is_ignored(self) -> None:
        ended: list[str] = []

        @aob.activity(timeout=0.1, retry=aob.Retry(initial=0, max_attempts=2))
        def slow() -> str:
            info = aob.info()
            if info.attempt == 1:
                while not info.cancelled:
                    pass
                ended.append("told")
                return "late"
            while not ended:
                pass
            return "second"

        @aob.workflow
        async def shop() -> str:
            return await slow()

        async with self.serving(shop) as client:
            run = await client.start(shop)
            assert await outcome(run) == "second"
            assert ended == ["told"]
            assert len(await of_kind(run, "step_completed")) == 1

    async def test_16_an_attempt_that_returns_after_its_timeout_has_failed(self) -> None:
        @aob.activity(timeout=0.1)
        async def deaf() -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0)
            return "in spite of it"

        @aob.workflow
        async def shop() -> str:
            return await deaf()

        async with self.serving(shop) as client:
            assert isinstance((await failure(await client.start(shop))).__cause__, aob.StepTimeout)

    async def test_16_without_heartbeats_an_attempt_fails_and_the_next_gets_the_details(self) -> None:
        @aob.activity(heartbeat_timeout=0.2, retry=aob.Retry(initial=0, max_attempts=2))
        async def export() -> Any:
            if aob.info().attempt == 1:
                details = {"page": 1}
                aob.heartbeat(details)
                details["page"] = 99
                await asyncio.sleep(60)
            return aob.info().heartbeat

        @aob.workflow
        async def shop() -> Any:
            return await export()

        async with self.serving(shop) as client:
            run = await client.start(shop)
            assert await outcome(run) == {"page": 1}
            assert "HeartbeatTimeout" in str((await of_kind(run, "attempt_failed"))[0].data)

    async def test_16_heartbeats_keep_an_attempt_alive(self) -> None:
        @aob.activity(heartbeat_timeout=1.0)
        async def export() -> str:
            for _ in range(40):
                await asyncio.sleep(0.04)
                aob.heartbeat()
            return "done"

        @aob.activity(heartbeat_timeout=1.0)
        def blocking() -> str:
            for _ in range(200_000):
                aob.info()
            aob.heartbeat("half")
            return "blocked"

        @aob.workflow
        async def shop() -> list[str]:
            return [await export(), await blocking()]

        async with self.serving(shop) as client:
            assert await outcome(await client.start(shop)) == ["done", "blocked"]

    async def test_16_heartbeat_details_survive_a_restart_between_attempts(self) -> None:
        tried: list[Any] = []

        @aob.activity(retry=aob.Retry(initial=0.5, jitter=0, max_attempts=2))
        async def export() -> Any:
            tried.append(aob.info().heartbeat)
            if aob.info().attempt == 1:
                aob.heartbeat({"page": 7})
                raise OutOfStock("b7", 0)
            return aob.info().heartbeat

        @aob.workflow
        async def shop() -> Any:
            return await export()

        async with self.engine() as engine:
            client = await engine.open(shop)
            await has(await client.start(shop, run_id="r"), "attempt_failed")
            client = await engine.restart()
            assert await outcome(await client.get("r")) == {"page": 7}
            assert tried == [None, {"page": 7}]

    async def test_16_a_late_heartbeat_of_an_attempt_that_timed_out_is_not_the_nexts(self) -> None:
        told: list[str] = []

        @aob.activity(timeout=1.0, retry=aob.Retry(initial=0, max_attempts=2))
        def export() -> Any:
            info = aob.info()
            if info.attempt == 1:
                aob.heartbeat("first")
                while not info.cancelled:
                    pause(0.001)
                while "second runs" not in told:
                    pause(0.001)
                aob.heartbeat("too late")
                told.append("beat")
                return None
            told.append("second runs")
            while "beat" not in told:
                pause(0.001)
            pause(0.05)
            return aob.info().heartbeat

        @aob.workflow
        async def shop() -> Any:
            return await export()

        async with self.serving(shop) as client:
            assert await outcome(await client.start(shop)) == "first"
