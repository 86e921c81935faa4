"""What a worker says, and how it is told to stop."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aob import __version__
from aob.cli.loading import AnyWorkflow
from aob.cli.output import print_json_line, stdout
from aob.cli.session import Session
from aob.worker.worker import Worker


@asynccontextmanager
async def stop_signals(
    teller: Teller, at_once: Callable[[], None], first: Callable[[], None] = lambda: None
) -> AsyncGenerator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set, calling `first`; the second signal calls `at_once`."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def told() -> None:
        if stopped.is_set():
            teller.tell("killed", "stopped at once: the next worker takes over what was in flight")
            at_once()
            return
        stopped.set()
        first()
        teller.tell("stopping", "stopping: finishing what is in flight (again: stop at once)")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    try:
        yield stopped
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class Teller:
    """Says what happens to the worker, in lines for people or for programs."""

    def __init__(self, session: Session) -> None:
        self._json = session.json
        self._shared = not session.url.startswith("sqlite:")
        self._console = stdout()
        self._stands_by = False

    def tell(self, event: str, line: str, **fields: Any) -> None:
        """Print one thing that happened."""
        if self._json:
            print_json_line({"event": event, **fields})
        else:
            self._console.print(line, soft_wrap=True)
            sys.stdout.flush()

    def begins(self, worker: Worker, url: str) -> None:
        """Which workflows this process serves, and on which store."""
        names = {name: _where(w) for name, w in sorted(worker.workflows.items())}
        if self._json:
            self.tell("serving", "", pid=os.getpid(), version=__version__, store=url, workflows=names)
            return
        self.tell("", f"aob {__version__} worker, process {os.getpid()}, on {url}")
        width = max(map(len, names))
        for name, where in names.items():
            self.tell("", f"  serves {name:<{width}}  {where}")

    def state(self, worker: Worker) -> None:
        """Whether the worker owns the store, or a part of it; if not, that is said when it does."""
        self._stands_by = worker.host is None
        if worker.host is not None:
            held = len(worker.host.commits.leases)
            owns = "the store" if worker.host.store.partitions == 1 else f"{held} partitions"
            self.tell("ready", f"ready: it owns {owns} (stop it with Ctrl-C)")

    def heard(self, name: str, fields: Mapping[str, Any]) -> None:
        """An event of the engine."""
        line = (_OF_PARTITIONS if self._shared else _OF_A_WHOLE_STORE).get(name) or _LINES.get(name)
        if self._json:
            self.tell(name, "", **{k: v if isinstance(v, int | float | str) else str(v) for k, v in fields.items()})
        elif line is not None:
            said = line.format_map({k: _first_line(v) for k, v in fields.items()})
            self.tell(name, _ONE.sub("1 partition", said))
        if name == "lease_taken" and self._stands_by:
            self._stands_by = False
            self.tell("ready", "ready (stop it with Ctrl-C)")


_ONE = re.compile(r"\b1 partitions\b")
_LINES = {
    "recovered": "open runs taken over: {runs}, in {seconds} s",
    "no_build": "warning: runs of {workflows} are not pinned, for no build is declared: give --build, or set AOB_BUILD",
    "build_retired": "warning: runs of {workflows} are not pinned, for build {build} is retired: give another",
    "run_parked": "parked {run_id}: {reason}",
    "message_unreadable": "a {kind} message to {run_id} was encrypted with another codec: start a worker that has it",
    "turn_blocked": "workflow code blocks for {seconds} s in {run_id}",
    "store_away": "the store cannot be reached; this worker goes on by itself when it can: {error}",
    "store_locked": "another program holds the store's lock: nothing is acknowledged until it lets go",
    "store_full": "the disk is full: nothing is acknowledged until there is space",
    "store_failed": "the store failed: {error}",
    "export_failed": "exporter {exporter} failed: {error}; it is given the same events again in {seconds} s",
    "attempt_leaked": "an attempt of {run_id} {step} does not stop",
}


_OF_A_WHOLE_STORE = {
    "lease_taken": "owns the store (epoch {epoch})",
    "standing_by": "stands by: another worker owns the store; this one takes over when that one stops or dies",
    "lease_lost": "lost the store to another worker; standing by",
}
_OF_PARTITIONS = {
    "lease_taken": "owns {held} partitions (epoch {epoch})",
    "lease_released": "handed {partitions} partitions over, owns {held}",
    "standing_by": "stands by: other workers own all partitions; this one takes its share as soon as it can",
    "lease_lost": "lost its {partitions} partitions: other workers may own them by now; this one takes what it can",
}


def _first_line(value: object) -> str:
    return (str(value).splitlines() or [""])[0]


def _where(workflow: AnyWorkflow) -> str:
    return f"{workflow.fn.__module__}:{workflow.fn.__qualname__}"
