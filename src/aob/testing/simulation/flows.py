"""The workflow that carries out programs, and its activities."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aob.errors import ActivityFailed, NonRetryable
from aob.human.approvals import approval
from aob.kernel.retry import Retry
from aob.testing.simulation.ledger import ledger_here
from aob.testing.simulation.programs import Op, Program
from aob.workflow.context import (
    checkpoint,
    checkpoint_state,
    info,
    random,
    side_effect,
    signal_run,
    sleep,
    wait_signal,
    wait_until,
)
from aob.workflow.definitions import activity, workflow
from aob.workflow.saga import compensate, saga
from aob.workflow.signals import query, update


class Flaky(Exception):
    """An attempt that was meant to fail."""


@activity(name="work", retry=Retry(initial=1, factor=2, max_delay=30, max_attempts=100))
async def work(number: int, seconds: float, fails: int) -> int:
    """An effect that takes a while, and may go on a little when it is told to stop; its first attempts fail."""
    if seconds:
        await _at_work(seconds)
    if info().attempt <= fails:
        raise Flaky(f"attempt {info().attempt} of {number}")
    return number * 7 + 1


async def _at_work(seconds: float) -> None:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        longer = ledger_here().goes_on()
        if longer is None:
            raise
        await asyncio.sleep(longer)


@activity(name="refuse")
async def refuse(number: int) -> None:
    """Fails for good."""
    raise NonRetryable(f"refused {number}")


@activity(name="echo")
async def echo(value: Any) -> Any:
    """Returns what it is given."""
    return value


@activity(name="undo")
async def undo(number: int) -> int:
    """Takes an effect back."""
    return number


@activity(name="broken")
async def broken(number: int) -> int:
    """Fails until somebody mends it."""
    ledger = ledger_here()
    if number not in ledger.whole:
        raise NonRetryable(f"{number} is broken")
    return number


@activity(name="poison")
async def poison(number: int, deaths: int) -> int:
    """Kills its process, the first times."""
    ledger = ledger_here()
    await ledger.poisoned(info().run_id, deaths)
    return number


Do = Callable[[Op], Awaitable[Any]]


@workflow(name="flow")
async def flow(program: Program) -> list[Any]:
    """Carry out a program; returns the value of each operation."""
    return await _carry_out(program)


@workflow(name="full_flow", fidelity="full")
async def full_flow(program: Program) -> list[Any]:
    """The same, with everything on record."""
    return await _carry_out(program)


async def _carry_out(program: Program) -> list[Any]:
    state: dict[str, Any] = checkpoint_state() or {"at": 0, "out": []}
    out: list[Any] = list(state["out"])
    tally = _Tally(state.get("totals", {}))

    @query
    def progress() -> int:  # pyright: ignore[reportUnusedFunction]
        return len(out)

    @update
    async def add(name: str, amount: int) -> int:  # pyright: ignore[reportUnusedFunction]
        return tally.add(name, amount)

    for at in range(state["at"], len(program)):
        op = program[at]
        if op[0] == "checkpoint":
            checkpoint({"at": at + 1, "out": out, "totals": tally.totals})
        out.append(await (_updates(op, tally) if op[0] == "updates" else _do(op)))
    return out


class _Tally:
    """What updates have added up to, by name."""

    def __init__(self, totals: dict[str, int]) -> None:
        self.totals = dict(totals)

    def add(self, name: str, amount: int) -> int:
        self.totals[name] = self.totals.get(name, 0) + amount
        return self.totals[name]


async def _updates(op: Op, tally: _Tally) -> int:
    await wait_until(lambda: tally.totals.get(op[1], 0) >= sum(op[2]))
    return tally.totals[op[1]]


async def _do(op: Op) -> Any:
    return await _KINDS[op[0]](op)


async def _step(op: Op) -> int:
    return await work(op[1], op[2], op[3])


async def _fails(op: Op) -> str:
    try:
        await refuse(op[1])
    except (NonRetryable, ActivityFailed):
        return "caught"
    return "not caught"


async def _sleep(op: Op) -> str:
    await sleep(op[1])
    return "slept"


async def _signals(op: Op) -> list[Any]:
    got = [await wait_signal(op[1]) for _ in range(op[2] * op[3])]
    for sender in range(op[2]):
        if [i for s, i in got if s == sender] != list(range(op[3])):
            return ["out of order", *got]
    return sorted(got)


async def _child(op: Op) -> list[Any]:
    return await flow(op[1])


async def _detached(op: Op) -> str:
    run_id = f"{info().run_id}.d{op[1]}".replace("~", ".")
    await flow.options(run_id=run_id, detached=True)([op[2], ["signals", "word", 1, 1]])
    await signal_run(run_id, "word", [0, 0])
    return "left"


async def _gather(op: Op) -> list[Any]:
    return list(await asyncio.gather(*(_do(each) for each in op[1:])))


async def _group(op: Op) -> list[Any]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_do(each)) for each in op[1:]]
    return [task.result() for task in tasks]


async def _never(op: Op) -> str:
    try:
        async with asyncio.timeout(op[2]):
            await wait_signal(op[1])
    except TimeoutError:
        return "timed out"
    return "a signal that nobody sent"


async def _race(op: Op) -> Any:
    with suppress(TimeoutError):
        async with asyncio.timeout(op[1]):
            return await work(op[2], op[3], 0)
    return "timed out"


async def _side_effect(op: Op) -> bool:
    ledger = ledger_here
    value = await side_effect(lambda: ledger().fresh())
    return await echo(value) == value and await echo([op[1], value]) == [op[1], value]


async def _random(op: Op) -> bool:
    value = random().random()
    return await echo([op[1], value]) == [op[1], value]


async def _saga(op: Op) -> list[Any]:
    undone: list[int] = []

    async def take_back(number: int) -> None:
        undone.append(await undo(number))

    try:
        async with saga():
            for number in op[1]:
                await work(number, 0, 0)
                compensate(take_back, number)
            if op[2]:
                await refuse(0)
    except (NonRetryable, ActivityFailed):
        return ["undone", *undone]
    return ["done", *op[1]]


async def _ask(op: Op) -> str:
    decision = await approval(f"question {op[1]}", timeout=op[2] or None)
    return f"{decision.by}: {decision.approved}"


async def _broken(op: Op) -> int:
    return await broken(op[1])


async def _poison(op: Op) -> int:
    return await poison(op[1], op[2])


_KINDS: dict[str, Do] = {
    "step": _step,
    "fails": _fails,
    "sleep": _sleep,
    "signals": _signals,
    "child": _child,
    "detached": _detached,
    "gather": _gather,
    "group": _group,
    "never": _never,
    "race": _race,
    "side_effect": _side_effect,
    "random": _random,
    "saga": _saga,
    "ask": _ask,
    "broken": _broken,
    "poison": _poison,
}
