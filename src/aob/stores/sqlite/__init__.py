"""The embedded store: one SQLite file, through apsw."""

from aob.stores.sqlite.options import SqliteOptions as SqliteOptions
from aob.stores.sqlite.store import SqliteStore as SqliteStore, open_store as open_store
