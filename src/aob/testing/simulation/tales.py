"""Runs as they are meant to be: what they do, how they may end, and with what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any

from aob.client.run import Run
from aob.testing.simulation.flows import flow, full_flow
from aob.testing.simulation.plan import Plan
from aob.testing.simulation.programs import Author, Program, broken_in, expected, fits, undoes, walk
from aob.workflow.definitions import Activity, Workflow

if TYPE_CHECKING:
    from aob.testing.simulation.world import World


class Tale:
    """A top-level run as it is meant to be.

    Args:
        ends: how it may end; the value is known when it completes.
    """

    def __init__(self, run_id: str, program: Program, begins: float, workflow: Workflow[..., Any]) -> None:
        self.run_id = run_id
        self.program = program
        self.args: tuple[Any, ...] = (program,)
        self.kwargs: dict[str, Any] = {}
        self.drive: Callable[[Run[Any]], Awaitable[None]] | None = None
        """What a user's test does to the run; with it, nothing else is."""
        self.begins = begins
        self.workflow = workflow
        self.value: Any = expected(program)
        self.same: Callable[[Any, Any], bool] = fits
        self.ends = {"completed"}
        self.start = asyncio.Event()
        self.outcome: tuple[str, Any] | None = None
        self.acked: list[tuple[str, str]] = []
        """Signals and updates that were answered: kind and id."""
        self.sent: list[tuple[str, str]] = []
        self.broken = list(broken_in(program))
        """What fails until it is mended, and the run is retried."""
        self.retried = bool(self.broken)
        if self.broken and undoes(program):  # a child that has undone something cannot be retried
            self.ends.add("failed")


def _program(author: Author, plan: Plan, draw: Random) -> Program:
    program = author.program()
    called = any(op[0] in ("signals", "updates", "ask") for op in walk(program))
    if plan.has("poison") and draw.random() < 0.2 and not called:
        program.append(["poison", author.number(), draw.choice((1, 2, 1_000))])
    return program


class Cast:
    """What runs in a world: here, random programs."""

    workflows: tuple[Workflow[..., Any], ...] = (flow, full_flow)
    activities: tuple[Activity[..., Any], ...] = ()

    def tales(self, world: World) -> list[Tale]:
        """The top-level runs, as they are meant to be."""
        plan = world.plan
        draw = plan.stream("tales")
        return [
            Tale(
                f"r{n}",
                _program(world.author, plan, draw),
                draw.random() * plan.minutes * 60 * 0.7,
                full_flow if plan.has("full") and draw.random() < 0.4 else flow,
            )
            for n in range(plan.runs)
        ]
