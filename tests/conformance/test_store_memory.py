"""The model passes the suite that the other stores are held to by it."""

from aob.process import SystemProcess
from aob.stores.memory import MemoryState, MemoryStore, open_store
from aob.stores.protocol import Store
from aob.testing.conformance.store import Opener, PartitionTests, StoreConformance, TurnedClock


class TestMemoryStore(StoreConformance, PartitionTests):
    partitions = 1

    async def new_store(self, clock: TurnedClock) -> Opener:
        state = MemoryState(self.partitions)

        async def opened() -> Store:
            return MemoryStore(clock, state)

        return opened


class TestMemoryStoreOfManyPartitions(TestMemoryStore):
    partitions = 8


async def test_each_opening_by_url_is_a_store_of_its_own() -> None:
    one, two = [await open_store("sqlite://", clock=TurnedClock(), process=SystemProcess()) for _ in range(2)]
    assert await one.acquire(0, "a", 1) is not None
    assert await two.acquire(0, "b", 1) is not None
