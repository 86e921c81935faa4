"""What the outside world remembers: effects that attempts had, whoever made them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random

from aob.clock import Clock
from aob.engine.active import ActiveRun
from aob.engine.executor import Outcomes
from aob.kernel.steps import Step
from aob.process import Process
from aob.settings import Settings
from aob.testing.simulation.loop import LIFE, Life
from aob.worker.executor import LiveAttempt, LocalExecutor
from aob.workflow.attempt import Info

Name = tuple[str, str, str]
"""Tenant, run id and step."""


class Ledger:
    """Effects by step, and what activities ask the world for.

    Args:
        die: kills the process it is given.
        stubborn: by which it is drawn how long an attempt goes on that was told to stop; None: all stop at once.
    """

    def __init__(self, die: Callable[[Life], None], stubborn: Random | None = None) -> None:
        self.keys: dict[Name, set[str]] = {}
        self.attempts: Counter[Name] = Counter()
        self.mended: set[str] = set()
        self.whole: set[int] = set()
        self.deaths: Counter[str] = Counter()
        self._die = die
        self._stubborn = stubborn
        self._fresh = 0

    def attempted(self, info: Info) -> None:
        """An attempt is about to have its effect."""
        step = (info.tenant, info.run_id, info.step or "")
        self.keys.setdefault(step, set()).add(info.idempotency_key or "")
        self.attempts[step] += 1

    def fresh(self) -> int:
        """Another number each time."""
        self._fresh += 1
        return self._fresh

    def goes_on(self) -> float | None:
        """For how many seconds an attempt goes on that was told to stop; None: it stops."""
        draw = self._stubborn
        return None if draw is None or draw.random() < 0.3 else draw.choice((0.001, 1, 20)) * draw.random()

    async def poisoned(self, run_id: str, deaths: int) -> None:
        """The process dies here, if it has not died of this run so often."""
        life = LIFE.get()
        if life is not None and self.deaths[run_id] < deaths and run_id not in self.mended:
            self.deaths[run_id] += 1
            self._die(life)
            await asyncio.get_running_loop().create_future()


class LedgerExecutor(LocalExecutor):
    """Writes down each attempt.

    Args:
        ledger: where.
    """

    def __init__(self, ledger: Ledger, clock: Clock, process: Process, settings: Settings) -> None:
        super().__init__(clock, process, settings)
        self._ledger = ledger

    def start(self, run: ActiveRun, step: Step, outcomes: Outcomes) -> LiveAttempt:
        attempt = super().start(run, step, outcomes)
        self._ledger.attempted(attempt.info())
        return attempt


def ledger_here() -> Ledger:
    """The ledger of the world that the caller lives in."""
    life = LIFE.get()
    assert life is not None, "this activity runs in a simulated process only"
    return life.node.ledger
