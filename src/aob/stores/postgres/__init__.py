"""The store of a fleet: a Postgres database (13 or later), through asyncpg."""

from aob.stores.postgres.opening import open_store as open_store
from aob.stores.postgres.options import PostgresOptions as PostgresOptions
from aob.stores.postgres.store import PostgresStore as PostgresStore
