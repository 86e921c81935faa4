"""Opening a database: can it be reached, does it keep what it acknowledges, is its schema the one we know."""

from __future__ import annotations

from aob.clock import Clock
from aob.errors import OperatorError, StoreUnavailable
from aob.process import Process
from aob.settings import Settings
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.migrate import migrate
from aob.stores.postgres.options import Address, address_of
from aob.stores.postgres.requirements import OLDEST, durability, lacks
from aob.stores.postgres.store import PostgresStore

_SERVER = """
select current_setting('server_version_num')::integer, current_setting('fsync'), current_setting('full_page_writes'),
    current_setting('synchronous_commit')
"""


async def open_store(url: str, *, clock: Clock, process: Process, settings: Settings | None = None) -> PostgresStore:
    """Open the store that a `postgresql://` URL names; its schema is made, or brought to the newest form, where needed.

    Raises:
        BadUrl: the URL is not understood.
        StoreTooNew: a newer aob made the schema.
        StoreUnavailable: it cannot be used now; why, and what to do.
    """
    return await open_at(address_of(url), clock, process)


async def open_at(address: Address, clock: Clock, process: Process) -> PostgresStore:
    """`open_store`, for an address whose options are chosen already."""
    connections = Connections(address, clock, process)
    await connections.open()
    try:
        await _refuse_unfit(connections)
        await _migrate(connections)
        store = PostgresStore(connections, clock, process)
        await store.start()
    except BaseException:
        await connections.close()
        raise
    return store


async def _refuse_unfit(connections: Connections) -> None:
    ((version, *settings),) = await connections.rows(_SERVER)
    if version < OLDEST:
        raise StoreUnavailable(f"{connections.name} is PostgreSQL {version // 10000}: 13 or later is needed")
    unsafe = durability(*settings)
    if unsafe and connections.options.durable == "on":
        raise StoreUnavailable(
            f"{connections.name} would not keep its promises: {'; '.join(unsafe)} (or, for tests, add durable=off to "
            "the URL's options)"
        )


async def _migrate(connections: Connections) -> None:
    try:
        await migrate(connections)
    except StoreUnavailable as e:
        try:
            missing = await lacks(connections)
        except OperatorError:
            raise e from None
        if not missing:
            raise
        raise StoreUnavailable(f"{connections.name} cannot be used: {'; '.join(missing)}") from e
