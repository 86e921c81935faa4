"""`aob worker`: serve workflows until told to stop."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.live import Live
from rich.text import Text

from aob import telemetry
from aob.cli.loading import workflows_of
from aob.cli.output import stderr
from aob.cli.processes import supervise
from aob.cli.session import Here, Misuse, Session
from aob.cli.telling import Teller, stop_signals
from aob.worker.jsonlines import JsonLines
from aob.worker.worker import Worker

_REFRESH = 0.5


async def worker(
    module: str,
    /,
    *modules: str,
    processes: int | None = None,
    build: str | None = None,
    export_jsonl: Annotated[Path | None, Parameter(env_var="AOB_EXPORT_JSONL")] = None,
    session: Here,
) -> int:
    """Serve the workflows of modules until told to stop.

    The first worker on a store owns it; others stand by and take over when it stops or dies. SIGTERM or Ctrl-C stop it
    in good order: what is in flight is finished or handed over. A second one stops it at once, and loses nothing
    either.

    For example:

        aob worker shop.orders

        aob worker flow.py other.module:only_this --store sqlite:///shop.db

        aob worker shop.orders --processes 4 --store postgresql://localhost/shop

    Args:
        module: a module, a file, or module:function
        modules: more of them
        processes: so many worker processes; one that dies is started again. More than one needs Postgres
        build: the build of the code that is served, such as a commit's short hash
        export_jsonl: a file to which every event is added, a line of JSON each
    """
    if export_jsonl is not None and not export_jsonl.absolute().parent.is_dir():
        raise Misuse(f"--export-jsonl {export_jsonl}: there is no such folder")
    if processes is not None:
        options = [
            *(("--build", build) if build else ()),
            *(("--export-jsonl", str(export_jsonl)) if export_jsonl else ()),
        ]
        return await supervise(session, processes, (module, *modules, *options))
    exporters = [JsonLines(export_jsonl)] if export_jsonl is not None else []
    served = [w for reference in (module, *modules) for w in workflows_of(reference)]
    teller = Teller(session)
    async with session.connect(build=build) as client:
        serving = client.serve(*dict.fromkeys(served), exporters=exporters)
        with_telemetry = telemetry.subscribe(teller.heard)
        try:
            teller.begins(serving, session.name)
            async with stop_signals(teller, lambda: os._exit(1)) as stopped, serving:
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
