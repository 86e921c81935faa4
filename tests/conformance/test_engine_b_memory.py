"""The engine in memory passes the second half of the suite of engines."""

from aob.testing.conformance.engine_b import EngineConformanceB
from aob.testing.conformance.engine_harness import EngineUnderTest, memory_engine


class TestMemoryEngine(EngineConformanceB):
    async def new_engine(self) -> EngineUnderTest:
        return memory_engine()
