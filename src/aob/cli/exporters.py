"""`aob exporter`: who is given the events of this store, and how far each has come."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from aob.cli.output import count, note, print_json, say, table
from aob.cli.session import CommandFailed, Here
from aob.stores.rows import CursorRow


class Progress(msgspec.Struct, frozen=True):
    """An exporter in all partitions that it has begun. `behind`: events that it has yet to take, at most."""

    exporter: str
    partitions: int
    behind: int


def progress_of(cursors: Iterable[CursorRow]) -> list[Progress]:
    """How far each exporter has come, by name."""
    found: dict[str, Progress] = {}
    for row in cursors:
        before = found.get(row.exporter, Progress(row.exporter, 0, 0))
        behind = before.behind + max(row.last - row.position, 0)
        found[row.exporter] = Progress(row.exporter, before.partitions + 1, behind)
    return [found[name] for name in sorted(found)]


async def list_(*, session: Here) -> int:
    """List exporters: who is given every event of this store, and how many events each has yet to take.

    For example:

        aob exporter list
    """
    found: list[Progress] = []
    if session.exists:
        async with session.connect() as client:
            found = progress_of(await client.store.cursors())
    if session.json:
        print_json(found)
    elif found:
        table(("exporter", ">partitions", ">behind"), ((p.exporter, p.partitions, f"{p.behind:,}") for p in found))
    else:
        note("nobody exports from this store")
    return 0


async def drop(name: str, /, *, session: Here) -> int:
    """Forget how far an exporter has come, so that nothing is kept for it any more.

    For one that no worker serves any more. One that is served begins anew, with the first event that is still there.

    For example:

        aob exporter drop jsonl

    Args:
        name: as aob exporter list shows it
    """
    async with session.existing() as client:
        partitions = await client.store.drop_exporter(name)
    if not partitions:
        raise CommandFailed(f"no exporter {name!r} has begun here: aob exporter list")
    if session.json:
        print_json({"exporter": name, "partitions": partitions})
    else:
        say(f"{name} is forgotten, in {count(partitions, 'partition')}")
    return 0
