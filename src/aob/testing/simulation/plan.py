"""What a seed decides: which store, how many nodes, which features and faults are on, and how strong these are."""

from __future__ import annotations

from random import Random
from typing import Any, Literal

import msgspec

Backend = Literal["sqlite", "memory", "fleet"]

FEATURES = (
    "steps", "failing", "timers", "signals", "children", "gather", "timeouts", "checkpoints", "side_effects", "sagas",
    "updates", "pauses", "cancels", "terminates", "retries", "forks", "repeats", "detached", "poison", "readers",
    "queries", "eviction", "full", "approvals", "stubborn", "exporters",
)  # fmt: skip
"""What workloads may do."""

FAULTS = (
    "kills", "pauses", "deploys", "latency", "stalls", "locked", "full_disk", "unknown", "outages", "clock_jumps",
    "skew", "lost_wakeups", "reads_fail", "retention",
)  # fmt: skip
"""What may happen to them."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One seed's world. Everything else is drawn from streams of the seed, one for each subsystem, so that leaving
    something out changes nothing of the rest.

    Args:
        partitions: of a fleet's store; the others have one.
        nodes: workers; `clients`: processes that only call.
        runs: top-level runs.
        minutes: virtual time in which faults happen; afterwards the world heals.
        features, faults: those that are on.
        strength: of faults; 1 is common.
        scale: how much longer than usual leases, outages and the pauses between faults last, for runs that take long.
    """

    seed: int
    store: Backend
    partitions: int
    nodes: int
    clients: int
    runs: int
    minutes: float
    lease_ttl: float
    features: tuple[str, ...]
    faults: tuple[str, ...]
    strength: float = 1.0
    scale: float = 1.0

    def has(self, feature: str) -> bool:
        """Whether a feature is on."""
        return feature in self.features

    def may(self, fault: str) -> bool:
        """Whether a fault is on."""
        return fault in self.faults

    def stream(self, name: str) -> Random:
        """The random numbers of a subsystem."""
        return Random(f"{self.seed} {name}")


def plan(seed: int, **given: Any) -> Plan:
    """The plan of a seed.

    Args:
        given: fields to have instead of those drawn.
    """
    draw = Random(f"{seed} plan")
    share = draw.choice((0.35, 0.6, 0.85))
    drawn: dict[str, Any] = {
        "seed": seed,
        "store": draw.choice(("sqlite", "memory", "fleet", "fleet")),
        "partitions": draw.choice((1, 3, 8)),
        "nodes": draw.choice((1, 2, 2, 3, 3, 4)),
        "clients": draw.choice((0, 1, 1, 2)),
        "runs": draw.randint(4, 24),
        "minutes": draw.choice((5, 15, 30, 60)),
        "lease_ttl": draw.choice((5.0, 20.0, 60.0)),
        "strength": draw.choice((0.3, 1.0, 3.0)),
        "features": tuple(f for f in FEATURES if draw.random() < share),
        "faults": tuple(f for f in FAULTS if draw.random() < share),
    }
    return Plan(**drawn | given)
