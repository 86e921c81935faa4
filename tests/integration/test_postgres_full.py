"""A shared store that refuses what it usually takes, above all for want of space: all of it is done later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import asyncpg
import pytest

import aob
from aob.client.client import Client
from aob.clock import SystemClock
from aob.errors import OperatorError, StoreFull, StoreUnavailable
from aob.process import SystemProcess
from aob.settings import load
from aob.stores.postgres import PostgresStore, faults, open_store
from aob.stores.protocol import Store
from aob.stores.rows import Lease
from aob.testing.conformance.engine_harness import eventually
from aob.testing.seeded import StoreAround
from aob.worker.worker import Worker

TTL = 30.0


async def opened(url: str) -> PostgresStore:
    return await open_store(url, clock=SystemClock(), process=SystemProcess())


def test_a_server_that_ends_over_a_full_disk_leaves_open_what_became_of_a_commit() -> None:
    """Its record may have been written before the space ran out behind it."""
    for severity, lost in (("ERROR", False), ("FATAL", True), ("PANIC", True)):
        error = asyncpg.DiskFullError("could not write")
        error.severity_en = severity
        assert faults.is_lost(error) == lost
    assert isinstance(faults.translated(asyncpg.DiskFullError("could not extend file"), "db"), StoreFull)


@pytest.mark.needs("postgres")
@pytest.mark.parametrize("error", [StoreUnavailable, StoreFull])
async def test_partitions_that_could_not_be_released_at_once_reach_the_next_owner(
    postgres_url: str, error: type[OperatorError]
) -> None:
    """They stay their owner's as long as it lives, whatever it knows of them itself."""
    first, second = FailingToRelease(await opened(postgres_url), error), await opened(postgres_url)

    def held(worker: Worker) -> int:
        return 0 if worker.host is None else len(worker.host.commits.leases)

    settings = load(lease_ttl=TTL)
    async with (
        Client(postgres_url, store=cast("Store", first), settings=settings) as a,
        a.serve(nothing) as one,
        Client(postgres_url, store=second, settings=settings) as b,
        b.serve(nothing) as two,
    ):
        await eventually(lambda: held(one) == held(two) == second.partitions // 2, "half each")
    assert first.failed
    await first.close()
    await second.close()


class FailingToRelease(StoreAround):
    """A store that fails once, when partitions are released."""

    def __init__(self, inner: PostgresStore, error: type[OperatorError]) -> None:
        super().__init__(cast("Store", inner))
        self.failed = False
        self._error = error

    async def release(self, leases: Sequence[Lease], clean: bool = True) -> None:
        if not self.failed:
            self.failed = True
            raise self._error("for a while")
        await self.inner.release(leases, clean)


@aob.workflow
async def nothing() -> None:
    """It is there to be served."""
