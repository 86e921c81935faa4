"""Lives of workers in real processes: forked, killed with SIGKILL at a numbered point, and followed by others.

`python -m tests.crash.lives DIRECTORY FAMILY POINT…` prints a line of JSON for each point. The launcher never opens a
store and runs no event loop, so that forks of it are as good as fresh processes, and a hundred times as fast to make.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from aob.client.client import Client
from aob.clock import SystemClock
from aob.process import SystemProcess
from aob.settings import load
from aob.stores.protocol import Store
from aob.stores.sqlite import SqliteOptions, open_store
from aob.testing.oracle import Seen, look, problems
from aob.testing.seeded import StoreAround
from tests.crash.scenario import WORKFLOWS, Here, Ledger, drive
from tests.integration.faulty_disk import FaultyDisk

T = TypeVar("T")
FAMILIES = ("store", "disk")
"""Points before and after each write to the store, effect and answer; or before each write and sync of the disk."""
WRITES = ("append", "send", "send_many", "acquire", "renew", "release", "take_reply", "delete_run", "sweep", "trim")


class Points:
    """Counts the points that are passed, and dies at one."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.passed: list[str] = []

    def hit(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)


class KillingStore(StoreAround):
    """A store with a point before and after each of its writes."""

    def __init__(self, inner: Store, points: Points) -> None:
        super().__init__(inner)
        self._points = points

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)
        return self._watched(name, method) if name in WRITES else method

    def _watched(self, name: str, method: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        async def call(*args: Any, **kwargs: Any) -> T:
            self._points.hit(f"before {name}")
            answer = await method(*args, **kwargs)
            self._points.hit(f"after {name}")
            return answer

        return call


async def live(directory: Path, family: str, points: Points) -> dict[str, Any]:
    """One worker's life, to its proper end if nothing kills it."""
    Here.effects = Ledger(directory / "effects.jsonl")
    disk = FaultyDisk()
    if family == "disk":
        disk.on_write = lambda path, data: points.hit(f"before a write to {path.rpartition('/')[2]}")
        disk.on_sync = lambda path: points.hit(f"before a sync of {path.rpartition('/')[2]}")
    else:
        Here.hit = staticmethod(points.hit)
    clock, process = SystemClock(), SystemProcess()
    url = f"sqlite:///{directory}/aob.db"
    store: Any = await open_store(url, clock=clock, process=process, options=SqliteOptions(vfs=disk.name))
    if family == "store":
        store = KillingStore(store, points)
    client = Client(url, settings=load(), clock=clock, process=process, store=cast("Store", store))
    async with client, client.serve(*WORKFLOWS):
        results = await drive(client, Ledger(directory / "calls.jsonl"))
    await store.close()
    return results


def forked(fn: Callable[[], Any], answer: Path) -> int:
    """Run `fn` in a forked process and have its value written to a file; the status it ended with."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    try:
        answer.write_text(json.dumps(fn()))
    except BaseException:
        answer.with_suffix(".error").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


async def seen_in(directory: Path) -> Seen:
    url = f"sqlite:///{directory}/aob.db"
    store = await open_store(url, clock=SystemClock(), process=SystemProcess())
    try:
        return await look(store)
    finally:
        await store.close()


class Snapshot(NamedTuple):
    """What the log and the ledgers said at some moment."""

    rows: dict[str, list[list[int]]]
    finished: list[list[str]]
    effects: int


def finished_in(seen: Seen) -> list[list[str]]:
    """Run and step of every activity that has a result."""
    return [
        [run, step]
        for (_, run), events in seen.events.items()
        for row in events
        if row.kind == "step_completed" and (step := json.loads(row.data)[1]).startswith(ACTIVITIES)
    ]


ACTIVITIES = ("do#", "do_in_thread#", "do_at_the_second_attempt#", "undo#")


def effects_problems(seen: Seen, effects: list[dict[str, Any]], before: Snapshot | None) -> list[str]:
    """I4, I5, I6: every finished activity had its effect, under a key of its own, and none after it had finished."""
    keys: dict[tuple[str, str, str], set[str]] = {}
    for line in effects:
        keys.setdefault(("default", line["run"], line["step"]), set()).add(line["key"])
    quiet = [name for name in finished_in(seen) if ("default", *name) not in keys]
    again = [[e["run"], e["step"]] for e in effects[before.effects :]] if before else []
    return [
        *problems(seen, keys),
        *(f"run {run}: {step} finished without its effect" for run, step in quiet),
        *(
            f"run {run}: {step} was done again though it had finished"
            for run, step in again
            if [run, step] in before.finished
        ),
    ]


def calls_problems(seen: Seen, calls: list[dict[str, Any]]) -> list[str]:
    """I1, I2: what was answered is in the log, and no call is in it twice."""
    kinds = {run: Counter(row.kind for row in events) for (_, run), events in seen.events.items()}
    mail = [row.data for row in seen.events.get(("default", "mailbox"), []) if row.kind == "signal_received"]
    signals = Counter(json.loads(data)[3] for data in mail)
    found = [f"{run} was started {k['run_started']} times" for run, k in kinds.items() if k["run_started"] > 1]
    found += [f"the signal {name} is in the log {count} times" for name, count in signals.items() if count > 1]
    for line in calls:
        of_run = kinds.get(line["run"], Counter())
        there = {
            "start": of_run["run_started"],
            "signal": signals[line.get("id", "")],
            "cancel": of_run["cancel_requested"],
        }
        if line["outcome"] == "ok" and not there[line["call"]]:
            found.append(f"a call was answered and is not in the log: {line}")
    return found


def checked(directory: Path) -> list[str]:
    """All that the log and the ledgers say together, also with what they said at the check before."""
    kept = directory / "snapshot.json"
    before = Snapshot(*json.loads(kept.read_text())) if kept.exists() else None
    seen = asyncio.run(seen_in(directory))
    effects = Ledger(directory / "effects.jsonl").lines()
    rows = {name[1]: [[e.seq, e.chain] for e in events] for name, events in seen.events.items()}
    kept.write_text(json.dumps(Snapshot(rows, finished_in(seen), len(effects))))
    found = effects_problems(seen, effects, before)
    found += calls_problems(seen, Ledger(directory / "calls.jsonl").lines())
    old = before.rows.items() if before else ()
    return found + [f"run {r}: events are gone or changed" for r, e in old if rows.get(r, [])[: len(e)] != e]


def answer_of(fn: Callable[[], Any], answer: Path) -> Any:
    """What `fn` returns in a forked process; None when it was killed.

    Raises:
        RuntimeError: it failed; with its traceback.
    """
    status = forked(fn, answer)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    if status:
        raise RuntimeError(f"in {answer}: {answer.with_suffix('.error').read_text()}")
    return json.loads(answer.read_text())


def told(directory: Path, family: str, number: int) -> dict[str, Any]:
    """Kill a worker at this point (0: not at all), see what the next makes of it, and check everything both times."""

    def life(at: int) -> Callable[[], dict[str, Any]]:
        points = Points(at)
        return lambda: {"results": asyncio.run(live(directory, family, points)), "passed": points.passed}

    first = answer_of(life(number), directory / "first.json")
    found = answer_of(lambda: checked(directory), directory / "checked.json")
    last = first or answer_of(life(0), directory / "second.json")
    if first is None:
        found += answer_of(lambda: checked(directory), directory / "checked.json")
    passed = last["passed"] if number == 0 else []
    return {"point": number, "killed": first is None, "problems": found, "results": last["results"], "passed": passed}


def main(directory: Path, family: str, numbers: list[int]) -> None:
    """A line of JSON for each point."""
    for number in numbers:
        here = directory / f"{family}-{number}"
        here.mkdir(parents=True)
        print(json.dumps(told(here, family, number)), flush=True)
        shutil.rmtree(here)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], [int(number) for number in sys.argv[3:]])
