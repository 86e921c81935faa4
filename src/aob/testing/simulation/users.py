"""`simulate`: a user's workflow in many simulated worlds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from operator import eq
from typing import Any, NamedTuple, TypeVar

import msgspec

from aob.client.run import Run
from aob.testing.simulation.plan import Backend, Plan, plan
from aob.testing.simulation.runner import quietly
from aob.testing.simulation.tales import Cast, Tale
from aob.testing.simulation.world import Outcome, World, simulated
from aob.workflow.definitions import Activity, Workflow

R = TypeVar("R")
_AGES = 1e5
_HALF_AN_HOUR = 1_800.0


class Simulated(NamedTuple):
    """What `simulate` did.

    Args:
        seeds: worlds.
        hours: of simulated time.
        attempts: that were made in all worlds.
        seen: how often what happened to the runs: kills, takeovers, commits that were refused, and so on.
    """

    seeds: int
    hours: float
    attempts: int
    seen: dict[str, int]


class SimulationFailed(AssertionError):
    """A world came out wrong. `seed` makes it again."""

    def __init__(self, message: str, seed: int) -> None:
        super().__init__(message)
        self.seed = seed


async def simulate(
    workflow: Workflow[..., R], *args: Any, drive: Callable[[Run[R]], Awaitable[None]] | None = None,
    same: Callable[[Any, Any], bool] = eq, seeds: int = 50, first: int = 0, runs: int = 5, store: Backend | None = None,
    activities: Iterable[Activity[..., Any]] = (), **kwargs: Any,
) -> Simulated:  # fmt: skip
    """Run a workflow in simulated worlds, in virtual time: several workers on one store, which are killed, stopped and
    cut off at random. Each run must end as it does undisturbed, and the invariants of the engine must hold.

    Activities run in the simulated event loop, which has no network and no threads: give fakes for what they call, and
    let them take their time with `asyncio.sleep`. A plain `def` runs at once.

    Args:
        args, kwargs: the workflow's input.
        drive: what the outside does to a run, such as signals; called anew when its process died, so give signals an
            `id`.
        same: compares two results (or texts of errors).
        seeds: how many worlds; `first` is the first one's seed.
        runs: how many runs in each.
        store: `sqlite` (the real one), `memory` (its model) or `fleet` (a model of a database that workers on several
            hosts share); default: drawn.
        activities: those that are not in the workflow's own module.

    Raises:
        SimulationFailed: the seed, and what was wrong.
    """
    given: dict[str, Any] = {"runs": runs, "features": ("eviction",)}
    if store is not None:
        given["store"] = store
    cast = _UsersCast(workflow, args, kwargs, drive, same, tuple(activities))
    with quietly():
        return _simulate(cast, [plan(seed, **given) for seed in range(first, first + seeds)])


def _simulate(cast: _UsersCast, plans: list[Plan]) -> Simulated:
    calm = simulated(
        plan(0, store="memory", runs=1, nodes=1, clients=0, minutes=1e-6, scale=_AGES, features=(), faults=()), cast
    )
    if calm.wrong or calm.ends[0] is None:
        raise SimulationFailed(f"though nothing disturbed it: {'; '.join(calm.wrong) or 'it does not end'}", 0)
    cast.calm = calm.ends[0]
    scale = max(1.0, (calm.hours * 3600 - 70) / _HALF_AN_HOUR)
    outcomes: list[Outcome] = []
    for chosen in plans:
        outcome = simulated(msgspec.structs.replace(chosen, scale=scale), cast)
        if outcome.wrong:
            raise SimulationFailed(
                f"seed {chosen.seed}: {'; '.join(outcome.wrong[:5])}\n"
                f"to see this world again: simulate(…, first={chosen.seed}, seeds=1), everything else as it was; "
                f"its faults are {', '.join(chosen.faults)}",
                chosen.seed,
            )
        outcomes.append(outcome)
    seen: dict[str, int] = {}
    for outcome in outcomes:
        for what, count in outcome.seen.items():
            seen[what] = seen.get(what, 0) + count
    return Simulated(
        len(outcomes), sum(o.hours for o in outcomes), sum(o.attempts for o in outcomes), dict(sorted(seen.items()))
    )


class _UsersCast(Cast):
    """Runs of one workflow."""

    def __init__(
        self, workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        drive: Callable[[Run[Any]], Awaitable[None]] | None, same: Callable[[Any, Any], bool],
        activities: tuple[Activity[..., Any], ...],
    ) -> None:  # fmt: skip
        self.workflows = (workflow,)
        self.activities = activities
        self.calm: tuple[str, Any] | None = None
        self._input = args, kwargs
        self._drive = drive or _nothing
        self._same = same

    def tales(self, world: World) -> list[Tale]:
        """The runs, spread over the time in which faults happen."""
        draw = world.plan.stream("tales")
        return [
            self._tale(f"run-{n}", draw.random() * world.plan.minutes * 60 * world.plan.scale * 0.7)
            for n in range(world.plan.runs)
        ]

    def _tale(self, run_id: str, begins: float) -> Tale:
        tale = Tale(run_id, [], begins, self.workflows[0])
        tale.args, tale.kwargs = self._input
        tale.drive = self._drive
        tale.ends = {"completed", "failed", "cancelled", "terminated", "timed_out"}
        tale.same = lambda _, value: self.calm is None or self._same(self.calm[1], value)
        if self.calm is not None:
            tale.ends = {self.calm[0]}
        return tale


async def _nothing(_: Run[Any]) -> None:
    return
