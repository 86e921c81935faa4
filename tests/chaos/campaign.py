"""All faults together, for a given time, from one seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import monotonic

import asyncpg

from tests.chaos.disks import ClusterOnDisks
from tests.chaos.faults import BACK_ENDS, OF_DISKS, OF_THE_NETWORK, OF_THE_SERVER, OF_WORKERS, Fault
from tests.chaos.scenes import Outcome, Play, Size, ended, played
from tests.chaos.wire import Moment
from tests.postgres_cluster import Cluster

SOMETIMES = (
    "fenced", "lease_lost", "recovered", "found_done", "found_undone", "connected", "locks", "silence",
    "retried 40001", "retried 55P03", "SIGKILL", "SIGSTOP", "restart SIGINT", "restart SIGQUIT", "restart SIGKILL",
    "cut ANY", *(f"cut {moment.name}" for moment in Moment), *(f"killed {state}" for state in BACK_ENDS),
)  # fmt: skip
"""What must have happened in the end: else the faults missed."""
SETTINGS = ("deadlock_timeout=100ms", "lock_timeout=250ms")
"""Of the server: so others' locks are given up, and deadlocks found, while they are held."""
KINDS = ("", "&pool=1", "&prepared=off&default_transaction_isolation=serializable")
"""Workers that reach the database in different ways."""
_MISSED = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


def strands(cluster: Cluster) -> tuple[list[Fault], list[Fault]]:
    """What strikes side by side: in each strand one fault at a time."""
    of_disks = OF_DISKS if isinstance(cluster, ClusterOnDisks) else {}
    return list({**OF_THE_SERVER, **of_disks}.values()), list({**OF_THE_NETWORK, **OF_WORKERS}.values())


def unseen(cluster: Cluster, outcome: Outcome) -> list[str]:
    """What should have happened, and did not."""
    wanted = (*SOMETIMES, *(OF_DISKS if isinstance(cluster, ClusterOnDisks) else ()))
    return [what for what in wanted if not outcome.counts[what]]


async def struck_for(
    cluster: Cluster, url: str, effects: Path, seconds: float, seed: int, size: Size,
    at_ease: float = 1.0, swept: bool = False, watch: Callable[[Play], None] = lambda _: None,
) -> Outcome:  # fmt: skip
    """Let everything strike.

    Args:
        at_ease: seconds between two faults of a strand, on average.
        swept: the settings of the workers let them delete what has ended.
        watch: called once, when it begins.
    """
    async with played(cluster, url, effects, Random(seed), size, keep=False) as play:
        watch(play)
        until = monotonic() + seconds
        striking = (
            _strand(play, faults, Random(f"{seed} {n}"), until, at_ease) for n, faults in enumerate(strands(cluster))
        )
        await asyncio.gather(*striking)
        return await ended(play, url, swept)


async def _strand(play: Play, faults: list[Fault], random: Random, until: float, at_ease: float) -> None:
    """Each fault comes once before any comes again; one that missed comes sooner."""
    deck: list[Fault] = []
    while monotonic() < until:
        await asyncio.sleep(at_ease * random.uniform(0.3, 1.7))
        deck = deck or random.sample(faults, len(faults))
        fault = deck.pop()
        try:
            await fault(play.scene)
        except _MISSED:
            play.scene.struck["missed: the server was away"] += 1
            deck.insert(0, fault)
