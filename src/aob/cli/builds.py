"""`aob build`: which builds of the code are served, which runs are pinned to them, and what becomes of those."""

from __future__ import annotations

from aob.cli.output import count, note, print_json, say, table
from aob.cli.session import CommandFailed, Here, confirmed
from aob.client.client import Client
from aob.stores.rows import BuildRow


async def list_(*, session: Here) -> int:
    """List builds of the code: those that workers serve, that open runs are pinned to, or that are retired; on Postgres
    those, too, that had pinned runs and are not retired yet.

    For example:

        aob build list
    """
    found: list[BuildRow] = []
    if session.exists:
        async with session.connect() as client:
            found = await client.store.builds()
    if session.json:
        print_json(found)
    elif found:
        table(("build", ">workers", ">pinned runs", ""), ((b.name, b.workers, f"{b.runs:,}", _state(b)) for b in found))
    else:
        note("no worker serves a build, and no open run is pinned to one")
    return 0


def _state(build: BuildRow) -> str:
    if build.retired:
        return "retired: its runs go on with any build"
    if build.runs and not build.workers:
        return "its runs wait: no worker of it lives"
    if not build.workers:
        return "nobody serves it: retire it when its code is gone"
    return "drains" if build.draining else ""


async def retire(build: str, /, *, yes: bool = False, session: Here) -> int:
    """Let the runs that are pinned to a build go on with any other, now and for ever.

    Their code is replayed like that of runs which are not pinned: ask aob replay --all-open --pinned
    first whether it fits. The
    name of the build cannot be pinned to again.

    For example:

        aob build retire 3f9c2d1

    Args:
        build: as aob build list shows it
        yes: do not ask
    """
    async with session.existing() as client:
        found = await _one(client, build)
        if found.retired:
            note(f"{build} is retired already")
        else:
            what = f"let {count(found.runs, 'pinned run')} of build {build} go on with any build"
            if found.workers:
                what += f", though {count(found.workers, 'worker')} of it live"
            if not yes and not confirmed(what):
                return 1
            await client.store.retire(build)
    if session.json:
        print_json({"build": build, "runs": found.runs})
    else:
        say(f"{build} is retired: {count(found.runs, 'run')} may go on with any build")
    return 0


async def drain(build: str, /, *, undo: bool = False, session: Here) -> int:
    """Let the workers of a build go on with the runs that are pinned to it, and leave all others to other builds.

    For a store on Postgres, where workers of several builds share the work.

    For example:

        aob build drain 3f9c2d1

        aob build drain 3f9c2d1 --undo

    Args:
        build: as aob build list shows it
        undo: its workers take their share of all runs again
    """
    async with session.existing() as client:
        if client.store.partitions == 1:
            raise CommandFailed("one worker does all the work of this store: only on Postgres some can drain")
        found = await _one(client, build)
        if not undo and not any(b.workers and not b.draining and b.name != build for b in await client.store.builds()):
            note("no worker of another build lives yet: until one does nobody takes what this build leaves")
        await client.store.drain(build, not undo)
    if session.json:
        print_json({"build": build, "draining": not undo})
    elif undo:
        say(f"{build} takes its share of all runs again")
    else:
        say(f"{build} drains: its workers keep {count(found.runs, 'pinned run')} and leave all others")
    return 0


async def _one(client: Client, build: str) -> BuildRow:
    found = next((b for b in await client.store.builds() if b.name == build), None)
    if found is None:
        raise CommandFailed(f"no worker serves build {build!r}, and no open run is pinned to it: aob build list")
    return found
