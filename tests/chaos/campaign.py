"""All faults together, for a given time, from one seed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from time import monotonic

from tests.chaos.faults import OF_THE_NETWORK, OF_THE_SERVER, OF_WORKERS, Fault
from tests.chaos.scenes import Outcome, Play, Size, ended, played
from tests.postgres_cluster import Cluster

STRANDS = (OF_THE_SERVER, {**OF_THE_NETWORK, **OF_WORKERS})
"""What strikes side by side: in each strand one fault at a time."""
SOMETIMES = ("fenced", "lease_lost", "recovered", "found_done", "found_undone", "connected", "SIGKILL", "SIGSTOP")
"""What must have happened in the end: else the faults missed."""


async def struck_for(
    cluster: Cluster, url: str, effects: Path, seconds: float, seed: int, size: Size, at_ease: float = 1.0
) -> Outcome:
    """Let everything strike.

    Args:
        at_ease: seconds between two faults of a strand, on average.
    """
    async with played(cluster, url, effects, Random(seed), size) as play:
        until = monotonic() + seconds
        strands = [
            _strand(play, list(of.values()), Random(f"{seed} {n}"), until, at_ease) for n, of in enumerate(STRANDS)
        ]
        await asyncio.gather(*strands)
        return await ended(play, url)


async def _strand(play: Play, faults: list[Fault], random: Random, until: float, at_ease: float) -> None:
    while monotonic() < until:
        await asyncio.sleep(at_ease * random.uniform(0.3, 1.7))
        try:
            await random.choice(faults)(play.scene)
        except OSError:
            play.scene.struck["missed: the server was away"] += 1
