"""Processes are kept alive, given up in a crash loop, and stopped together."""

import asyncio
import os
import signal
from pathlib import Path

from aob.clock import SystemClock
from aob.process import ChildProcess, spawn_python
from aob.worker.processes import Processes, Restarts

FAST = Restarts(first=0.01, most=0.02, healthy=60, tries=4)
SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPS


class Seen:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.lines: list[tuple[int, str, bool]] = []
        self.ends: list[tuple[int, int, float | None]] = []
        self.given_up: list[tuple[int, int, int]] = []
        self.news = asyncio.Event()

    def started(self, number: int, pid: int) -> None:
        self.pids.append(pid)

    def said(self, number: int, line: str, error: bool) -> None:
        self.lines.append((number, line, error))
        self.news.set()

    def ended(self, number: int, code: int, again_in: float | None) -> None:
        self.ends.append((number, code, again_in))

    def gave_up(self, number: int, code: int, tries: int) -> None:
        self.given_up.append((number, code, tries))

    async def lines_are(self, count: int) -> None:
        while len(self.lines) < count:
            self.news.clear()
            await self.news.wait()


def crew(code: str, count: int, seen: Seen, restarts: Restarts = FAST) -> Processes:
    async def start() -> ChildProcess:
        return await spawn_python("-c", code, read_stderr=True)

    return Processes(start, count, SystemClock(), seen, restarts)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_one_that_dies_is_started_again_and_the_others_go_on() -> None:
    seen = Seen()
    processes = crew(SLEEPS, 2, seen)
    running = asyncio.ensure_future(processes.run())
    await seen.lines_are(2)
    os.kill(seen.pids[0], signal.SIGKILL)
    await seen.lines_are(3)
    assert seen.ends == [(1, -signal.SIGKILL, 0.01)]
    processes.stop()
    assert await running == 1  # SIGTERM ended them, which no worker of ours does
    assert not any(map(alive, seen.pids))


async def test_one_that_ends_well_after_stop_makes_it_end_well() -> None:
    seen = Seen()
    ends_well = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); " + SLEEPS
    processes = crew(ends_well, 2, seen)
    running = asyncio.ensure_future(processes.run())
    await seen.lines_are(2)
    processes.stop()
    assert await running == 0
    assert sorted(seen.ends) == [(1, 0, None), (2, 0, None)]


async def test_a_crash_loop_is_given_up_and_the_others_are_stopped(tmp_path: Path) -> None:
    seen = Seen()
    first = tmp_path / "first"
    code = f"import os; fd = os.open({str(first)!r}, os.O_CREAT | os.O_EXCL); {SLEEPS}"
    assert await crew(code, 2, seen).run() == 1
    (number, code_of_end, tries), *more = seen.given_up
    assert (code_of_end, tries, more) == (1, 4, [])
    pauses = [again_in for who, _, again_in in seen.ends if who == number]
    assert pauses == [0.01, 0.02, 0.02]
    assert any("FileExistsError" in line for _, line, error in seen.lines if error)
    assert not any(map(alive, seen.pids))


async def test_one_that_lasted_is_not_in_a_crash_loop() -> None:
    seen = Seen()
    processes = crew("print('up')", 1, seen, Restarts(first=0.001, most=0.001, healthy=0, tries=2))
    running = asyncio.ensure_future(processes.run())
    await seen.lines_are(5)
    processes.stop()
    await running
    assert seen.given_up == []


async def test_one_that_was_called_in_a_wrong_way_is_not_started_again() -> None:
    seen = Seen()
    assert await crew("import sys; sys.exit(2)", 1, seen).run() == 2
    assert len(seen.pids) == 1


async def test_kill_ends_those_that_do_not_stop() -> None:
    seen = Seen()
    processes = crew(STUBBORN, 2, seen)
    running = asyncio.ensure_future(processes.run())
    await seen.lines_are(2)
    processes.stop()
    processes.kill()
    assert await running == 1
    assert {code for _, code, _ in seen.ends} == {-signal.SIGKILL}


async def test_lines_come_whole_however_they_were_written() -> None:
    seen = Seen()
    code = "import os; os.write(1, b'a' * 70_000); os.write(1, b'b\\nc\\n'); os.write(2, b'no end')"
    processes = crew(code, 1, seen)
    running = asyncio.ensure_future(processes.run())
    await seen.lines_are(3)
    processes.stop()
    await running
    assert sorted(seen.lines)[:3] == [(1, "a" * 70_000 + "b", False), (1, "c", False), (1, "no end", True)]
