"""The main job, shown: `python -m examples.support.demo`, or `make demo`.

Puts a few hundred messages through the workflow in a worker process, kills that with SIGKILL when half of the replies
are delivered, starts another one, and counts at the end what was lost and what came twice. Exit code 0 when neither.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

import aob
from examples.support.assistant import LOCAL_METHOD
from examples.support.demo_report import Interruption, Report
from examples.support.demo_reviewer import UP_TO, review
from examples.support.demo_view import View, table_of
from examples.support.demo_worker import Delivered, WorkerDied, WorkerProcess
from examples.support.knowledge import DATA
from examples.support.models import Message, Reply
from examples.support.outbox import read_records
from examples.support.workflow import process_customer_request

WAVE = 20
OPEN_AT_ONCE = 80
LOOK_SECONDS = 0.002
MARKER = ".made-by-the-aob-demo"


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    messages: Path
    folder: Path
    approval_seconds: float
    deadline: float


def parse(arguments: list[str]) -> Options:
    """The options in `arguments`; prints help and exits when asked or wrong."""
    parser = argparse.ArgumentParser(prog="python -m examples.support.demo", description=__doc__)
    parser.add_argument("--messages", type=Path, default=DATA / "messages.csv", help="a CSV file with a column 'text'")
    parser.add_argument("--folder", type=Path, default=Path("demo-data"), help="made anew (default: %(default)s)")
    parser.add_argument("--approval-seconds", type=float, default=1.0, help="how long a refund waits for a person")
    parser.add_argument("--deadline", type=float, default=55.0, help="give up after so many seconds")
    return Options(**vars(parser.parse_args(arguments)))


def load_messages(path: Path) -> list[Message]:
    """The rows of a CSV file; a row without an id gets the number of its line."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Message(row["text"], id=row.get("id") or f"row-{number:05d}", customer_id=row.get("customer_id") or "")
            for number, row in enumerate(csv.DictReader(file), 1)
        ]


def fresh_folder(folder: Path) -> None:
    """Make `folder` empty; refuses one that an earlier demo has not made."""
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARKER).exists():
            raise SystemExit(f"{folder} holds files that the demo has not made; choose another one with --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    (folder / ".gitignore").write_text("*\n")


class Demo:
    """One demonstration.

    Args:
        client: connected to the store that the worker serves; it only starts runs and looks at them.
        start_worker: starts a worker process.
        outbox: where the workers deliver to.
        view: what the person sees.
    """

    def __init__(self, client: aob.Client, start_worker: Callable[[], WorkerProcess], outbox: Path, view: View) -> None:
        self._client = client
        self._start_worker = start_worker
        self._outbox = outbox
        self._delivered = Delivered(outbox)
        self._view = view
        self._runs: list[aob.Run[Reply]] = []

    async def perform(self, messages: list[Message]) -> Report:
        """Put `messages` through the workflow, with a kill half-way."""
        began = time.monotonic()
        feeding = asyncio.create_task(self._feed(messages))
        reviewing = asyncio.create_task(review(self._client))
        worker = self._start_worker()
        try:
            await self._watch(len(messages) // 2, worker, feeding, reviewing)
            worker.kill()
            left = Interruption(worker.pid, self._delivered.count(), await self._histories())
            self._view.say(left.sentence())
            worker = self._start_worker()
            self._view.say(f"another worker takes over: process {worker.pid}")
            await self._watch(len(messages), worker, feeding, reviewing)
            await feeding
            for run in self._runs:
                await run.result()
            seconds = time.monotonic() - began
        finally:
            feeding.cancel()
            reviewing.cancel()
            worker.stop()
        sent = [message.id for message in messages]
        return Report(sent, read_records(self._outbox), await self._histories(), seconds, left)

    async def _feed(self, messages: list[Message]) -> None:
        """Start a run for each message, some at a time; also while no worker is alive."""
        for first in range(0, len(messages), WAVE):
            await self._reach(len(self._runs) + WAVE - OPEN_AT_ONCE)
            wave = messages[first : first + WAVE]
            self._runs += await self._client.start_many(
                process_customer_request, wave, run_ids=[message.id for message in wave]
            )

    async def _reach(self, target: int) -> None:
        """Wait until `target` replies are delivered."""
        # Another process writes the file: there is nothing to be woken by.
        while self._delivered.count() < target:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)

    async def _watch(self, target: int, worker: WorkerProcess, *tasks: asyncio.Task[None]) -> None:
        """Show progress until `target` replies are delivered."""
        while (delivered := self._delivered.count()) < target:
            self._view.update(delivered)
            worker.check()
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(LOOK_SECONDS)
        self._view.update(delivered)

    async def _histories(self) -> dict[str, list[aob.Event]]:
        return {run.run_id: await run.history() for run in list(self._runs)}


async def demonstrate(options: Options, console: Console) -> Report:
    """The whole demonstration in a fresh folder.

    Raises:
        WorkerDied: a worker ended by itself.
        TimeoutError: the deadline passed.
    """
    messages = load_messages(options.messages)
    fresh_folder(options.folder)
    store = f"sqlite:///{options.folder / 'aob.db'}"
    console.print(
        f"{len(messages)} customer messages go through a durable workflow; its worker will be killed half-way.\n"
        f"Replies are written by {LOCAL_METHOD}.\n"
        f"Refunds above the limit wait for a person: the demo approves those up to {UP_TO} EUR and leaves the others,\n"
        f"which count as rejected when their time of {options.approval_seconds:g} s has passed.",
        highlight=False,
        soft_wrap=True,
    )
    view = View(console, len(messages))
    async with asyncio.timeout(options.deadline), aob.connect(store) as client:
        with view.shown():
            demo = Demo(
                client,
                lambda: WorkerProcess(store, options.folder, options.approval_seconds),
                options.folder / "outbox.jsonl",
                view,
            )
            return await demo.perform(messages)


def command_line() -> str:
    """How to call `aob` here: by its name, or by its path when the one beside this Python is not found by name."""
    beside = Path(sys.executable).with_name("aob")
    if not beside.exists() or shutil.which("aob") == str(beside):
        return "aob"
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


def hints(options: Options, report: Report) -> str:
    """The commands to look further, for runs of this demonstration."""
    aob_command, store = command_line(), f"--store sqlite:///{options.folder / 'aob.db'}"
    slow = next((record["run_id"] for record in report.records if record["outcome"] == "refund not approved"), None)
    run = slow or report.sent[0]
    return "\n".join(
        [
            "look further:",
            f"  {aob_command} run list {store}",
            f"  {aob_command} run history {run} {store}",
            f"  {aob_command} run timeline {run} {store}",
            f"  {aob_command} approve list --status all {store}",
            f"  less {options.folder / 'outbox.jsonl'}",
        ]
    )


def main(arguments: list[str]) -> int:
    """Show the demonstration. Returns the exit code: 0 when nothing was lost and nothing came twice."""
    options = parse(arguments)
    console = Console()
    try:
        report = asyncio.run(demonstrate(options, console))
    except WorkerDied as error:
        console.print(str(error), markup=False)
        return 1
    except TimeoutError:
        delivered = len(read_records(options.folder / "outbox.jsonl"))
        console.print(
            f"not finished after {options.deadline:g} s: {delivered} messages are delivered; "
            f"see {options.folder / 'worker.log'}, and {command_line()} run list --store "
            f"sqlite:///{options.folder / 'aob.db'}",
            markup=False,
            soft_wrap=True,
        )
        return 1
    except KeyboardInterrupt:
        return 130
    console.print(table_of(report))
    console.print(hints(options, report), markup=False, highlight=False, soft_wrap=True)
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
