"""What a machine does again after a replay that was cut off between an event and what followed from it."""

import asyncio
import contextlib

from msgspec import Raw

import aob
from aob.kernel import events as ev
from aob.kernel.machine import Machine
from aob.kernel.steps import Abandon, Step

History = list[ev.Event]


@aob.activity
async def one() -> int:
    return 1


@aob.activity(on_cancel="wait")
async def stubborn() -> int:
    return 1


@aob.workflow
async def child() -> int:
    return 1


def began(flow: "aob.Workflow[..., object]", *later: ev.Event, limits: dict[str, float] | None = None) -> History:
    started = ev.RunStarted(0, flow.name, Raw(b"null"), "default", "r", "birth", 1, limits=limits or {})
    return [started, *later]


def machine_of(flow: "aob.Workflow[..., object]", history: History) -> Machine:
    machine = Machine(flow)
    machine.replay((event, n) for n, event in enumerate(history, 1))
    machine.go_live()
    assert machine.mismatch is None
    return machine


def described(machine: Machine) -> list[str]:
    return [
        f"abandon {c.step.id} {c.wait}" if isinstance(c, Abandon) else c.id if isinstance(c, Step) else c.KIND
        for c in machine.commands
    ]


def test_a_child_and_a_ticket_that_are_no_longer_awaited_are_let_go_again() -> None:
    @aob.workflow
    async def waits() -> None:
        try:
            await asyncio.gather(child(), aob.approval("May I?"), one())
        finally:
            await one()

    machine = machine_of(waits, began(waits, ev.CancelRequested(1, "enough")))
    assert described(machine) == ["abandon child#1 False", "abandon approval#1 False", "one#2"]


def test_a_step_that_was_told_to_stop_is_told_again_and_not_begun() -> None:
    @aob.workflow
    async def waits() -> None:
        await stubborn()

    machine = machine_of(waits, began(waits, ev.CancelRequested(1, "enough")))
    assert described(machine) == ["abandon stubborn#1 True"]


def test_the_reserve_for_cleanup_is_the_same_behind_a_checkpoint() -> None:
    @aob.workflow
    async def swallows() -> None:
        with contextlib.suppress(aob.BudgetExhausted):
            await one()
        aob.checkpoint(1)

    history = began(swallows, limits={"steps": 0})
    started = history[0]
    assert isinstance(started, ev.RunStarted)
    live = machine_of(swallows, history)
    again = live
    for seq in range(2, 100):
        (command,) = live.commands
        live.commands.clear()
        if isinstance(command, ev.Checkpoint):
            live.apply(command, seq)
            again = Machine(swallows)
            again.restore(started, command, seq)
            again.go_live()
            assert described(again) == described(live)
        elif isinstance(command, Step):
            live.apply(ev.StepCompleted(seq, command.id, command.check, Raw(b"1")), seq)
        else:
            break
    assert isinstance(live.ended, ev.RunFailed)
    assert isinstance(again.ended, ev.RunFailed)
