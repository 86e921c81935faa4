"""A reader of a fork, while another process deletes it and all that it was forked from."""

from contextlib import suppress
from pathlib import Path

import pytest

from aob.clock import SystemClock
from aob.process import SystemProcess
from aob.stores.sqlite import SqliteOptions, open_store
from aob.stores.sqlite.reads import Reads
from aob.testing.conformance.stores.removal import forked
from aob.testing.conformance.stores.setting import Story, a_run, datas, ended, started, taken, told


async def test_it_is_read_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, clock, process = f"sqlite:///{tmp_path}/aob.db", SystemClock(), SystemProcess()
    at_once = SqliteOptions(slow_commit=60.0)  # commits are made where they are asked for
    owner, reader = [await open_store(url, clock=clock, process=process, options=at_once) for _ in range(2)]
    lease = await taken(owner)
    origin = a_run("origin")
    await started(owner, lease, origin)
    await told(owner, lease, *Story(origin).tell(b"1", b"2", b"3"))
    fork = await forked(owner, lease, origin, "fork", 2)
    await ended(owner, lease, origin, fork)
    await owner.delete_run(lease, origin.key)
    original, calls = Reads._parts, 0

    def parts(self: Reads, run: int, first: int, until: int) -> list[tuple[int, int, int]]:
        nonlocal calls
        found = original(self, run, first, until)
        calls += 1
        if calls == 2:  # between two reads of one call
            with suppress(StopIteration):
                owner.delete_run(lease, fork.key).send(None)
        return found

    monkeypatch.setattr(Reads, "_parts", parts)
    assert await datas(reader, fork.key) == [b"1", b"2", b"fork"]
    assert await datas(reader, fork.key) == []
    assert await reader.get_run("t", "fork") is None
    await owner.close()
    await reader.close()
