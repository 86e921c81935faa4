"""The engine on a SQLite file passes the suite of engines, with other processes on the same file."""

from pathlib import Path

import pytest

from aob.testing.conformance.engine import EngineConformance, EngineUnderTest


class TestSqliteEngine(EngineConformance):
    @pytest.fixture(autouse=True)
    def store_in(self, tmp_path: Path) -> None:
        self.path = tmp_path / "aob.db"

    async def new_engine(self) -> EngineUnderTest:
        return EngineUnderTest(f"sqlite:///{self.path}")
