"""`make chaos` and `make soak`: a fleet of worker processes on a real Postgres, and all faults, from one seed.

Exit code 1 when something does not hold, with a list of what, and the seed.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from random import SystemRandom
from tempfile import TemporaryDirectory
from time import monotonic

from tests.chaos import soak
from tests.chaos.campaign import KINDS, SETTINGS, struck_for, unseen
from tests.chaos.disks import ClusterOnDisks, may_mount
from tests.chaos.scenes import Outcome, Play, Size
from tests.conftest import NEEDS, REPOSITORY
from tests.postgres_cluster import Cluster, in_memory

_EVERY = 15.0
_LONG_ENOUGH = 150.0
"""Seconds after which every fault should have found what it was after."""


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 32))
    parser.add_argument("--soak", action="store_true", help="a gentle pace, figures every minute, and what grew")
    asked = parser.parse_args()
    for name, need in NEEDS.items():
        if name == "postgres" and not need.present():
            print(f"chaos needs {need.what}: {need.command}", file=sys.stderr)
            return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing may stay mounted
    cluster = ClusterOnDisks(SETTINGS) if may_mount() else Cluster(parent=in_memory(), options=SETTINGS)
    try:
        cluster.start()
        with TemporaryDirectory(prefix="aob-effects-", dir=in_memory()) as effects:
            return asyncio.run(_live(cluster, Path(effects), asked))
    finally:
        cluster.remove()


async def _live(cluster: Cluster, effects: Path, asked: argparse.Namespace) -> int:
    what = "soak" if asked.soak else "chaos"
    print(f"{what}: {asked.seconds:g} seconds from seed {asked.seed}", flush=True)
    if not isinstance(cluster, ClusterOnDisks):
        print(f"left out: full disks, which need {NEEDS['disks'].what} ({NEEDS['disks'].command})", flush=True)
    watching: list[asyncio.Task[None]] = []
    record = soak.Record(cluster)

    def watch(play: Play) -> None:
        look = record.keep(play) if asked.soak else _tell(play)
        watching.append(asyncio.get_running_loop().create_task(look))

    size, pace = (soak.SIZE, soak.PACE) if asked.soak else (Size(workers=3, kinds=KINDS), 1.0)
    url = f"{cluster.url()}?schema=aob"
    outcome = await struck_for(
        cluster, url, effects, asked.seconds, asked.seed, size, pace, swept=asked.soak, watch=watch
    )
    for task in watching:
        if not task.cancel():
            task.result()  # it failed
    await asyncio.gather(*watching, return_exceptions=True)
    return _verdict(cluster, outcome, record.grown() if asked.soak else [], asked)


async def _tell(play: Play) -> None:
    began = monotonic()
    while True:
        await asyncio.sleep(_EVERY)
        counts = play.fleet.told
        print(
            f"{monotonic() - began:5.0f} s: {play.load.finished} units of work, {play.load.effects} effects, "
            f"{play.scene.struck.total()} faults, {counts['lease_lost']} leases lost, {counts['fenced']} commits "
            f"fenced, {counts['found_done'] + counts['found_undone']} outcomes found out",
            flush=True,
        )


def _verdict(cluster: Cluster, outcome: Outcome, grown: list[str], asked: argparse.Namespace) -> int:
    problems = [*outcome.problems, *outcome.unexplained(), *grown]
    missing = unseen(cluster, outcome)
    if asked.seconds >= _LONG_ENOUGH and not asked.soak:
        problems += [f"never happened: {what}" for what in missing]
    elif missing:
        print(f"not seen in so short a time: {', '.join(missing)}")
    for title, counted in (("counted", outcome.counts), ("asked again", outcome.again)):
        print(f"{title}: {', '.join(f'{what} {times}' for what, times in sorted(counted.items())) or 'nothing'}")
    print(f"complaints of workers that faults explain: {outcome.explained()}")
    if not problems:
        print(f"all holds: {outcome.finished} units of work; seed {asked.seed}")
        return 0
    kept = REPOSITORY / f".chaos-{asked.seed}.sql"
    kept.write_text(cluster.dump())
    print(f"{len(problems)} problems, seed {asked.seed}; what the database holds is in {kept.name}")
    for problem in problems:
        print(f"- {problem}")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
