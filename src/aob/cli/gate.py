"""The gate before a deploy: every open run is replayed with the code that is to be served."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec

from aob.cli.loading import AnyWorkflow
from aob.cli.output import count, note, print_json, say, stdout
from aob.cli.progress import progress
from aob.cli.rehearsals import Pool, Spec, programs_of
from aob.cli.session import CommandFailed, Misuse, Session
from aob.client.client import Client
from aob.engine.rehearse import Verdict
from aob.kernel.states import OPEN_STATES
from aob.stores.rows import RunFilter, RunRow

_PAGE = 500
_NAMED = 5
_GROUPS = 20


class Break(msgspec.Struct, kw_only=True):
    """Runs that would break at one place in one way; message, diff and step are those of the first.

    Args:
        runs: (tenant, run id) of each.
    """

    workflow: str
    code: str
    step: str | None
    where: str | None
    message: str
    diff: str
    count: int = 0
    runs: list[tuple[str, str]] = []


class Findings(msgspec.Struct, kw_only=True):
    """What the gate came to.

    Args:
        checked: runs that were replayed.
        no_code_for: runs by workflow that the code does not define.
        pinned: runs that were left out, for they stay with the build that began them.
    """

    checked: int = 0
    fit: int = 0
    broken: list[Break] = []
    no_code_for: Counter[str] = msgspec.field(default_factory=lambda: Counter[str]())
    pinned: int = 0

    @property
    def good(self) -> bool:
        """Whether every run would go on."""
        return not self.broken and not self.no_code_for


class Grouping:
    """Puts verdicts together: equal workflow, kind of break, step (whichever call of it) and line are one break."""

    def __init__(self) -> None:
        self.found = Findings()
        self._breaks: dict[tuple[str | None, ...], Break] = {}

    def add(self, verdict: Verdict) -> None:
        """One more run."""
        self.found.checked += 1
        if verdict.fits:
            self.found.fit += 1
            return
        step = verdict.step and verdict.step.rpartition("#")[0]
        key = (verdict.workflow, verdict.code, step, verdict.where)
        known = self._breaks.get(key)
        if known is None:
            known = self._breaks[key] = Break(
                workflow=verdict.workflow, code=verdict.code, step=verdict.step, where=verdict.where,
                message=verdict.message, diff=verdict.diff,
            )  # fmt: skip
            self.found.broken.append(known)
        known.count += 1
        known.runs.append((verdict.tenant, verdict.run_id))


async def gate(session: Session, code: tuple[str, ...], jobs: int, limit: float, pinned: bool) -> int:
    """Replay every open run with this code, print what would break, and return the exit code.

    Raises:
        Misuse: a module is not there.
        CommandFailed: some run would not go on.
    """
    if jobs < 1:
        raise Misuse(f"--jobs {jobs}: give a number of at least 1")
    programs = programs_of(code)
    grouping = Grouping()
    if session.exists:
        async with session.connect() as client:
            spec = Spec(store=session.url, codec=session.codec_name, code=code)
            stay = set[str]() if pinned else {b.name for b in await client.store.builds() if not b.retired}
            await _replay_all(client, Pool(spec, jobs, limit), programs, grouping, stay)
    else:
        note(f"there is no store at {session.file} yet")
    found = grouping.found
    found.broken.sort(key=lambda group: -group.count)
    if session.json:
        print_json(_for_programs(found))
        return 0 if found.good else 1
    _tell(found)
    return 0


async def _replay_all(
    client: Client, pool: Pool, programs: dict[str, AnyWorkflow], grouping: Grouping, stay: set[str]
) -> None:
    with progress() as bar:
        task = bar.add_task("replayed", total=None)

        async def with_code() -> AsyncIterator[RunRow]:
            async for row in open_rows(client):
                if row.build in stay:
                    grouping.found.pinned += 1
                    bar.advance(task)
                elif row.workflow in programs:
                    yield row
                else:
                    grouping.found.no_code_for[row.workflow] += 1
                    bar.advance(task)

        async def counted() -> None:
            bar.update(task, total=sum([1 async for _ in open_rows(client)]))

        counting = asyncio.ensure_future(counted()) if not bar.disable else None
        async with aclosing(pool.verdicts(with_code())) as verdicts:
            async for verdict in verdicts:
                grouping.add(verdict)
                bar.advance(task)
        if counting is not None:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)


async def open_rows(client: Client) -> AsyncGenerator[RunRow]:
    """Every open run of the store, of all tenants."""
    before: int | None = None
    while rows := await client.store.list_runs(RunFilter(status=OPEN_STATES, before=before, limit=_PAGE)):
        for row in rows:
            yield row
        before = rows[-1].key


def _for_programs(found: Findings) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(found)
    for group in fields["broken"]:
        group["runs"] = [{"tenant": tenant, "run_id": run_id} for tenant, run_id in group["runs"]]
    return fields


def _tell(found: Findings) -> None:
    for group in found.broken[:_GROUPS]:
        place = ", ".join(part for part in (group.step or "its end", group.where) if part)
        say(f"{count(group.count, 'run')} of {group.workflow} would break at {place} [{group.code}]: {_named(group)}")
        tell_difference(group.message, group.diff)
    if len(found.broken) > _GROUPS:
        say(f"… and {len(found.broken) - _GROUPS:,} more places; --json shows all")
    for name, number in found.no_code_for.items():
        say(f"{name}: {count(number, 'open run')}, but the code does not define it")
    if found.pinned:
        say(f"left out: {count(found.pinned, 'run')} pinned to their builds (--pinned: replay them, too)")
    if not found.good:
        missing = found.no_code_for.total()
        raise CommandFailed(
            f"of {count(found.checked, 'open run')} {found.checked - found.fit:,} would not go on with this code"
            + (f", and {missing:,} have no code" if missing else "")
        )
    say(f"{count(found.checked, 'open run')}: the code fits")


def _named(group: Break) -> str:
    names = [run_id if tenant == "default" else f"{tenant}/{run_id}" for tenant, run_id in group.runs[:_NAMED]]
    return ", ".join(names) + (f" and {group.count - _NAMED:,} more" if group.count > _NAMED else "")


def tell_difference(message: str, diff: str) -> None:
    """Print what is wrong, with recorded against new steps."""
    console = stdout()
    console.print(message, soft_wrap=True)
    for line in diff.splitlines():
        console.print(f"    {line}", soft_wrap=True, style="bold red" if line.startswith(">") else "")
