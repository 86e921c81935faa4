"""`aob doctor`: is everything as it should be, and what to do where it is not."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator
from typing import Literal

import msgspec
from rich.text import Text

from aob import __version__
from aob.cli.exporters import progress_of
from aob.cli.output import count, print_json, stdout
from aob.cli.session import Here, Session
from aob.client.client import Client
from aob.errors import AobError
from aob.kernel.states import OPEN_STATES, STATES
from aob.settings import Settings, load
from aob.stores.facts import Inspectable, StoreFacts
from aob.stores.rows import BuildRow, RunFilter, RunRow
from aob.stores.urls import without_password

_PAGE = 1_000
_NAMED = 5
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}
_LOG_LARGE = 256 * 1024 * 1024
_DISK_LOW = 1024 * 1024 * 1024
_DISK_OUT = 64 * 1024 * 1024
_INBOX_OLD = 1_000
_EXPORTER_LATE = 10_000

_DEFAULTS = msgspec.to_builtins(Settings())

State = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True):
    """One line: how it is, what was looked at, what was found, and what to do."""

    state: State
    what: str
    found: str
    todo: str = ""


async def doctor(*, session: Here) -> int:
    """Look at this installation and the store, and say what to do where something is wrong.

    The exit code is 1 when a line says fail.

    For example:

        aob doctor --store sqlite:///shop.db
    """
    findings: list[Finding] = []
    async for finding in examine(session):
        findings.append(finding)
        if not session.json:
            _print(finding)
    if session.json:
        print_json(findings)
    return 1 if any(f.state == "fail" for f in findings) else 0


def _print(finding: Finding) -> None:
    line = Text.assemble(
        (f"{finding.state:<5}", _STYLES[finding.state]), (f"{finding.what:<12}", "bold"), finding.found
    )
    console = stdout()
    console.print(line, soft_wrap=True)
    if finding.todo:
        console.print(f"{'':17}{finding.todo}", soft_wrap=True, style="dim")


async def examine(session: Session) -> AsyncGenerator[Finding]:
    """All findings, as they are made."""
    yield Finding("ok", "aob", f"{__version__}, Python {platform.python_version()}, {platform.system()}")
    changed = {k: v for k, v in msgspec.to_builtins(load()).items() if v != _DEFAULTS[k]}
    if "store" in changed:
        changed["store"] = without_password(changed["store"])
    yield Finding("ok", "settings", ", ".join(f"{k}={v}" for k, v in changed.items()) or "the defaults")
    if not session.exists:
        yield Finding("warn", "store", f"there is none at {session.file}", "start a run, or name another with --store")
        return
    try:
        async with session.connect() as client:
            yield Finding("ok", "store", f"{session.name} opens and looks whole")
            async for finding in _examine_store(client):
                yield finding
    except AobError as e:
        yield Finding("fail", "store", f"{session.name}: {e.code}", str(e))


async def _examine_store(client: Client) -> AsyncGenerator[Finding]:
    counts, parked, pinned = await _counted(client)
    unfinished = sum(counts[state] for state in OPEN_STATES)
    if isinstance(client.store, Inspectable):
        for finding in _examine_facts(await client.store.facts(), unfinished):
            yield finding
    waiting = await client.store.waiting()
    yield Finding(
        "warn" if len(waiting) >= _INBOX_OLD else "ok", "inbox", count(len(waiting), "message"),
        "start a worker: nobody reads them" if len(waiting) >= _INBOX_OLD else "",
    )  # fmt: skip
    runs = ", ".join(f"{counts[state]:,} {state}" for state in STATES if counts[state])
    yield Finding("ok", "runs", runs or "none")
    tickets = await client.store.tickets(None, "open", None, _PAGE)
    if tickets:
        yield Finding("ok", "approvals", f"{count(len(tickets), 'ticket')} open", "aob approve list")
    for progress in progress_of(await client.store.cursors()):
        late = progress.behind >= _EXPORTER_LATE
        yield Finding(
            "warn" if late else "ok", "exporter", f"{progress.exporter}: {count(progress.behind, 'event')} behind",
            "nothing that it lacks is deleted: start a worker that has it, or aob exporter drop NAME" if late else "",
        )  # fmt: skip
    for build in await client.store.builds():
        yield _build(build, pinned[build.name])
    if counts["parked"]:
        yield Finding(
            "warn", "parked", f"{count(counts['parked'], 'run')}: {', '.join(r.run_id for r in parked)}",
            "see why: aob run get RUN; they go on when code that fits is served, or with aob run resume RUN",
        )  # fmt: skip


def _build(build: BuildRow, some: list[str]) -> Finding:
    runs = count(build.runs, "pinned run")
    if not build.runs or build.workers or build.retired:
        more = ", retired" if build.retired else ", drains" if build.draining else ""
        todo = "" if build.workers or build.retired else f"if its code is gone: aob build retire {build.name}"
        return Finding("ok", "build", f"{build.name}: {count(build.workers, 'worker')}, {runs}{more}", todo)
    return Finding(
        "warn", "build", f"{build.name}: no worker, {runs}: {', '.join(some)}",
        f"start a worker of it: aob worker MODULE --build {build.name}; or let them go on with any build: "
        f"aob build retire {build.name}",
    )  # fmt: skip


async def _counted(client: Client) -> tuple[Counter[str], list[RunRow], defaultdict[str, list[str]]]:
    """Runs of all tenants by state, some that are parked, and some that are pinned, by build."""
    counts: Counter[str] = Counter()
    parked: list[RunRow] = []
    pinned: defaultdict[str, list[str]] = defaultdict(list)
    before: int | None = None
    while rows := await client.store.list_runs(RunFilter(before=before, limit=_PAGE)):
        counts.update(row.status for row in rows)
        parked += [row for row in rows if row.status == "parked"][: _NAMED - len(parked)]
        for row in rows:
            if row.build is not None and row.ended is None and len(pinned[row.build]) < _NAMED:
                pinned[row.build].append(row.run_id)
        before = rows[-1].key
        await asyncio.sleep(0)
    return counts, parked, pinned


def _examine_facts(facts: StoreFacts, unfinished: int) -> list[Finding]:
    return [
        Finding("ok", "engine", f"{facts.engine}, {sys.maxsize.bit_length() + 1} bits"),
        Finding("ok", "schema", f"{facts.schema}, the newest this aob knows is {facts.newest_schema}"),
        *(Finding("fail", "lacks", *lack.split(": ", 1)) for lack in facts.lacks),
        _worker(facts, unfinished),
        _log(facts),
        *([] if facts.bytes_free is None else [_disk(facts.bytes_free)]),
    ]


def _worker(facts: StoreFacts, unfinished: int) -> Finding:
    if facts.owner_lives:
        return Finding("ok", "worker", f"{facts.owner} owns the store (epoch {facts.epoch})")
    before = "" if facts.owner is None else f"; the last was {facts.owner}"
    if not facts.released and facts.owner is not None:
        return Finding(
            "warn", "worker", f"none; {facts.owner} died without handing over",
            "start a worker: it takes over what was in flight",
        )  # fmt: skip
    if unfinished:
        todo = f"start one for {count(unfinished, 'open run')}: aob worker MODULE"
        return Finding("warn", "worker", f"none{before}", todo)
    return Finding("ok", "worker", f"none, and no open runs{before}")


def _log(facts: StoreFacts) -> Finding:
    if facts.bytes_in_log is None:
        return Finding("ok", "size", _bytes(facts.bytes_used))
    found = f"{_bytes(facts.bytes_used)}, write-ahead log {_bytes(facts.bytes_in_log)}"
    if facts.bytes_in_log > _LOG_LARGE:
        return Finding("warn", "size", found, "a program keeps a read open on the file: fuser names it; close it")
    return Finding("ok", "size", found)


def _disk(free: int) -> Finding:
    found = f"{_bytes(free)} free"
    if free < _DISK_OUT:
        return Finding("fail", "disk", found, "free some space: commits are refused when it is full")
    if free < _DISK_LOW:
        return Finding("warn", "disk", found, "free some space, or keep ended runs for less long: AOB_RETENTION_DAYS")
    return Finding("ok", "disk", found)


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
