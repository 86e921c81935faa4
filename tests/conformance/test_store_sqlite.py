"""SQLite passes the suite, on the event loop and in the thread that a slow disk makes it use."""

from pathlib import Path

import pytest

from aob.process import SystemProcess
from aob.stores.protocol import Store
from aob.stores.sqlite import SqliteOptions, open_store
from aob.testing.conformance.store import Opener, StoreConformance, TurnedClock


class TestSqliteStore(StoreConformance):
    options = SqliteOptions()

    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path) -> None:
        self.path = tmp_path / "aob.db"

    async def new_store(self, clock: TurnedClock) -> Opener:
        async def opened() -> Store:
            url = f"sqlite:///{self.path}"
            return await open_store(url, clock=clock, process=SystemProcess(), options=self.options)

        return opened


class TestSqliteStoreInAThread(TestSqliteStore):
    options = SqliteOptions(slow_commit=-1.0)
