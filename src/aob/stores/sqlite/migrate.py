"""The schema and its numbered changes. Each is applied whole, under a lock, or not at all."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from aob.errors import StoreTooNew, StoreUnavailable
from aob.stores.sqlite.driver import Connection, connect

APPLICATION_ID = 0x616F6231
"""Written into the file's header: this SQLite file is an aob store."""


@cache
def migrations() -> dict[int, str]:
    """All migrations by number, as SQL."""
    found: dict[int, str] = {}
    for file in resources.files("aob.stores.sqlite").joinpath("migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_\w+\.sql", file.name):
            found[int(match[1])] = file.read_text(encoding="utf-8")
    return dict(sorted(found.items()))


def schema_version(connection: Connection) -> int:
    """The number of the last migration that the file has seen; 0: it is new."""
    return int(connection.pragma("user_version"))


def migrate(connection: Connection, known: dict[int, str] | None = None) -> int:
    """Bring the file to the newest schema; the number of migrations applied.

    Args:
        known: migrations by number; those of this aob when left out.

    Raises:
        StoreTooNew: a newer aob wrote it.
        StoreUnavailable: it is some other program's database.
    """
    steps = migrations() if known is None else known
    newest = max(steps)
    if refuse_others(connection, newest) == newest:
        return 0
    connection.execute("begin exclusive")
    try:
        # another process may have been faster
        version = refuse_others(connection, newest)
        for number in range(version + 1, newest + 1):
            connection.execute(steps[number])
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
        connection.execute(f"pragma user_version = {newest}")
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise
    return newest - version


@cache
def _schema() -> frozenset[tuple[str, str]]:
    connection = connect(":memory:")
    try:
        for _, sql in sorted(migrations().items()):
            connection.execute(sql)
        return frozenset(_definitions(connection))
    finally:
        connection.close()


def _definitions(connection: Connection) -> set[tuple[str, str]]:
    rows = connection.execute("select name, sql from sqlite_schema where sql is not null").fetchall()
    return {(name, sql) for name, sql in rows}


def changed_schema(connection: Connection) -> str | None:
    """A table or index of the newest schema that this file has in another form, or not at all."""
    missing = _schema() - _definitions(connection)
    return min(missing)[0] if missing else None


def refuse_others(connection: Connection, newest: int | None = None) -> int:
    """See that the file is ours to use, without changing anything; its schema version.

    Raises:
        StoreTooNew: a newer aob wrote it.
        StoreUnavailable: it is some other program's database.
    """
    if newest is None:
        newest = max(migrations())
    version = schema_version(connection)
    tables = connection.execute("select count(*) from sqlite_schema").fetchall()[0][0]
    if tables and connection.pragma("application_id") != APPLICATION_ID:
        raise StoreUnavailable(f"{connection.db_filename('main')} is some other program's database; name another file")
    if version > newest:
        raise StoreTooNew(
            f"{connection.db_filename('main')} was written by a newer aob (schema {version}, this one knows {newest}); "
            "upgrade aob, or restore the copy made before the upgrade"
        )
    return version
