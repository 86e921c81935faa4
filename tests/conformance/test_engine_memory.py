"""The engine in memory passes the suite of engines."""

from aob.testing.conformance.engine import EngineConformance, EngineUnderTest
from aob.testing.conformance.engine_harness import memory_engine


class TestMemoryEngine(EngineConformance):
    async def new_engine(self) -> EngineUnderTest:
        return memory_engine()


class TestMemoryEngineWithPartitions(EngineConformance):
    """The same with runs spread over several partitions, which the clients of a test share among them."""

    async def new_engine(self) -> EngineUnderTest:
        return memory_engine(partitions=5)
