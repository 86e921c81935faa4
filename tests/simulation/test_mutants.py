"""The simulation can fail: it notices each bug that is planted. `make mutants` plants them all."""

import pytest

from tests.simulation.catching import PAGE, seeds_to_catch
from tests.simulation.mutants import MUTANTS, planted

CHEAP = [
    "a commit drops its last event",
    "a number is lost when a commit is put off",
    "the epoch is not compared (SQLite)",
    "the epoch is not compared (fleet)",
    "the idempotency key has the attempt in it",
    "timers are compared with a clock that is ahead",
]
INVARIANTS = {f"I{n}" for n in (*range(1, 12), 15, 16, 17, 19, 20, 21, 22)}


@pytest.mark.parametrize("name", CHEAP)
def test_a_planted_bug_is_noticed(name: str) -> None:
    assert seeds_to_catch(MUTANTS[name], 100) is not None


@pytest.mark.mutants
@pytest.mark.needs("mutants")
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in CHEAP])
def test_a_planted_bug_is_noticed_in_time(name: str) -> None:
    assert seeds_to_catch(MUTANTS[name]) is not None


@pytest.mark.parametrize("name", MUTANTS)
def test_every_plant_applies(name: str) -> None:
    with planted(MUTANTS[name]):
        pass


def test_every_invariant_has_a_bug_and_the_page_lists_them_all() -> None:
    assert {mutant.invariant for mutant in MUTANTS.values()} == INVARIANTS
    listed = [
        line.split(" | ")[1]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| I") and line.count("|") == 4
    ]
    assert set(MUTANTS) <= set(listed)
