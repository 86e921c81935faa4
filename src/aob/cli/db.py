"""`aob db`: the store as a whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from pathlib import Path
from typing import IO, Annotated

from cyclopts import Parameter

from aob.cli.output import count, note, print_json, say, warn
from aob.cli.progress import progress
from aob.cli.session import CommandFailed, Here, Misuse
from aob.client.client import Client
from aob.engine.exports import BadExport, first_line, last_line, lines_of, read_parcels
from aob.engine.pins import LANES_OF_A_BUILD
from aob.engine.transfer import (
    Parcel,
    StoreServed,
    export_runs,
    import_runs,
    refuse_existing,
    run_names,
    standing_still,
)
from aob.kernel.states import TERMINAL_STATES
from aob.stores.facts import Inspectable
from aob.stores.protocol import Store


async def migrate(*, session: Here) -> int:
    """Bring the store to the newest schema, or make it where it is not there.

    Every command does so when it opens a store; this one does nothing else. An older aob refuses the store afterwards:
    copy it first.

    For example:

        aob db migrate --store sqlite:///shop.db
    """
    made = not session.exists
    async with session.connect() as client:
        schema = (await client.store.facts()).schema if isinstance(client.store, Inspectable) else None
    if session.json:
        print_json({"store": session.name, "made": made, "schema": schema})
    else:
        say(f"{session.name}: {'made' if made else 'good'}, schema {schema}")
    return 0


async def check(*, session: Here) -> int:
    """See whether the store lacks anything, such as rights, then read everything and compare it with its checksums.

    For example:

        aob db check
    """
    async with session.existing() as client:
        store = client.store
        if not isinstance(store, Inspectable):
            raise CommandFailed(f"{session.name} has no check of its own")
        lacks = (await store.facts()).lacks
        found = await store.check()
    if session.json:
        print_json({"store": session.name, "lacks": lacks, "problems": found})
    elif found or lacks:
        say(*lacks, *found)
    if lacks and not found:
        raise CommandFailed(f"all is as it was written, but {count(len(lacks), 'thing')} should be seen to")
    if found:
        raise CommandFailed(
            f"{count(len(found), 'problem')}: stop every process that uses the store, keep a copy, and restore a backup"
        )
    if not session.json:
        say("all is as it was written")
    return 0


async def export(
    *run: str,
    to: Path | None = None,
    all_: Annotated[bool, Parameter(name="--all")] = False,
    all_tenants: bool = False,
    session: Here,
) -> int:
    """Write runs as lines of JSON: history, payloads, tickets and unread messages; runs in flight too.

    A run in flight goes on where it is imported, and here as well when a worker serves it here: stop the worker first,
    and delete or terminate what you have moved.

    For example:

        aob db export --all --to runs.jsonl

        aob db export order-7 | gzip > order-7.jsonl.gz

    Args:
        run: ids of runs
        to: the file that is written; without it standard output
        all_: all runs of the tenant
        all_tenants: all runs of all tenants
    """
    if bool(run) == (all_ or all_tenants):
        raise Misuse("give ids of runs, or --all, or --all-tenants")
    if to is None and sys.stdout.isatty():
        raise Misuse("an export is for a file: give --to FILE, or send the output to one")
    async with session.existing() as client:
        store = client.store
        names = [(r.tenant, r.run_id) for r in [await client.get(name) for name in run]]
        async with _still(client) as epochs:
            names = names or await run_names(store, None if all_tenants else client.tenant)
            with _whole_file(to) as out:
                runs, unfinished = await _write(store, names, epochs is not None, out)
    if session.json and to is not None:
        print_json({"runs": runs, "open": unfinished, "file": str(to)})
    else:
        note(f"exported {count(runs, 'run')}" + (f", {unfinished:,} of them in flight" if unfinished else ""))
    if unfinished and epochs is None:
        warn("a worker serves this store: the runs in flight go on here; if they are imported elsewhere they run twice")
    return 0


async def _write(store: Store, names: list[tuple[str, str]], still: bool, out: IO[bytes]) -> tuple[int, int]:
    runs = unfinished = 0
    out.write(first_line())
    with progress() as bar:
        task = bar.add_task("exported", total=len(names))
        async for parcel in export_runs(store, names, still):
            out.writelines(lines_of(parcel))
            runs += 1
            unfinished += parcel.row.status not in TERMINAL_STATES
            bar.advance(task)
    out.write(last_line(runs))
    out.flush()
    return runs, unfinished


def _still(client: Client) -> AbstractAsyncContextManager[dict[int, int] | None]:
    return standing_still(client.store, client.clock, client.process.name, client.settings.lease_ttl)


@contextmanager
def _whole_file(path: Path | None) -> Generator[IO[bytes]]:
    """A file that is there when it is whole; standard output without a name."""
    if path is None:
        yield sys.stdout.buffer
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as e:
        raise CommandFailed(f"{path} cannot be written: {e.strerror}") from e
    finally:
        part.unlink(missing_ok=True)


async def import_(file: Path, /, *, skip_existing: bool = False, session: Here) -> int:
    """Put exported runs into the store. No worker may serve it meanwhile; the next one goes on with them.

    The whole file is checked first. A run that is there already refuses the import before anything is written.

    For example:

        aob db import runs.jsonl --store sqlite:///new.db

    Args:
        file: what `aob db export` wrote
        skip_existing: leave runs out that are there already, for instance after an import that was interrupted
    """
    names, unfinished, builds = _checked(file)
    added = 0
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(session.connect())
        for build in builds:
            await client.store.make_lanes(build, LANES_OF_A_BUILD)
        epochs = await stack.enter_async_context(_still(client))
        if epochs is None:
            raise StoreServed("a worker serves this store: stop it first, and start it again afterwards")
        if not skip_existing:
            await refuse_existing(client.store, names)
        added = await _read_in(client.store, epochs, file, len(names), skip_existing)
    if session.json:
        print_json({"runs": len(names), "imported": added, "open": unfinished})
        return 0
    there = len(names) - added
    say(f"imported {count(added, 'run')}" + (f", {there:,} were there" if there else ""))
    if unfinished:
        option = session.option(tenant=False)
        note(f"{unfinished:,} in flight: they go on with the next worker: aob worker MODULE{option}")
    return 0


def _checked(file: Path) -> tuple[list[tuple[str, str]], int, set[str]]:
    """The names of a file's runs, how many are open, and the builds that these are pinned to."""
    builds: set[str] = set()
    names: dict[tuple[str, str], None] = {}
    unfinished = 0
    for parcel in _parcels(file):
        name = (parcel.row.tenant, parcel.row.run_id)
        if name in names:
            raise BadExport(f"{file}: run {name[1]!r} is in it twice")
        names[name] = None
        unfinished += parcel.row.status not in TERMINAL_STATES
        if parcel.row.build is not None and parcel.row.ended is None:
            builds.add(parcel.row.build)
    return list(names), unfinished, builds


async def _read_in(store: Store, epochs: dict[int, int], file: Path, total: int, skip_existing: bool) -> int:
    added = 0
    with progress() as bar:
        task = bar.add_task("imported", total=total)
        async for number in import_runs(store, epochs, _parcels(file), skip_existing):
            added += number
            bar.update(task, completed=added)
    return added


def _parcels(file: Path) -> Iterable[Parcel]:
    try:
        with file.open("rb") as lines:
            yield from read_parcels(lines)
    except OSError as e:
        raise Misuse(f"{file} cannot be read: {e.strerror}") from e
    except BadExport as e:
        raise BadExport(f"{file}: {e.message}") from e
