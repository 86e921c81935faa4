"""What a run has used up of its limits, its children's share included."""

from __future__ import annotations

from typing import NoReturn

from aob.errors import BudgetExhausted
from aob.kernel.limits import CLEANUP_RESERVE

Amounts = dict[str, float]


class Spending:
    """Counts of one run.

    Args (attributes):
        deepest: how many levels of children below the run there were.
        exhausted: the limit that was exceeded first, or None.
        spare: calls that are left for cleanup after that.
    """

    __slots__ = ("children", "deepest", "exhausted", "spare", "steps")

    def __init__(self) -> None:
        self.steps = self.children = self.deepest = 0
        self.exhausted: str | None = None
        self.spare = CLEANUP_RESERVE

    def step(self, limits: Amounts) -> bool:
        """A step is called, and counted already. Whether it must not be: the reserve for cleanup is used up, too.

        Raises:
            BudgetExhausted: this call is the one that exceeds the limit.
        """
        if self.exhausted is None:
            if self.steps <= limits.get("steps", self.steps):
                return False
            self.over("steps")
        self.spare -= 1
        return self.spare < 0

    def child(self, limits: Amounts) -> None:
        """A child run is called.

        Raises:
            BudgetExhausted: there may be no more, or none this deep.
        """
        self.children += 1
        self.deepest = max(self.deepest, 1)
        if self.children > limits.get("children", self.children):
            self.over("children")
        if limits.get("depth", 1) < 1:
            self.over("depth")

    def over(self, limit: str) -> NoReturn:
        """A limit is exceeded: this and every later call ends the run.

        Raises:
            BudgetExhausted: always.
        """
        self.exhausted = self.exhausted or limit
        raise BudgetExhausted(f"the run used up its limit of {self.exhausted}", limit=self.exhausted)

    def used(self, limits: Amounts) -> dict[str, int]:
        """What counts against a parent's limits."""
        spent = {"steps": self.steps, "children": self.children, "depth": self.deepest}
        return {name: count for name, count in spent.items() if name in limits and count}

    def add(self, used: dict[str, int], limits: Amounts) -> None:
        """A child has ended: what it used up counts here, too; and so does that it wanted more than was left."""
        self.steps += used.get("steps", 0)
        self.children += used.get("children", 0)
        self.deepest = max(self.deepest, 1 + used.get("depth", 0))
        spent = {"steps": self.steps, "children": self.children, "depth": self.deepest}
        for name, limit in limits.items():
            if spent.get(name, 0) > limit:
                self.exhausted = self.exhausted or name
