"""Many seeds, one after the other: what failed, what was seen at least once, how fast it went."""

from __future__ import annotations

import gc
import logging
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from aob.clock import SystemClock
from aob.testing.simulation.plan import Plan, plan
from aob.testing.simulation.world import Outcome, simulated

_TWICE_EVERY = 100
_COLLECT_EVERY = 10

SOMETIMES = (
    "kill", "pause", "deploy", "outage", "clock jump", "takeover", "unclean takeover", "append: fenced",
    "append: unknown", "append: lost", "append: full", "send: unknown", "late", "attempt_failed", "checkpoint",
    "message: signal", "message: update", "message: pause", "message: cancel", "message: query", "poison", "parked",
    "call repeated", "swept", "export", "export: again", "export: failed", "export: unknown", "retry", "decision",
    "fork",
)  # fmt: skip
"""What must happen now and then, or the simulation is blind to it."""


class Report(msgspec.Struct):
    """What came of many seeds.

    Args:
        failures: outcomes with something wrong.
        hours: simulated.
        seconds: that it took.
        seen: how often what happened, in all seeds together.
    """

    seeds: int = 0
    failures: list[Outcome] = []
    hours: float = 0.0
    seconds: float = 0.0
    seen: Counter[str] = Counter()

    @property
    def never(self) -> list[str]:
        """What should have happened in some seed, and did not."""
        return [what for what in SOMETIMES if not self.seen[what]]


def run(
    seeds: Iterable[int], tell: Callable[[Outcome], None] = lambda _: None, seconds: float | None = None, **given: Any
) -> Report:
    """Live through seeds.

    Args:
        tell: called with each outcome.
        seconds: begin no more seeds after this many.
        given: fields of every plan.
    """
    report, clock = Report(seen=Counter(), failures=[]), SystemClock()
    began = clock.monotonic()
    with quietly():
        for seed in seeds:
            outcome = once(plan(seed, **given))
            report.seeds += 1
            if report.seeds % _COLLECT_EVERY == 0:
                gc.collect()
            report.hours += outcome.hours
            report.seen.update(outcome.seen)
            if outcome.wrong:
                report.failures.append(outcome)
            tell(outcome)
            report.seconds = clock.monotonic() - began
            if seconds is not None and report.seconds >= seconds:
                break
    return report


def once(chosen: Plan) -> Outcome:
    """Live through one plan; now and then twice, to see that the same comes of it."""
    outcome = simulated(chosen)
    if chosen.seed % _TWICE_EVERY == 0 and not outcome.wrong:
        again = simulated(chosen)
        if again.trace != outcome.trace:
            outcome.wrong.append(f"the same seed came to {again.trace} the second time, not to {outcome.trace}")
    return outcome


@contextmanager
def quietly() -> Generator[None]:
    """Nothing is logged, Python says nothing about the coroutines that the dead leave behind, and collects garbage
    between worlds."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    hook, sys.unraisablehook = sys.unraisablehook, _say_nothing
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        sys.unraisablehook = hook
        logging.disable(level)
        if collecting:
            gc.enable()


def _say_nothing(_: object) -> None:
    return


def keep(path: Path, outcome: Outcome) -> None:
    """Write a failure down, so that it can be replayed."""
    known = {p.seed: p for p in kept(path)}
    known[outcome.plan.seed] = outcome.plan
    path.write_bytes(b"".join(msgspec.json.encode(p) + b"\n" for _, p in sorted(known.items())))


def kept(path: Path) -> list[Plan]:
    """The plans that were written down."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Plan) for line in path.read_bytes().splitlines()]
