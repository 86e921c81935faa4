"""Item 9: what asyncio and anyio leave to the order of sets comes in one order, live and in every replay."""

from __future__ import annotations

import asyncio
from typing import Any

from aob.testing.conformance import engine_orders as orders, engine_orders_anyio as anyio_orders
from aob.testing.conformance.engine_harness import (
    AnyWorkflow,
    EngineSetting,
    Exported,
    OtherProcess,
    export,
    outcome,
)

SEEDS = (0, 1, 2)


async def replays_alike(other: OtherProcess, flow: AnyWorkflow, history: list[Exported], result: Any) -> None:
    """Replay a history there, whole and without its end: nothing differs."""
    whole = await other.replay(flow, history)
    assert whole.mismatch is None, f"{flow.name}: {whole.mismatch}"
    open_ended = await other.replay(flow, history[:-1])
    assert open_ended.mismatch is None, f"{flow.name}: {open_ended.mismatch}"
    assert open_ended.result() == result, flow.name


class OrderTests(EngineSetting):
    """Item 9."""

    async def _live_and_replayed(self, *flows: AnyWorkflow) -> dict[str, Any]:
        """Results by name, of runs that replay alike in other processes."""
        results: dict[str, Any] = {}
        async with self.engine() as engine:
            client = await engine.open(*flows)
            histories: list[tuple[AnyWorkflow, list[Exported], Any]] = []
            for flow in flows:
                for n in range(3):
                    run = await client.start(flow, run_id=f"{flow.name}-{n}")
                    results[flow.name] = await outcome(run)
                    histories.append((flow, await export(run), results[flow.name]))
            for seed in SEEDS:
                other = await engine.process(hash_seed=seed)
                for flow, history, result in histories:
                    await replays_alike(other, flow, history, result)
        return results

    async def test_09_task_groups_abort_in_one_order(self) -> None:
        flows = (orders.group_aborts, orders.child_aborts_group, orders.nested_groups)
        results = await self._live_and_replayed(*flows)
        children = {f"c{n}" for n in range(orders.MANY)}
        assert children <= set(results["group_aborts"])
        assert len(results["group_aborts"]) == 2 * orders.MANY
        assert len(results["nested_groups"]) == 32

    async def test_09_the_sets_of_wait_come_in_one_order(self) -> None:
        flows = (orders.waits_for_all, orders.waits_for_first, orders.waits_again_and_again)
        results = await self._live_and_replayed(*flows)
        assert sorted(results["waits_for_all"]) == sorted(f"t{n}" for n in range(orders.MANY))

    async def test_09_as_completed_over_plain_coroutines_comes_in_one_order(self) -> None:
        flows = (
            orders.as_completed_steps, orders.as_completed_coroutines, orders.as_completed_tasks,
            orders.as_completed_twice, orders.as_completed_of_a_set,
        )  # fmt: skip
        results = await self._live_and_replayed(*flows)
        assert sorted(results["as_completed_coroutines"]) == sorted(f"l{n}" for n in range(orders.MANY))
        assert "refused" in results["as_completed_of_a_set"]

    async def test_09_gathers_and_their_cancellation_come_in_one_order(self) -> None:
        results = await self._live_and_replayed(orders.gathers_inside, orders.gather_cancelled)
        assert "['r0', 'r1', 'r2', 'r3', 'r4']" in results["gathers_inside"]
        assert set(results["gather_cancelled"]) >= {f"c{n}" for n in range(orders.MANY)}

    async def test_09_sets_of_tasks_and_calls_come_in_one_order(self) -> None:
        results = await self._live_and_replayed(orders.all_tasks_cancelled, orders.a_set_of_calls)
        assert len(results["all_tasks_cancelled"]) == 6 * orders.MANY
        assert len(results["a_set_of_calls"]) == orders.MANY

    async def test_09_the_set_of_all_tasks_does_not_show_those_of_others(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(orders.all_tasks_cancelled)
            crowd = [asyncio.create_task(asyncio.sleep(60)) for _ in range(700)]
            run = await client.start(orders.all_tasks_cancelled)
            result = await outcome(run)
            for task in crowd:
                task.cancel()
            other = await engine.process(hash_seed=1)
            await replays_alike(other, orders.all_tasks_cancelled, await export(run), result)

    async def test_09_queues_locks_generators_and_timers_come_in_one_order(self) -> None:
        flows = (
            orders.queue_and_locks, orders.generators_and_contexts, orders.generators_left_open, orders.timers_at_once,
        )  # fmt: skip
        results = await self._live_and_replayed(*flows)
        assert len(results["queue_and_locks"]) == 12
        assert results["timers_at_once"] == [f"t{n}" for n in (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)]

    async def test_09_anyios_task_groups_and_scopes_come_in_one_order(self) -> None:
        results = await self._live_and_replayed(*anyio_orders.FLOWS)
        assert len(results["anyio_group_aborts"]) == 2 * orders.MANY
        assert len(results["anyio_scope_cancelled"]) == 32
        assert results["anyio_time_limits"][-2:] == ["in time", "shielded"]
        assert results["anyio_and_asyncio"][-1] == "True"

    async def test_09_runs_beside_each_other_do_not_change_the_order(self) -> None:
        async with self.engine() as engine:
            flows = [*orders.FLOWS, *anyio_orders.FLOWS]
            client = await engine.open(*flows)
            runs = [(flow, await client.start(flow, run_id=f"{flow.name}-{n}")) for n in range(3) for flow in flows]
            results = await asyncio.gather(*(outcome(run) for _, run in runs))
            other = await engine.process(hash_seed=7)
            for (flow, run), result in zip(runs, results, strict=True):
                await replays_alike(other, flow, await export(run), result)

    async def test_09_a_run_goes_on_in_the_same_order_after_a_crash_in_the_middle(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(*orders.FLOWS)
            runs = [await client.start(flow, run_id=flow.name) for flow in orders.FLOWS]
            await asyncio.sleep(0.01)
            client = await engine.restart()
            other = await engine.process(hash_seed=3)
            for flow in orders.FLOWS:
                run = await client.get(flow.name)
                result = await outcome(run)
                await replays_alike(other, flow, await export(run), result)
            assert len(runs) == len(orders.FLOWS)
