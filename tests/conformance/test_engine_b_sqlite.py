"""The engine on a SQLite file passes the second half of the suite of engines."""

from pathlib import Path

import pytest

from aob.testing.conformance.engine_b import EngineConformanceB
from aob.testing.conformance.engine_harness import EngineUnderTest


class TestSqliteEngine(EngineConformanceB):
    @pytest.fixture(autouse=True)
    def store_in(self, tmp_path: Path) -> None:
        self.path = tmp_path / "aob.db"

    async def new_engine(self) -> EngineUnderTest:
        return EngineUnderTest(f"sqlite:///{self.path}")
