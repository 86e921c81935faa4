"""`aob run batch`: one run for each row of a file."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from aob.cli.loading import AnyWorkflow, resolve
from aob.cli.output import count, note, print_json, say
from aob.cli.progress import progress
from aob.cli.rows import Row, read_rows
from aob.cli.serving import served, somebody_serves, unless_it_fails
from aob.cli.session import Here, Session
from aob.cli.start import name_of, worker_command
from aob.cli.values import pairs
from aob.client.client import Client
from aob.client.run import Run
from aob.kernel.states import TERMINAL_STATES

_COMMIT = 1_000
_LOOK = 0.25
_NAMED = 10


async def batch(
    workflow: str,
    file: Path,
    /,
    *,
    id_column: str | None = None,
    attribute: tuple[str, ...] = (),
    wait: bool = False,
    session: Here,
) -> int:
    """Start one run for each row of a CSV or JSON Lines file, in commits of up to 1,000.

    A row's columns (or the line's JSON) are the input. Nothing starts before every row has been read and, where the
    workflow is given as module:function, fits it; bad rows are named by line. It is safe to repeat: the same rows mean
    the same runs.

    For example:

        aob run batch support.py:answer messages.csv --id-column id

        aob run batch answer messages.jsonl --wait

    Args:
        workflow: `module:function`, a file, or the name under which a worker serves it
        file: FILE.csv with a header, or FILE.jsonl
        id_column: the column with the run's id; without it ids are made of the file's name, the line and its content
        attribute: key=value, a label on all of them; may be given several times
        wait: wait until all have ended; exit code 1 when one failed or was stopped
    """
    target = resolve(workflow)
    labels = pairs(attribute, "--attribute")
    rows = read_rows(file, target, id_column)
    async with session.connect() as client:
        if not wait:
            counts = await _start(client, session, target, rows, labels)
            _say_started(session, counts, len(rows))
            if not session.json and rows and not await somebody_serves(client):
                note(f"no worker serves this store; start one: {worker_command(session, workflow)}")
            return 0
        async with served(client, target) as worker:
            return await unless_it_fails(worker, _start_and_wait(client, session, target, rows, labels))


async def _start(
    client: Client, session: Session, target: AnyWorkflow | str, rows: list[Row], labels: dict[str, str]
) -> Counter[str]:
    """Start them; how many are new, and how many there were before."""
    counts: Counter[str] = Counter(new=0, known=0)
    with progress() as bar:
        task = bar.add_task("started", total=len(rows))
        for first in range(0, len(rows), _COMMIT):
            part = rows[first : first + _COMMIT]
            known = [await client.store.get_run(client.tenant, row.run_id) for row in part]
            await client.start_many(
                name_of(client, target), [r.value for r in part], [r.run_id for r in part], attributes=labels
            )
            found = sum(row is not None for row in known)
            counts += Counter(new=len(part) - found, known=found)
            bar.advance(task, len(part))
            await asyncio.sleep(0)
    return counts


def _say_started(session: Session, counts: Counter[str], total: int) -> None:
    if session.json:
        print_json({"runs": total, "started": counts["new"], "known": counts["known"]})
    else:
        known = f", {counts['known']:,} were there" if counts["known"] else ""
        say(f"{count(total, 'run')}: {counts['new']:,} started{known}")


async def _start_and_wait(
    client: Client, session: Session, target: AnyWorkflow | str, rows: list[Row], labels: dict[str, str]
) -> int:
    counts = await _start(client, session, target, rows, labels)
    if not session.json:
        _say_started(session, counts, len(rows))
    ended = await _wait(client, [row.run_id for row in rows])
    states = Counter(ended.values())
    bad = [name for name, status in ended.items() if status != "completed"]
    if session.json:
        print_json({
            "runs": len(rows), "started": counts["new"], "known": counts["known"], "statuses": states,
            "not_completed": {name: ended[name] for name in bad},
        })  # fmt: skip
        return 1 if bad else 0
    say(", ".join(f"{number:,} {status}" for status, number in states.most_common()) or "nothing to do")
    for name in bad[:_NAMED]:
        run: Run[Any] = Run(client, client.tenant, name, None)
        say(f"  {name}: {ended[name]}: {(await run.summary()).reason or ''}")
    if len(bad) > _NAMED:
        say(f"  and {len(bad) - _NAMED:,} more: aob run list --status failed{session.option()}")
    return 1 if bad else 0


async def _wait(client: Client, names: list[str]) -> dict[str, str]:
    """The state in which each run has ended."""
    left = dict.fromkeys(names)
    ended: dict[str, str] = {}
    loop = asyncio.get_running_loop()
    with progress() as bar:
        task = bar.add_task("ended", total=len(left))
        while True:
            began = loop.time()
            for name in list(left):
                row = await client.store.get_run(client.tenant, name)
                if row is None or row.status in TERMINAL_STATES:
                    ended[name] = row.status if row is not None else "deleted"
                    del left[name]
                if loop.time() - began > 0.02:
                    await asyncio.sleep(0)
            bar.update(task, completed=len(ended))
            if not left:
                return ended
            with suppress(TimeoutError):
                await asyncio.sleep(max(_LOOK, 4 * (loop.time() - began)))
