"""The suite that every store passes.

Subclass `StoreConformance` in a test module, under a name that the runner collects, and say how a new store is made::

    class TestMyStore(StoreConformance):
        async def new_store(self, clock):
            url = make_an_empty_database()
            return lambda: my_backend.open_store(url, clock=clock, process=SystemProcess())

A store that can have more partitions (`aob.stores.facts.Divided`) passes `PartitionTests` as well.

The tests are plain coroutine methods; pytest runs them with `pytest-asyncio` in auto mode.
"""

from __future__ import annotations

from aob.testing.conformance.stores.builds import BuildTests
from aob.testing.conformance.stores.commits import CommitTests
from aob.testing.conformance.stores.inbox import InboxTests
from aob.testing.conformance.stores.leases import LeaseTests
from aob.testing.conformance.stores.log import LogTests
from aob.testing.conformance.stores.partitions import PartitionTests as PartitionTests
from aob.testing.conformance.stores.reads import ReadTests
from aob.testing.conformance.stores.removal import RemovalTests
from aob.testing.conformance.stores.setting import Opener as Opener, TurnedClock as TurnedClock
from aob.testing.conformance.stores.trimming import TrimmingTests


class StoreConformance(
    LeaseTests, CommitTests, InboxTests, ReadTests, RemovalTests, TrimmingTests, LogTests, BuildTests
):
    """Everything that is asked of a store; see `aob.stores.protocol`."""
