"""A fleet, its load and its faults, put together; and what came of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.chaos.faults import Fault, Scene
from tests.chaos.fleet import Fleet, fleet
from tests.chaos.load import Load, clients
from tests.chaos.oracle import all_problems, in_the_tables
from tests.chaos.proxy import Proxy, proxy
from tests.postgres_cluster import Cluster

HEALED_WITHIN = 90.0
EXPLAINED = (
    "the lease ran out meanwhile",
    "did not answer until the lease was over",
    "could not be renewed until they were over",
    "does not know this worker any more",
)
"""Why a lease may be over: the database was away, or the worker was."""


class Size(NamedTuple):
    """How much there is of everything.

    Args:
        lease_ttl: seconds.
        side_by_side: units of work at a time.
        kinds: what is added to the store's URL for workers, in turn.
        settings: environment variables of the workers.
        spared: so many workers are never killed.
    """

    workers: int = 2
    clients: int = 2
    lease_ttl: float = 1.0
    side_by_side: int = 8
    kinds: tuple[str, ...] = ("",)
    settings: Mapping[str, str] = {}
    spared: int = 0


class Play(NamedTuple):
    """What takes part."""

    scene: Scene
    fleet: Fleet
    load: Load
    to_clients: Proxy


class Outcome(NamedTuple):
    """What came of it.

    Args:
        counts: what workers said and which faults struck, and how often.
        failures: why workers ended by themselves, or what they complained about.
        again: what clients had to repeat, and why.
        problems: what does not hold.
    """

    finished: int
    counts: Counter[str]
    failures: Counter[str]
    again: Counter[str]
    problems: list[str]

    def explained(self) -> int:
        """How often workers complained of what a fault explains."""
        return sum(times for what, times in self.failures.items() if any(reason in what for reason in EXPLAINED))

    def unexplained(self) -> list[str]:
        """What workers complained of, though no fault explains it."""
        return [
            f"a worker said {times} times: {what}"
            for what, times in self.failures.items()
            if not any(reason in what for reason in EXPLAINED)
        ]


@asynccontextmanager
async def played(
    cluster: Cluster, url: str, effects: Path, random: Random, size: Size, keep: bool = True
) -> AsyncGenerator[Play]:
    """A fleet under load, whose effects are written to a directory that is there."""
    async with (
        proxy(cluster.port) as to_clients,
        fleet(
            cluster, url, effects, size.workers, size.lease_ttl, size.kinds, size.settings, size.spared
        ) as workers,
    ):  # fmt: skip
        await workers.says("serving", size.workers)
        async with clients(workers.through(to_clients.port), size.clients) as asking:
            load = Load(asking, effects, random, size.side_by_side, keep)
            yield Play(Scene(cluster, workers, to_clients, random), workers, load, to_clients)


async def ended(play: Play, url: str, swept: bool = False) -> Outcome:
    """Heal everything, wait for the ends, and look at what is there."""
    play.scene.heal()
    await play.load.stop(HEALED_WITHIN)
    problems = play.load.problems + await _settled(url, swept)
    counts = play.fleet.told + play.scene.struck
    return Outcome(play.load.finished, counts, play.fleet.failures, play.load.again, problems)


async def _settled(url: str, swept: bool) -> list[str]:
    """What is wrong, once the last messages had a moment to be taken."""
    for _ in range(50):
        if not await in_the_tables(url, swept):
            break
        await asyncio.sleep(0.1)
    return await all_problems(url, swept)


async def struck_by(
    cluster: Cluster, url: str, effects: Path, *faults: Fault, until: Sequence[str] = (), at_most: int = 20,
    seed: int = 0, size: Size | None = None,
) -> Outcome:  # fmt: skip
    """Let faults strike a fleet at work, one after the other.

    Args:
        until: what must have been counted before this ends; the faults strike again until it has.
        at_most: how many strikes there are in all, or so.
    """
    random = Random(seed)
    async with played(cluster, url, effects, random, size or Size()) as play:
        strikes = 0
        while strikes == 0 or (strikes < at_most and _missing(play, until)):
            for fault in faults:
                await _some_work(play, random)
                await fault(play.scene)
                strikes += 1
        return await ended(play, url)


def _missing(play: Play, until: Sequence[str]) -> list[str]:
    counts = play.fleet.told + play.scene.struck
    return [what for what in until if not counts[what]]


async def _some_work(play: Play, random: Random) -> None:
    """Something is done between two faults, unless they left nobody to do it."""
    await asyncio.sleep(random.uniform(0, 0.2))
    finished = play.load.finished
    for _ in range(100):
        if play.load.finished > finished:
            break
        await asyncio.sleep(0.05)
