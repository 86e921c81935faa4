"""`aob workflow list`."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aob.cli.loading import workflows_of
from aob.cli.output import note, print_json, table
from aob.cli.session import Here, Session
from aob.stores.protocol import Store
from aob.stores.rows import RunFilter, RunRow

_PAGE = 1_000


async def list_(module: str | None = None, /, *, session: Here) -> int:
    """List the workflows that a module defines; without a module, those that the store has runs of.

    For example:

        aob workflow list flow.py

        aob workflow list

    Args:
        module: a module or a file
    """
    if module is not None:
        return _of_module(module, session)
    if not session.exists:
        note(f"there is no store at {session.file} yet; list those of a module: aob workflow list MODULE")
        if session.json:
            print_json([])
        return 0
    counts: dict[str, Counter[str]] = {}
    async with session.connect() as client:
        for row in await every_row(client.store, client.tenant):
            counts.setdefault(row.workflow, Counter())[row.status] += 1
    if session.json:
        print_json([{"name": n, "runs": c.total(), "statuses": c} for n, c in sorted(counts.items())])
    else:
        table(
            ("workflow", ">runs", "statuses"),
            ((n, f"{c.total():,}", _counted(c)) for n, c in sorted(counts.items())),
        )
    return 0


def _of_module(module: str, session: Session) -> int:
    found = workflows_of(module)
    rows: list[dict[str, Any]] = [
        {
            "name": w.name,
            "where": f"{w.fn.__module__}:{w.fn.__qualname__}",
            "parameters": {
                name: _type(codec.annotation) for name, codec in zip(w.codec.names, w.codec.codecs, strict=True)
            },
            "result": _type(w.codec.result.annotation),
            "timeout": w.timeout,
            "limits": w.limits.given(),
            "fidelity": w.fidelity,
            "input_schema": w.codec.input_schema(),
        }
        for w in found
    ]
    if session.json:
        print_json(rows)
        return 0
    table(
        ("workflow", "takes", "returns", "where"),
        (
            (r["name"], ", ".join(f"{k}: {v}" for k, v in r["parameters"].items()), r["result"], r["where"])
            for r in rows
        ),
    )
    return 0


def _type(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{number:,} {status}" for status, number in counts.most_common())


async def every_row(store: Store, tenant: str | None) -> list[RunRow]:
    """Summaries of all runs, oldest first."""
    found: list[RunRow] = []
    before: int | None = None
    while True:
        rows = await store.list_runs(RunFilter(tenant=tenant, before=before, limit=_PAGE))
        found += rows
        if len(rows) < _PAGE:
            return found[::-1]
        before = rows[-1].key
