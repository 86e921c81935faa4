"""Retry: an ended run is opened again from the step failure that led to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from aob.engine.active import ActiveRun
from aob.engine.asker import HERE, Asker
from aob.engine.history import HistoryGone, checkpoint_by, kept
from aob.engine.stops import Stops
from aob.engine.turns import Turns
from aob.errors import AlreadyCompensated, NotFinished, RunFinished
from aob.kernel import events as ev
from aob.stores.rows import RunRow

if TYPE_CHECKING:
    from aob.engine.host import Host

_RETRIED = ("failed", "timed_out")


class Retries:
    """Opens ended runs again."""

    def __init__(self, host: Host, stops: Stops, turns: Turns) -> None:
        self._host = host
        self._stops = stops
        self._turns = turns

    async def retry(self, tenant: str, run_id: str, asker: Asker = HERE) -> None:
        """Open a failed or timed-out run again; a parked one is tried again.

        Raises:
            NotFinished, RunFinished, AlreadyCompensated, HistoryGone.
        """
        run = await self._host.residents.get(tenant, run_id)
        status = run.row.status
        if status == "parked":
            await self._stops.unpark(run)
            asker.tell()
            await self._host.commits.ack()
            return
        if status not in _RETRIED:
            error = RunFinished if run.ended else NotFinished
            raise error(f"run {run_id!r} is {status}; only a failed or timed-out run can be retried", run_id=run_id)
        with self._turns.take(run):
            await self._reopen(run, asker)

    async def open_child_again(self, row: RunRow, since: int) -> bool:
        """Retry a child because its parent is retried, since then; whether that could be done."""
        run = await self._host.residents.get(row.tenant, row.run_id)
        if not run.ended:
            return True
        if row.status not in (*_RETRIED, "cancelled"):
            return False
        try:
            with self._turns.take(run):
                await self._reopen(run, HERE, since + 1)  # whatever clocks say, its next end is later than that
        except (AlreadyCompensated, HistoryGone):
            return False
        return True

    async def _reopen(self, run: ActiveRun, asker: Asker, at: int = 0) -> None:
        async with self._host.residents.held(run):
            await self._go_on(run, asker, at)

    async def _go_on(self, run: ActiveRun, asker: Asker, at_least: int) -> None:
        host, row = self._host, run.row
        events = kept(await self._whole(run))
        end, at = next((e, s) for e, s in reversed(events) if e.KIND in ev.TERMINAL)
        if getattr(end, "compensated", False):
            raise AlreadyCompensated(
                f"run {run.run_id!r} undid its steps when it failed, so it cannot be retried: fork it instead",
                run_id=run.run_id,
            )
        keep = _keep(events, end, at)
        checkpoint = checkpoint_by(events, keep, run.run_id)
        host.residents.drop(run)
        fresh = ActiveRun(msgspec.structs.replace(row), None)
        fresh.seq, fresh.chain, last_at = await host.residents.history.tail(row)
        fresh.last_at = max(last_at, at_least)
        fresh.row.checkpoint = checkpoint
        host.residents.reopened.add((run.tenant, run.run_id))
        host.record(fresh, ev.RunReopened(0, keep, "retry"))
        asker.tell()
        await host.commits.ack()
        await host.residents.load_or_park(fresh.row)

    async def _whole(self, run: ActiveRun) -> list[tuple[ev.Event, int]]:
        """All that the run's history says, when nothing of it is on its way any more."""
        while True:
            await self._host.commits.ack()
            events = [e async for e in self._host.residents.history.read(run.row)]
            if not run.pending:
                return events


def _keep(events: list[tuple[ev.Event, int]], end: ev.Event, at: int) -> int:
    """Up to which `seq` a retry keeps the history."""
    step = end.step if isinstance(end, ev.RunFailed) else None
    if step is not None:
        for event, seq in events:
            if isinstance(event, ev.StepFailed) and event.step == step:
                return seq - 1
    if isinstance(end, ev.RunCancelled):
        return next((seq for event, seq in reversed(events) if isinstance(event, ev.CancelRequested)), at) - 1
    if isinstance(end, ev.RunTimedOut):
        for event, seq in events:
            if isinstance(event, ev.TimerFired) and event.step.startswith("deadline#"):
                return seq - 1
    return at - 1
