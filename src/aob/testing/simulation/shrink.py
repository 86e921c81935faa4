"""Makes a failing seed smaller: fewer faults, features, runs and nodes, as long as it still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from aob.testing.simulation.plan import Plan


def shrunk(plan: Plan, fails: Callable[[Plan], bool], tries: int = 200) -> Plan:
    """The smallest plan that was found to fail still.

    Args:
        fails: whether a plan fails.
        tries: how many plans to try at most.
    """
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(plan):
            if tries <= 0:
                return plan
            tries -= 1
            if fails(candidate):
                plan, smaller = candidate, True
                break
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    for fault in plan.faults:
        yield msgspec.structs.replace(plan, faults=tuple(f for f in plan.faults if f != fault))
    for feature in plan.features:
        yield msgspec.structs.replace(plan, features=tuple(f for f in plan.features if f != feature))
    for runs in (plan.runs // 4, plan.runs // 2, plan.runs - 1):
        if 0 < runs < plan.runs:
            yield msgspec.structs.replace(plan, runs=runs)
    if plan.clients:
        yield msgspec.structs.replace(plan, clients=plan.clients - 1)
    if plan.nodes > 1:
        yield msgspec.structs.replace(plan, nodes=plan.nodes - 1)
    if plan.minutes > 2:
        yield msgspec.structs.replace(plan, minutes=plan.minutes / 2)
