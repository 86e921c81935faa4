"""`aob worker`: serve workflows until told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from rich.live import Live
from rich.text import Text

from aob import __version__, telemetry
from aob.cli.loading import AnyWorkflow, workflows_of
from aob.cli.output import print_json_line, stderr, stdout
from aob.cli.session import Here, Session
from aob.worker.worker import Worker

_REFRESH = 0.5


async def worker(module: str, /, *modules: str, session: Here) -> int:
    """Serve the workflows of modules until told to stop.

    The first worker on a store owns it; others stand by and take over when it stops or dies. SIGTERM or Ctrl-C stop it
    in good order: what is in flight is finished or handed over. A second one stops it at once, and loses nothing
    either.

    For example:

        aob worker shop.orders

        aob worker flow.py other.module:only_this --store sqlite:///shop.db

    Args:
        module: a module, a file, or module:function
        modules: more of them
    """
    served = [w for reference in (module, *modules) for w in workflows_of(reference)]
    teller = Teller(session)
    async with session.connect() as client:
        serving = client.serve(*dict.fromkeys(served))
        with_telemetry = telemetry.subscribe(teller.heard)
        try:
            teller.begins(serving, client.url)
            async with stop_signals(teller) as stopped, serving:
                teller.state(serving)
                async with live_line(serving, session):
                    await _until(stopped, serving)
        finally:
            with_telemetry()
    if serving.failed is not None:
        raise serving.failed
    teller.tell("stopped", "stopped: everything is handed over")
    return 0


async def _until(stopped: asyncio.Event, serving: Worker) -> None:
    stop, end = asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(serving.ended())
    await asyncio.wait([stop, end], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    end.cancel()
    await asyncio.gather(stop, end, return_exceptions=True)


@asynccontextmanager
async def stop_signals(teller: Teller) -> AsyncGenerator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set; the second signal ends the process at once."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def told() -> None:
        if stopped.is_set():
            teller.tell("killed", "stopped at once: the next worker takes over what was in flight")
            os._exit(1)
        stopped.set()
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
        self._console = stdout()

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
        """Whether the worker owns the store."""
        if worker.host is not None:
            self.tell("ready", "ready: it owns the store (stop it with Ctrl-C)")

    def heard(self, name: str, fields: Mapping[str, Any]) -> None:
        """An event of the engine."""
        line = _OF_A_WHOLE_STORE.get(name) if fields.get("held") == 1 else None
        line = line or _LINES.get(name)
        if self._json:
            self.tell(name, "", **{k: v if isinstance(v, int | float | str) else str(v) for k, v in fields.items()})
        elif line is not None:
            self.tell(name, line.format_map({k: _first_line(v) for k, v in fields.items()}))


_LINES = {
    "lease_taken": "owns {held} partitions (epoch {epoch})",
    "lease_released": "handed {partitions} partitions over, owns {held}",
    "recovered": "open runs taken over: {runs}, in {seconds} s",
    "standing_by": "stands by: another worker owns the store; this one takes over when that one stops or dies",
    "lease_lost": "lost the store to another worker; standing by",
    "run_parked": "parked {run_id}: {reason}",
    "message_unreadable": "a {kind} message to {run_id} was encrypted with another codec: start a worker that has it",
    "turn_blocked": "workflow code blocks for {seconds} s in {run_id}",
    "store_full": "the disk is full: nothing is acknowledged until there is space",
    "store_failed": "the store failed: {error}",
    "attempt_leaked": "an attempt of {run_id} {step} does not stop",
}


_OF_A_WHOLE_STORE = {"lease_taken": "owns the store (epoch {epoch})"}


def _first_line(value: object) -> str:
    return (str(value).splitlines() or [""])[0]


def _where(workflow: AnyWorkflow) -> str:
    return f"{workflow.fn.__module__}:{workflow.fn.__qualname__}"


@asynccontextmanager
async def live_line(worker: Worker, session: Session) -> AsyncGenerator[None]:
    """On a terminal, a line below the others that says what the worker is doing."""
    console = stderr()
    if session.json or not console.is_terminal or not sys.stdout.isatty():
        yield
        return
    with Live(_status(worker, 0, 0.0), console=console, auto_refresh=False, transient=True) as live:
        task = asyncio.ensure_future(_refresh(worker, live))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _refresh(worker: Worker, live: Live) -> None:
    before = worker.host.commits.events if worker.host is not None else 0
    while True:
        await asyncio.sleep(_REFRESH)
        now = worker.host.commits.events if worker.host is not None else 0
        live.update(_status(worker, now, max(now - before, 0) / _REFRESH), refresh=True)
        before = now


def _status(worker: Worker, events: int, rate: float) -> Text:
    host = worker.host
    if host is None:
        return Text("standing by", style="yellow")
    runs = host.residents.all()
    attempts = sum(run.busy for run in runs)
    return Text.assemble(
        (f"{len(runs)}", "bold"), " runs in memory  ", (f"{attempts}", "bold"), " attempts in flight  ",
        (f"{events}", "bold"), " events  ", (f"{rate:.0f}", "bold"), " a second",
    )  # fmt: skip
