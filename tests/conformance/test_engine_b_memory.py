"""The engine in memory passes the second half of the suite of engines."""

from aob.testing.conformance.engine_b import EngineConformanceB
from aob.testing.conformance.engine_b_children import ChildTests
from aob.testing.conformance.engine_b_pins import PinTests
from aob.testing.conformance.engine_b_retry import RetryTests
from aob.testing.conformance.engine_b_unserved import UnservedTests
from aob.testing.conformance.engine_harness import EngineUnderTest, memory_engine


class TestMemoryEngine(EngineConformanceB):
    async def new_engine(self) -> EngineUnderTest:
        return memory_engine()


class TestMemoryEngineOfManyPartitions(PinTests, ChildTests, RetryTests, UnservedTests):
    async def new_engine(self) -> EngineUnderTest:
        return memory_engine(8)
