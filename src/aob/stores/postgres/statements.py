"""SQL for a schema: written for the schema `aob`, as the migrations are."""

from __future__ import annotations

import re

_NAME = re.compile(r"\baob\.(?=[a-z_])")


def in_schema(sql: str, schema: str) -> str:
    """The statement for another schema than `aob`."""
    return sql if schema == "aob" else _NAME.sub(f'"{schema}".', sql)


def marks(count: int) -> str:
    """Placeholders `$1, $2, …`."""
    return ", ".join(f"${number}" for number in range(1, count + 1))


def of(table: str, columns: str) -> str:
    """Columns with the name of their table before them."""
    return ", ".join(f"{table}.{column}" for column in columns.split(", "))
