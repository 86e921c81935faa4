"""What a run, and the tree below it, may use up."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from aob.errors import BadDefinition

CLEANUP_RESERVE = 20
"""Steps that a run may still call after a limit was exceeded, to clean up."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits on a workflow, an agent, a run or a tenant; None is without limit.

    Args:
        steps: steps called by the run and its children.
        children: child runs started in the tree.
        depth: how deep children may have children; 0: none at all.
        wall_time: seconds (or a timedelta) from start to end.
        model_requests, tool_calls, tokens, usd, handoffs: for agents.

    Raises:
        BadDefinition: a limit is negative.
    """

    steps: int | None = None
    children: int | None = None
    depth: int | None = None
    wall_time: float | timedelta | None = None
    model_requests: int | None = None
    tool_calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    handoffs: int | None = None

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            if value < 0:
                raise BadDefinition(f"Limits: {name} must not be negative, but is {value}")

    def given(self) -> dict[str, float]:
        """The limits that are set, as numbers; times in seconds."""
        out: dict[str, float] = {}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None:
                out[name] = value.total_seconds() if isinstance(value, timedelta) else value
        return out


def tighter(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    """Both sets of limits: the smaller of each."""
    return {k: min(a.get(k, float("inf")), b.get(k, float("inf"))) for k in sorted({*a, *b})}
