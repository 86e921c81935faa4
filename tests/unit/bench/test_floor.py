"""The floor keeps the promise that it is the limit for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw

from bench.floor import Floor, FloorRun


def rows(path: Path) -> int:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    (count,) = db.execute("select count(*) from event").fetchall()[0]
    db.close()
    return count


async def test_a_run_sees_a_result_only_when_another_connection_sees_it(tmp_path: Path) -> None:
    path = tmp_path / "floor.db"
    seen: list[int] = []

    async def code(run: FloorRun, n: int) -> int:
        for i in range(n):
            assert await run.step({"i": i}) == {"i": i}
            seen.append(rows(path))
        return n

    floor = Floor(path)
    run = await floor.start(code, 3)
    assert await run.ended == 3
    floor.close()
    assert seen == [2, 3, 4]


async def test_what_all_runs_ask_for_in_a_turn_shares_a_commit(tmp_path: Path) -> None:
    async def code(run: FloorRun) -> int:
        return len(await asyncio.gather(*(run.step(i) for i in range(10))))

    commits: list[int] = []

    def counted() -> bool:
        commits.append(1)
        return False  # do not turn it into a rollback

    floor = Floor(tmp_path / "floor.db")
    floor.db.set_commit_hook(counted)
    runs = await asyncio.gather(*(floor.start(code) for _ in range(20)))
    assert await asyncio.gather(*(run.ended for run in runs)) == [10] * 20
    floor.close()
    assert len(commits) == 3


async def test_a_signal_and_a_replay_give_what_was_recorded(tmp_path: Path) -> None:
    async def waits(run: FloorRun) -> object:
        return await run.message()

    async def adds(run: FloorRun, n: int) -> int:
        total = 0
        for i in range(n):
            total += await run.step(10 * i)
        return total

    floor = Floor(tmp_path / "floor.db")
    waiting = await floor.start(waits)
    floor.signal(waiting, {"answer": 1})
    assert await waiting.ended == {"answer": 1}
    run = await floor.start(adds, 4)
    assert await run.ended == floor.replay(run.key, adds, 4) == 60
    floor.close()
