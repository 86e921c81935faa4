"""`aob approve`: decisions that runs ask of people."""

from __future__ import annotations

import getpass
from typing import Literal

from cyclopts import App

from aob.cli.output import moment, note, print_json, say, short, table
from aob.cli.session import CommandFailed, Given, Here, Misuse
from aob.cli.values import json_or_file

app = App(name="approve")
_STATES = ("open", "approved", "rejected", "expired", "withdrawn")


@app.command(name="list")
async def list_(*, status: str = "open", run: Given | None = None, limit: int = 100, session: Here) -> int:
    """List tickets: decisions that runs wait for.

    For example:

        aob approve list

        aob approve list --status approved --run order-7

    Args:
        status: open, approved, rejected, expired, withdrawn, or all
        run: only those of this run
        limit: how many at most
    """
    if status not in (*_STATES, "all"):
        raise Misuse(f"--status: there is no state {status!r}; it is one of {', '.join(_STATES)}, all")
    if not session.exists:
        note(f"there is no store at {session.file} yet")
        if session.json:
            print_json([])
        return 0
    async with session.connect() as client:
        found = await client.tickets(None if status == "all" else status, run, limit=limit)
    if session.json:
        print_json(found)
        return 0
    table(
        ("ticket", "title", "asked", "until", "of", "status", "shows"),
        (
            (
                t.id,
                t.title,
                moment(t.created),
                moment(t.deadline),
                ", ".join(t.assignees),
                t.status if t.by is None else f"{t.status} by {t.by}",
                short(t.data, 60),
            )
            for t in found
        ),
    )
    if found and status == "open":
        note(f'decide: aob approve TICKET approve|reject --reason "…"{session.option()}')
    return 0


@app.default
async def decide(
    ticket: str,
    decision: Literal["approve", "reject"],
    /,
    *,
    reason: Given = "",
    data: Given | None = None,
    by: str | None = None,
    session: Here,
) -> int:
    """Decide what runs ask of people: list tickets, approve or reject one. The first decision counts.

    For example:

        aob approve list

        aob approve 'order-7~approval#1' approve --reason "long-standing customer"

        aob approve 'order-7~approval#1' approve --data '{"refund": 20}'

    Args:
        ticket: the ticket's id
        decision: approve or reject
        reason: why; recorded in the history
        data: the value as you changed it, as JSON or a file; it must fit what the run asked for
        by: who decides; without it the name you are logged in with
    """
    edited = None if data is None else json_or_file(data, "--data")
    async with session.existing() as client:
        closed = await client.decide(ticket, decision == "approve", by=by or _me(), reason=reason, data=edited)
    if session.json:
        print_json(closed)
    else:
        say(f"{closed.id}: {closed.status} by {closed.by}")
    return 0


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as e:
        raise CommandFailed("your name is not known here: say --by NAME") from e
