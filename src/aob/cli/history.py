"""`aob run history`, `aob run timeline` and `aob logs stream`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

from aob.cli.events import detail, event_line
from aob.cli.output import count, note, print_json, print_json_line, span, stdout
from aob.cli.session import Here, Misuse
from aob.cli.timeline import Bar, bars_of, draw
from aob.client.views import Event
from aob.clock import SystemClock, to_datetime
from aob.kernel.events import KINDS


async def history(run: str, /, *, after: int = 0, kind: tuple[str, ...] = (), session: Here) -> int:
    """Show the events of a run, in order.

    For example:

        aob run history order-7

        aob run history order-7 --kind step_failed --kind attempt_failed

    Args:
        run: the run's id
        after: only events behind this one
        kind: only events of this kind; may be given several times
    """
    unknown = sorted(set(kind) - set(KINDS))
    if unknown:
        raise Misuse(f"--kind: there is no kind {unknown[0]!r}; it is one of {', '.join(KINDS)}")
    async with session.existing() as client:
        events = await (await client.get(run)).history()
    found = [e for e in events if (e.seq or 0) > after and (not kind or e.kind in kind)]
    if session.json:
        print_json(found)
    else:
        print_events(found)
    return 0


def print_events(events: Iterable[Event]) -> None:
    """Print events, each as a line."""
    console = stdout()
    for event in events:
        line = event_line(event)
        if console.is_terminal:
            console.print(line, soft_wrap=True)
        else:
            sys.stdout.write(f"{line.plain}\n")


async def timeline(run: str, /, *, limit: int = 100, session: Here) -> int:
    """Draw a run's steps as bars over time. Long waits are drawn short, so that bursts stay readable.

    A full bar is work, a light one waiting, `×` a failed attempt. Where only its end was recorded (`fidelity="fast"`),
    a step's start is worked out from how long it took.

    For example:

        aob run timeline order-7

    Args:
        run: the run's id
        limit: how many steps to draw at most
    """
    async with session.existing() as client:
        handle = await client.get(run)
        events = await handle.history()
        status = await handle.status()
    bars = bars_of(events, to_datetime(SystemClock().now_us()))
    if session.json:
        print_json([_plain(bar) for bar in bars])
        return 0
    if not bars:
        note(f"run {run} is {status}: it has no steps yet")
        return 0
    console = stdout()
    for line in draw(bars[:limit], min(console.width, 160)):
        console.print(line, soft_wrap=True)
    if len(bars) > limit:
        note(f"and {len(bars) - limit} more steps: --limit {len(bars)}")
    whole = span(max(b.end for b in bars) - min(b.start for b in bars))
    console.print(f"{count(len(bars), 'step')} in {whole}; the run is {status}", style="dim")
    for gap in events:
        if gap.kind == "gap":
            note(detail(gap))
    return 0


def _plain(bar: Bar) -> dict[str, object]:
    return {
        "step": bar.step,
        "type": bar.type,
        "status": bar.status,
        "start": bar.start,
        "end": None if bar.open else bar.end,
        "attempts": bar.attempts,
    }


async def stream(run: str, /, *, node: str | None = None, after: int = 0, session: Here) -> int:
    """Print a run's events as they come, until it has ended.

    For example:

        aob logs stream order-7

        aob logs stream order-7 --node charge_card#1 --after 120

    Args:
        run: the run's id
        node: only events of this step (`name#k`), or of all steps of this name
        after: go on behind this event, the number at the start of a line
    """
    seen = after
    console = stdout()
    async with session.existing() as client:
        handle = await client.get(run)
        try:
            async for event in handle.events(after=after, live=True):
                seen = event.seq or seen
                if node is not None and event.step != node and (event.step or "").rpartition("#")[0] != node:
                    continue
                if session.json:
                    print_json_line(event)
                else:
                    console.print(event_line(event), soft_wrap=True)
        except asyncio.CancelledError:
            note(f"to go on: aob logs stream {run} --after {seen}{session.option()}")
            raise
    return 0
