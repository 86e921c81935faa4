"""The other process of the tests of the SQLite store: `python -m tests.integration.store_child WHAT PATH …`."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import apsw

from aob.errors import LeaseLost
from aob.stores.rows import RunFilter
from aob.stores.sqlite.migrate import migrate, migrations
from aob.testing.conformance.stores.setting import a_message
from tests.integration.faulty_disk import FaultyDisk
from tests.integration.telling import Owner, opened, told


def say(word: object) -> None:
    print(word, flush=True)


async def tell(path: Path, ttl: str, size: str = "100") -> None:
    """Commit until killed, and say each number once it is durable."""
    store = await opened(path, checkpoint_pages=50)
    owner = await Owner.of(store, ttl=float(ttl))
    try:
        while True:
            say(await owner.tell(int(size)))
    except LeaseLost:
        say("lost")


async def send(path: Path, count: str) -> None:
    """Send messages as one sender; each waits for a line on stdin first."""
    store = await opened(path)
    say("ready")
    for n in range(int(count)):
        sys.stdin.readline()
        await store.send(a_message("sender", body=b"%d" % n))
        say(n)
    await store.close()


async def lock(path: Path) -> None:
    """Hold the write lock until stdin ends."""
    connection = apsw.Connection(str(path))
    connection.execute("begin immediate")
    say("locked")
    sys.stdin.read()
    connection.execute("rollback")


async def migrate_and_die(path: Path) -> None:
    """Be killed in the middle of a migration."""
    connection = apsw.Connection(str(path))
    connection.create_scalar_function("die", lambda: os.kill(os.getpid(), signal.SIGKILL))
    known = migrations()
    next_one = "create table half (x); insert into half values (1); select die()"
    migrate(connection, {**known, max(known) + 1: next_one})


async def killed_at(path: Path, point: int, report: int) -> None:
    """A short story whose process is killed before its n-th write or sync."""
    disk = FaultyDisk()
    left = point

    def step(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    disk.on_write = disk.on_sync = step
    store = await opened(path, vfs=disk.name, checkpoint_pages=12)
    owner = await Owner.of(store)
    for _ in range(6):
        os.write(report, b"%d " % await owner.tell(size=3000))
    for run in owner.runs:
        run.status, run.ended = "completed", 1
    await store.close()


def every_kill_point(path: Path) -> None:
    """Kill a fork at each write point in turn; say how many points there were and what was wrong."""
    wrong: list[str] = []
    point, kept = -1, 0
    while True:
        point += 1
        directory = path / str(point)
        directory.mkdir()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            asyncio.run(killed_at(directory / "aob.db", point, writing))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as report:
            acked = len(report.read().split())
        status = os.waitpid(child, 0)[1]
        found = asyncio.run(told(directory / "aob.db"))
        kept += found > acked
        if not acked <= found <= acked + 1:
            wrong.append(f"killed at {point}: {acked} acknowledged, {found} there")
        if os.WIFEXITED(status):
            break
    say(json.dumps({"points": point, "acked": acked, "kept": kept, "wrong": wrong}))


async def look(path: Path) -> None:
    """List the runs."""
    store = await opened(path)
    say(json.dumps([run.run_id for run in await store.list_runs(RunFilter())]))
    await store.close()


if __name__ == "__main__":
    what, path, *arguments = sys.argv[1:]
    if what == "points":
        every_kill_point(Path(path))
    else:
        does = {"tell": tell, "send": send, "lock": lock, "migrate": migrate_and_die, "look": look}[what]
        asyncio.run(does(Path(path), *arguments))
