"""What a bug for the Postgres store is, and which test must see it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from aob.stores.postgres.options import address_of
from tests.conformance.test_store_postgres import TestPostgresStore as Suite
from tests.integration import test_postgres_faults as faults, test_postgres_fencing as fencing
from tests.postgres_cluster import Cluster

Test = Callable[[Cluster, str], Coroutine[Any, Any, None]]
Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Bug:
    """A bug, and the test that must see it, called with a server and the URL of an empty store.

    Args:
        texts: of the migrations, and what replaces them before the schema is made.
        plant: patches the Python part.
    """

    seen_by: Test
    texts: tuple[tuple[str, str], ...] = ()
    plant: Plant = lambda patch: None


def suite(name: str) -> Test:
    """A test of the suite that every store passes."""
    assert hasattr(Suite, name), name

    async def test(_: Cluster, url: str) -> None:
        one = Suite()
        one.address = address_of(url)
        await getattr(one, name)()

    return test


def cut(name: str, when: str) -> Test:
    """A test of what a cut connection does."""
    found: Callable[..., Coroutine[Any, Any, None]] = getattr(faults.TestACut, name)
    return lambda server, url: found(faults.TestACut(), server, url, when, "")


def alone(test: Callable[[str], Coroutine[Any, Any, None]]) -> Test:
    """A test that needs a store and no more."""
    return lambda _, url: test(url)


def replaced(what: str) -> Test:
    """A test of what a replaced owner does first."""
    return lambda _, url: fencing.test_whatever_it_does_first_is_refused(url, what)
