"""The tests of the Postgres store can fail: each sees its bug. `make mutants` plants them all."""

import asyncio
import gc

import pytest

from aob.errors import AobError, StoreUnavailable
from aob.stores.postgres import migrate
from tests.conformance import postgres_bugs_python, postgres_bugs_sql
from tests.conformance.postgres_bugs import Bug
from tests.postgres_cluster import Cluster

BUGS = postgres_bugs_sql.BUGS | postgres_bugs_python.BUGS
GIVE_UP = 60.0


def with_bug(bug: Bug) -> dict[int, str]:
    """The migrations with their texts replaced."""
    steps = dict(migrate.migrations())
    for old, new in bug.texts:
        (number,) = [number for number, text in steps.items() if old in text]
        assert steps[number].count(old) == 1, old
        steps[number] = steps[number].replace(old, new)
    return steps


def test_every_bug_can_be_planted() -> None:
    assert len(BUGS) > 50
    for bug in BUGS.values():
        with_bug(bug)


@pytest.mark.filterwarnings("ignore")  # a test that ends in the middle leaves connections behind
@pytest.mark.mutants
@pytest.mark.needs("mutants")
@pytest.mark.needs("postgres")
@pytest.mark.parametrize("name", BUGS)
def test_the_planted_bug_is_seen(
    name: str, monkeypatch: pytest.MonkeyPatch, postgres: Cluster, postgres_url: str
) -> None:
    bug = BUGS[name]
    steps = with_bug(bug)
    monkeypatch.setattr(migrate, "migrations", lambda: steps)
    bug.plant(monkeypatch)
    with pytest.raises((AssertionError, ValueError, AobError, pytest.fail.Exception)) as seen:
        asyncio.run(asyncio.wait_for(bug.seen_by(postgres, postgres_url), GIVE_UP))
    gc.collect()
    assert not isinstance(seen.value, StoreUnavailable), "the bug breaks the store before a test can see it"
