"""The diff of a parked run says which call of today's code does not fit, with its file and line."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec import Raw

import aob
from aob.kernel import events as ev
from aob.kernel.machine import Machine


@aob.activity
async def one(text: str) -> str:
    return text


@aob.activity
async def two(text: str) -> str:
    return text


def line_of(workflow: aob.Workflow[..., Any], text: str) -> str:
    """`file:line` of the line of a workflow that holds a text."""
    lines, first = inspect.getsourcelines(workflow.fn)
    (at,) = [first + n for n, line in enumerate(lines) if text in line]
    return f"{inspect.getsourcefile(workflow.fn)}:{at}"


def recorded(workflow: aob.Workflow[..., Any], results: int) -> list[tuple[ev.Event, int]]:
    """The history of a run of `workflow` whose first steps ended, in the order asked."""
    machine = Machine(workflow)
    events: list[ev.Event] = [ev.RunStarted(1, workflow.name, Raw(b"null"), "t", "r", "b", 1)]
    for n in range(results + 1):
        machine.apply(events[n], n + 1)
        if n < results:
            step = next(iter(machine.open.values()))
            result = Raw(b'"result"')
            events.append(ev.StepCompleted(n + 2, step.id, step.check, result))
    machine.close()
    return [(event, seq) for seq, event in enumerate(events, 1)]


def named(name: str) -> Callable[[Callable[[], Coroutine[Any, Any, Any]]], aob.Workflow[..., Any]]:
    return aob.workflow(name=name)


@named("flow")
async def before() -> None:
    await one("a")
    await two("b")
    await one("c")


@named("flow")
async def other_step() -> None:
    await one("a")
    await one("instead")


@named("flow")
async def other_input() -> None:
    await one("a")
    await two("z")


@named("flow")
async def in_a_helper() -> None:
    async def helper() -> str:
        return await one("deep")

    await one("a")
    await helper()


@named("flow")
async def ends_early() -> None:
    await one("a")


def mismatch_of(workflow: aob.Workflow[..., Any]) -> aob.NonDeterministic:
    machine = Machine(workflow)
    machine.replay(recorded(before, 2))
    assert machine.mismatch is not None
    return machine.mismatch


def test_another_step_is_named_with_its_line() -> None:
    diff = mismatch_of(other_step).diff
    assert "> event 3: step_completed two#1" in diff
    assert f"one#2  asked for at {line_of(other_step, 'instead')}" in diff


def test_another_input_is_named_with_its_line() -> None:
    error = mismatch_of(other_input)
    assert line_of(other_input, '"z"') in error.diff
    assert "another input" in error.diff
    assert error.step == "two#1"


def test_the_line_is_the_innermost_of_the_authors() -> None:
    assert f"one#2  asked for at {line_of(in_a_helper, 'deep')}" in mismatch_of(in_a_helper).diff


@named("flow")
async def gathered() -> None:
    await one("a")
    await asyncio.gather(one("instead"), one("of"))


def test_a_call_inside_gather_is_named_by_the_line_that_waits_for_it() -> None:
    machine = Machine(gathered)
    machine.replay(recorded(before, 2))
    assert machine.mismatch is not None
    assert line_of(gathered, "asyncio.gather") in machine.mismatch.diff
    machine.close()


def test_code_that_ends_early_asks_for_nothing() -> None:
    assert "asks for no step here" in mismatch_of(ends_early).diff


def test_the_same_code_fits() -> None:
    machine = Machine(before)
    machine.replay(recorded(before, 2))
    assert machine.mismatch is None
    assert list(machine.open) == ["one#2"]
