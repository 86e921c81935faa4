"""What happens to calls of the store, and to wake-ups between processes."""

from __future__ import annotations

from typing import NamedTuple

from aob.testing.simulation.plan import Plan

_READS = frozenset(
    (
        "get_run", "list_runs", "open_runs", "dues", "run_by_key", "events", "last_event", "seen", "blob", "tickets",
        "get_ticket", "waiting", "log", "cursors", "checkpoints",
    )
)  # fmt: skip


class Fate(NamedTuple):
    """What becomes of one call.

    Args:
        before, after: seconds on the way there and back.
        how: None: it goes well; `locked`, `full`: nothing is done; `lost`: nothing is done, and nobody knows;
            `unknown`: it is done, and nobody knows; `unavailable`: a read fails.
    """

    before: float = 0.0
    after: float = 0.0
    how: str | None = None


GOOD = Fate()


class Faults:
    """Draws the fate of each call, until `heal`.

    Args:
        slow: calls always take their time, as over a network.
    """

    def __init__(self, plan: Plan, slow: bool) -> None:
        self._plan = plan
        self._calls = plan.stream("calls")
        self._wakes = plan.stream("wakes")
        self._slow = slow
        self.healed = False
        self.outage = False
        strength = plan.strength
        self._locked = 0.004 * strength if plan.may("locked") else 0.0
        self._full = 0.004 * strength if plan.may("full_disk") else 0.0
        self._unknown = 0.003 * strength if plan.may("unknown") else 0.0
        self._unread = 0.003 * strength if plan.may("reads_fail") else 0.0
        self._stalls = 0.01 * strength if plan.may("stalls") else 0.0
        self._latency = self._calls.choice((0.002, 0.02, 0.3)) if plan.may("latency") else 0.0
        self._lost = 0.3 if plan.may("lost_wakeups") else 0.0
        self._wake_after = self._wakes.choice((0.001, 0.05, 0.5))

    def fate(self, call: str) -> Fate:
        """Of the next call."""
        draw = self._calls.random
        if self.healed:
            return Fate(0.001 * draw(), 0.001 * draw()) if self._slow else GOOD
        luck = draw()
        before, after = self._ways()
        if call in _READS:
            if self.outage or luck < self._unread:
                return Fate(before, after, "unavailable")
            return Fate(before, after)
        if self.outage:
            return Fate(before, after, "locked")
        for how, chance in (("unknown", self._unknown), ("lost", self._unknown / 2), ("locked", self._locked)):
            if luck < chance:
                return Fate(before, after, how)
            luck -= chance
        if call == "append" and luck < self._full:
            return Fate(before, after, "full")
        return Fate(before, after)

    def reconnects_after(self) -> float:
        """Seconds until a lost connection is there again."""
        return self._calls.choice((0.05, 0.5, 5)) * self._calls.random()

    def wake(self) -> float | None:
        """Seconds until another process hears of a change; None: never."""
        if self.healed:
            return 0.002
        draw = self._wakes.random()
        if draw < self._lost:
            return None
        return self._wake_after * self._wakes.random()

    def _ways(self) -> tuple[float, float]:
        draw = self._calls.random
        before = after = 0.0
        if self._latency:
            before, after = self._latency * draw(), self._latency * draw()
        elif self._slow:
            before, after = 0.002 * draw(), 0.002 * draw()
        if self._stalls and draw() < self._stalls:
            if draw() < 0.5:
                before += 4 * draw()
            else:
                after += 4 * draw()
        return before, after
