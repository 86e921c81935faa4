"""`aob worker --processes N`: several workers under one process that starts them, passes on what they say, and stops
them."""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from typing import Any, cast

import msgspec

from aob import __version__
from aob.cli.main import main
from aob.cli.output import print_json_line, span, stdout
from aob.cli.session import Misuse, Session
from aob.cli.telling import Teller, stop_signals
from aob.clock import SystemClock
from aob.process import ChildProcess, end_with_parent, spawn_python
from aob.settings import load
from aob.worker.processes import MISUSED, Processes

_CHILD = "from aob.cli.processes import child; child()"
_GRACE = 20.0


async def supervise(session: Session, number: int, tokens: tuple[str, ...]) -> int:
    """Run `aob worker` with these tokens in so many processes until told to stop; the exit code.

    Raises:
        Misuse: one process alone can own the store.
    """
    if number < 1:
        raise Misuse(f"--processes {number}: give a number of at least 1")
    if number > 1:
        await _refuse_one_owner(session, number)
    teller, relay = Teller(session), Relay(session)

    async def start() -> ChildProcess:
        command = ("-P", "-c", _CHILD, "worker", *tokens, *session.tokens())
        return await spawn_python(*command, own_session=True, read_stderr=True)

    crew = Processes(start, number, SystemClock(), relay)
    what = "1 worker process" if number == 1 else f"{number} worker processes"
    teller.tell("supervising", f"aob {__version__}, {what}", pid=os.getpid(), processes=number)
    async with stop_signals(teller, crew.kill, crew.stop):
        return await crew.run()


async def _refuse_one_owner(session: Session, number: int) -> None:
    if not session.url.startswith("sqlite:"):
        async with session.connect() as client:  # made, or brought to its newest schema, once for all of them
            if client.store.partitions > 1:
                return
    raise Misuse(
        f"--processes {number}: one process at a time owns {session.name}, so the others would only stand by; for "
        "several at work put the runs into Postgres: --store postgresql://…"
    )


def child() -> None:
    """One of the processes: `aob` as ever, which ends with its parent."""
    cast("TextIOWrapper", sys.stdout).reconfigure(line_buffering=True)
    end_with_parent(load().drain_timeout + _GRACE)
    main()


class Relay:
    """Passes on what processes say and do, with their numbers; see `aob.worker.processes.Watcher`."""

    def __init__(self, session: Session) -> None:
        self._json = session.json

    def started(self, number: int, pid: int) -> None:
        """See `Watcher.started`."""
        if self._json:
            self._tell("process_started", number, pid=pid)

    def said(self, number: int, line: str, error: bool) -> None:
        """See `Watcher.said`."""
        if error:
            print(f"[{number}] {line}", file=sys.stderr, flush=True)
        elif not self._json:
            self._print(number, line)
        elif (event := _event(line)) is not None:
            print_json_line({"process": number, **event})
        else:
            self._tell("output", number, line=line)

    def ended(self, number: int, code: int, again_in: float | None) -> None:
        """See `Watcher.ended`."""
        if self._json:
            self._tell("process_ended", number, code=code, again_in=again_in)
        elif again_in is not None:
            self._print(number, f"ended with {_how(code)}; it is started again in {span(again_in)}")
        elif code:
            self._print(number, f"ended with {_how(code)}")

    def gave_up(self, number: int, code: int, tries: int) -> None:
        """See `Watcher.gave_up`."""
        if self._json:
            self._tell("gave_up", number, code=code, tries=tries)
        if code == MISUSED:
            return  # it has said why
        print(
            f"error: worker process {number} ended {tries} times soon after its start, at last with {_how(code)}: "
            "stopping all; what it said is above [crash_loop]",
            file=sys.stderr, flush=True,
        )  # fmt: skip

    def _tell(self, event: str, number: int, **fields: Any) -> None:
        print_json_line({"process": number, "event": event, **fields})

    def _print(self, number: int, line: str) -> None:
        stdout().print(f"[{number}] {line}", soft_wrap=True)
        sys.stdout.flush()


def _event(line: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(line, type=dict[str, Any]) if line.startswith('{"event":') else None
    except msgspec.DecodeError:
        return None


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
