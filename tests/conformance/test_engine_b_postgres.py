"""The engine on Postgres passes the second half of the suite of engines."""

import pytest

from aob.testing.conformance.engine_b import EngineConformanceB
from aob.testing.conformance.engine_harness import EngineUnderTest
from tests.conformance.postgres_engine import postgres_engine


@pytest.mark.needs("postgres")
class TestPostgresEngine(EngineConformanceB):
    @pytest.fixture(autouse=True)
    def store_in(self, postgres_url: str) -> None:
        self.url = postgres_url

    async def new_engine(self) -> EngineUnderTest:
        return postgres_engine(self.url)
