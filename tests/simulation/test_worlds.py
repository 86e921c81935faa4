"""Random worlds: nothing is ever wrong in them, a seed makes the same one again, and everything happens in some."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aob.testing.simulation.plan import plan
from aob.testing.simulation.runner import kept, quietly, run
from aob.testing.simulation.world import simulated
from tests.conftest import REPOSITORY

CHUNK = 10
SEEDS = 200
KEPT = Path(__file__).with_name("kept.jsonl")


def words(outcomes: list) -> list[str]:
    return [f"make sim SEED={o.plan.seed}: {'; '.join(o.wrong[:3])}" for o in outcomes]


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_nothing_is_wrong(first: int) -> None:
    report = run(range(first, first + CHUNK))
    assert words(report.failures) == []


def test_what_was_wrong_once_is_right_now() -> None:
    with quietly():
        outcomes = [simulated(chosen) for chosen in kept(KEPT)]
    assert len(outcomes) >= 5
    assert words([outcome for outcome in outcomes if outcome.wrong]) == []


def test_everything_happens_now_and_then() -> None:
    report = run(range(5_000, 5_060), minutes=15, strength=1.0)
    assert words(report.failures) == []
    assert report.never == []


@pytest.mark.parametrize("store", ["sqlite", "memory", "fleet"])
def test_a_seed_makes_the_same_world_each_time(store: str) -> None:
    with quietly():
        one, two, other = (simulated(plan(seed, store=store)) for seed in (7, 7, 8))
    assert one.trace == two.trace
    assert one.trace != other.trace


def test_a_seed_makes_the_same_world_in_each_process() -> None:
    code = (
        "from aob.testing.simulation.plan import plan\n"
        "from aob.testing.simulation.world import simulated\n"
        "print(*(simulated(plan(seed)).trace for seed in range(40, 46)))"
    )
    traces = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            cwd=REPOSITORY, env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=True, timeout=120,
        ).stdout
        for hash_seed in ("0", "1", "2")
    }  # fmt: skip
    assert len(traces) == 1
