"""Postgres passes the suite; so it does with one connection, without LISTEN and prepared statements, and behind
PgBouncer."""

from __future__ import annotations

from typing import Any

import pytest

from aob.clock import Clock
from aob.process import Process, SystemProcess
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.driver import Rows
from aob.stores.postgres.migrate import migrate
from aob.stores.postgres.options import Address, address_of
from aob.stores.postgres.store import PostgresStore
from aob.stores.protocol import Store
from aob.testing.conformance.store import Opener, PartitionTests, StoreConformance, TurnedClock
from tests.postgres_cluster import Pooler

CLOCK = """
create table if not exists "{0}".turned_clock (value bigint not null);
create or replace function "{0}".now_us() returns bigint language sql volatile
as $$ select value from "{0}".turned_clock $$;
insert into "{0}".turned_clock values ({1});
"""


class TurnedConnections(Connections):
    """Connections to a database that has the clock which the test turns."""

    def __init__(self, address: Address, clock: Clock, process: Process) -> None:
        super().__init__(address, clock, process)
        self._turned_to = 0
        self.clock = clock

    async def once(self, sql: str, *values: Any, until: float | None = None) -> Rows:
        if self.clock.now_us() != self._turned_to:
            self._turned_to = self.clock.now_us()
            await super().once(f'update "{self.options.schema}".turned_clock set value = $1', self._turned_to)
        return await super().once(sql, *values, until=until)


@pytest.mark.needs("postgres")
class TestPostgresStore(StoreConformance, PartitionTests):
    options = ""

    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        self.address = address_of(postgres_url + self.options)

    async def new_store(self, clock: TurnedClock) -> Opener:
        plain = Connections(self.address, clock, SystemProcess())
        await plain.open()
        await migrate(plain)
        connection = await plain.connect()
        await connection.execute(CLOCK.format(self.address.options.schema, clock.now_us()))
        await connection.close()
        await plain.close()

        async def opened() -> Store:
            connections = TurnedConnections(self.address, clock, SystemProcess())
            await connections.open()
            store = PostgresStore(connections, clock, SystemProcess())
            await store.start()
            return store

        return opened


class TestPostgresStoreWithLittle(TestPostgresStore):
    options = "&pool=1&listen=off&prepared=off"


@pytest.mark.needs("pgbouncer")
class TestPostgresStoreBehindPgBouncer(TestPostgresStore):
    @pytest.fixture(autouse=True)
    def pooled(self, database: None, pgbouncer: Pooler) -> None:
        self.address = address_of(f"{pgbouncer.url()}?schema={self.address.options.schema}")

    async def test_it_is_seen_that_a_proxy_stands_between(self) -> None:
        connections = Connections(self.address, TurnedClock(), SystemProcess())
        await connections.open()
        assert connections.proxied
        await connections.close()
