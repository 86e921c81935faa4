"""`aob run list`, `get` and `result`."""

from __future__ import annotations

from typing import Any

import msgspec

from aob.cli.output import fields, moment, note, print_json, short, span, status_text, table
from aob.cli.session import CommandFailed, Given, Here, Misuse, Session
from aob.cli.start import print_result
from aob.cli.values import pairs
from aob.client.client import Client
from aob.client.run import Run
from aob.client.views import RunSummary
from aob.clock import SystemClock, to_datetime
from aob.kernel import events as ev
from aob.kernel.failures import Failure
from aob.kernel.states import STATES

_PAGE = 1_000


async def list_(
    *,
    status: tuple[str, ...] = (),
    workflow: str | None = None,
    attribute: tuple[str, ...] = (),
    parent: Given | None = None,
    limit: int = 50,
    cursor: str | None = None,
    session: Here,
) -> int:
    """List runs, newest first.

    For example:

        aob run list --status failed --status parked

        aob run list --workflow ship --attribute customer=acme --limit 500

    Args:
        status: only runs in this state; may be given several times
        workflow: only runs of the workflow of this name
        attribute: key=value, only runs with this label; may be given several times
        parent: only children of this run
        limit: how many at most
        cursor: go on behind an earlier list, which ended with this
    """
    unknown = sorted(set(status) - set(STATES))
    if unknown:
        raise Misuse(f"--status: there is no state {unknown[0]!r}; it is one of {', '.join(STATES)}")
    if not session.exists:
        note(f"there is no store at {session.file} yet")
        if session.json:
            print_json([])
        return 0
    labels = pairs(attribute, "--attribute")
    found: list[RunSummary] = []
    async with session.connect() as client:
        while True:
            page = await client.list(
                status or None, workflow, None, labels, parent, cursor, min(limit - len(found), _PAGE)
            )
            found += page.runs
            cursor = page.cursor
            if cursor is None or len(found) >= limit:
                break
    if session.json:
        print_json(found)
    else:
        _list(found)
    if cursor is not None:
        note(f"there may be more: --cursor {cursor}")
    return 0


def _list(found: list[RunSummary]) -> None:
    now = to_datetime(SystemClock().now_us())
    table(
        ("run", "workflow", "status", "started", ">took", "why"),
        (
            (
                r.run_id,
                r.workflow,
                status_text(r.status),
                moment(r.created),
                span((r.ended or now) - r.created),
                short(r.reason or "", 80),
            )
            for r in found
        ),
    )


async def get(run: str, /, *, session: Here) -> int:
    """Show one run: its state, its input, what it waits for, how it ended; for a parked run what does not fit.

    For example:

        aob run get order-7

        aob run get order-7 --json

    Args:
        run: the run's id
    """
    async with session.existing() as client:
        handle = await client.get(run)
        summary = await handle.summary()
        row = await client.store.get_run(handle.tenant, run)
        assert row is not None
        first = [e async for e, _ in client.history.read(row, 0, 1)]
        end = await client.history.terminal(row)
        tickets = await client.tickets(run_id=run)
    shown: dict[str, Any] = msgspec.to_builtins(summary)
    if first and isinstance(first[0], ev.RunStarted):
        shown["input"] = msgspec.json.decode(first[0].input)
    if isinstance(end, ev.RunCompleted):
        shown["result"] = msgspec.json.decode(end.result)
    elif isinstance(end, ev.RunFailed):
        shown["error"] = msgspec.to_builtins(end.failure)
    shown["tickets"] = [t.id for t in tickets]
    if session.json:
        print_json(shown)
    else:
        _get(session, summary, shown, end)
    return 0


def _get(session: Session, summary: RunSummary, shown: dict[str, Any], end: ev.Event | None) -> None:
    now = to_datetime(SystemClock().now_us())
    reason, _, diff = (summary.reason or "").partition("\n")
    fields((
        ("run", summary.run_id),
        ("tenant", summary.tenant if summary.tenant != "default" else None),
        ("workflow", summary.workflow),
        ("build", summary.build),
        ("status", status_text(summary.status)),
        ("why", reason if not isinstance(end, ev.RunFailed) else _failure(end.failure, end.step)),
        ("started", moment(summary.created)),
        ("ended", f"{moment(summary.ended)}, after {span(summary.ended - summary.created)}" if summary.ended else None),
        ("wakes", f"{moment(summary.due)}, in {span(summary.due - now)}" if summary.due else None),
        ("asks", "\n".join(f"aob approve {t} approve|reject{session.option()}" for t in shown["tickets"])),
        ("attributes", " ".join(f"{k}={v}" for k, v in summary.attributes.items())),
        ("parent", summary.parent),
        ("input", short(shown["input"], 2_000) if "input" in shown else None),
        ("result", short(shown["result"], 2_000) if "result" in shown else None),
        ("fit", diff),
    ))  # fmt: skip


def _failure(failure: Failure, step: str | None) -> str:
    where = f" (step {step})" if step else ""
    lines = [f"{failure.type.rpartition(':')[2]}: {failure.message}{where}"]
    cause = failure.cause
    while cause is not None:
        lines.append(f"because of {cause.type.rpartition(':')[2]}: {cause.message}")
        cause = cause.cause
    return "\n".join(lines)


async def result(run: str, /, *, wait: float | None = None, session: Here) -> int:
    """Wait for a run's end and print its result; exit code 1 when it has failed, or was stopped.

    For example:

        aob run result order-7

        aob run result order-7 --wait 0 || echo "not finished, or failed"

    Args:
        run: the run's id
        wait: seconds to wait at most; without it as long as it takes
    """
    async with session.existing() as client:
        handle = await client.get(run)
        try:
            return await print_result(session, handle, wait)
        except TimeoutError:
            raise CommandFailed(f"run {run!r} is {await handle.status()}: it has no result yet") from None


async def all_runs(client: Client, **where: Any) -> list[Run[Any]]:
    """Handles of every run that the filter lets through."""
    found: list[Run[Any]] = []
    cursor: str | None = None
    while True:
        page = await client.list(cursor=cursor, limit=_PAGE, **where)
        found += [Run(client, r.tenant, r.run_id, None) for r in page]
        cursor = page.cursor
        if cursor is None:
            return found
