"""I1, I2, I4, I5, I6, I7, I9: SIGKILL at every numbered point of a worker's life; the next one goes on.

A sample of the points runs with every `make test`, all of them with `make crash`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.crash.lives import FAMILIES
from tests.crash.scenario import EXPECTED, SENDERS, SIGNALS

SAMPLE = 12
PARTS = 4


def lives(directory: Path, family: str, points: list[int]) -> list[dict[str, Any]]:
    """What became of a worker killed at each of these points."""
    paths = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH", ""))))
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.lives", str(directory), family, *map(str, points)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=1_500,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def judge(told: dict[str, Any]) -> None:
    """The results are those of a worker that was left alone, and nothing is wrong with the log."""
    assert told["problems"] == [], told
    results = told["results"]
    assert {run: results[run] for run in EXPECTED} == EXPECTED, told
    assert results["endless"] == "run_cancelled"
    for sender in SENDERS:
        got = [text for text in results["mailbox"] if text.startswith(sender)]
        assert got == [f"{sender}-{number}" for number in range(SIGNALS)], told


def points_of(family: str, directory: Path) -> int:
    """How many points an undisturbed life passes."""
    (calm,) = lives(directory, family, [0])
    judge(calm)
    assert not calm["killed"]
    return len(calm["passed"])


def kill_at(family: str, points: list[int], directory: Path) -> None:
    told = lives(directory, family, points)
    assert [t["point"] for t in told] == points
    for one in told:
        judge(one)
    # a life may pass fewer points than another: its commits group what is ready by then
    assert sum(t["killed"] for t in told) >= 0.6 * len(points)


@pytest.mark.crash
@pytest.mark.parametrize("family", FAMILIES)
def test_a_worker_killed_at_any_of_a_sample_of_points(family: str, tmp_path: Path) -> None:
    count = points_of(family, tmp_path)
    assert count > 80
    kill_at(family, [1 + i * count * 9 // 10 // SAMPLE for i in range(SAMPLE)], tmp_path)


@pytest.mark.crash
@pytest.mark.needs("exhaustive")
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("family", FAMILIES)
def test_a_worker_killed_at_every_point(family: str, part: int, tmp_path: Path) -> None:
    count = points_of(family, tmp_path)
    kill_at(family, list(range(1, count + 1))[part::PARTS], tmp_path)
