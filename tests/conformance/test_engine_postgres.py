"""The engine on Postgres passes the suite of engines, with other processes on the same database."""

import pytest

from aob.testing.conformance.engine import EngineConformance
from aob.testing.conformance.engine_harness import EngineUnderTest
from tests.conformance.postgres_engine import postgres_engine


@pytest.mark.needs("postgres")
class TestPostgresEngine(EngineConformance):
    @pytest.fixture(autouse=True)
    def store_in(self, postgres_url: str) -> None:
        self.url = postgres_url

    async def new_engine(self) -> EngineUnderTest:
        return postgres_engine(self.url)
