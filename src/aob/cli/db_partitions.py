"""`aob db partitions`: how many there are, who holds them, and more of them."""

from __future__ import annotations

from aob.cli.output import count, note, print_json, say, table
from aob.cli.session import CommandFailed, Here
from aob.stores.facts import Divided, Spread
from aob.stores.protocol import Store


async def partitions(number: int | None = None, /, *, session: Here) -> int:
    """Show how many partitions the store has and who holds them; with a number, have so many from now on.

    Workers share the partitions, so there should be several for each. The number can be raised while they run: they
    take the new ones within seconds, and runs that start are spread over all. It cannot be lowered.

    For example:

        aob db partitions

        aob db partitions 1024

    Args:
        number: how many there are to be
    """
    async with session.existing() as client:
        store = _divided(client.store, session.name)
        before = None if number is None else await store.raise_partitions(number)
        found = await store.spread()
    if session.json:
        print_json(_fields(found) | ({} if before is None else {"before": before}))
    elif before is None:
        _show(found)
    elif before == found.partitions:
        say(f"{session.name} has {count(before, 'partition')} already")
    else:
        say(f"{session.name} has {count(found.partitions, 'partition')} now, instead of {before:,}")
    return 0


def _divided(store: Store, name: str) -> Divided:
    if not isinstance(store, Divided):
        raise CommandFailed(
            f"{name} is one partition, for one worker at a time owns such a store; on Postgres several share one"
        )
    return store


def _fields(found: Spread) -> dict[str, object]:
    return {"partitions": found.partitions, "free": found.free, "lanes": found.lanes, "workers": found.shares}


def _show(found: Spread) -> None:
    lanes = bool(found.lanes)
    if found.shares:
        head = ("worker", "build", ">partitions", *[">lanes"] * lanes)
        table(head, ((s.worker, s.build, f"{s.partitions:,}", *[f"{s.lanes:,}"] * lanes) for s in found.shares))
    more = f", and {count(found.lanes, 'lane')}" if lanes else ""
    note(f"{count(found.partitions, 'partition')}{more}; nobody holds {found.free:,}")
