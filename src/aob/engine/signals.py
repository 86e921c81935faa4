"""Signals to a run: each counts once, and only while the run is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw

from aob.engine.active import ActiveRun
from aob.engine.ids import storable_id
from aob.engine.starts import Signal
from aob.engine.unserved import NotServed
from aob.errors import RunFinished
from aob.kernel import events as ev

if TYPE_CHECKING:
    from aob.engine.host import Host


class Signals:
    """Puts signals into runs' histories."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def load_seen(self, run: ActiveRun) -> None:
        """Know which command ids the run has counted already."""
        if run.seen is None:
            seen = await self._host.store.seen(run.row.key) if run.row.key else set[str]()
            run.seen = run.seen if run.seen is not None else seen

    def counts(self, run: ActiveRun, id: str | None) -> bool:
        """Whether a command with this id counts; from now on no other does."""
        if id is None:
            return True
        if run.seen is None:
            run.seen = set()
        id = storable_id(id)
        if id in run.seen:
            return False
        run.seen.add(id)
        self._host.commits.group().seen.append((run, id))
        return True

    def record(self, run: ActiveRun, name: str, payload: Raw, id: str | None) -> ev.SignalReceived | None:
        """Put a signal of a run that is open into the next commit; None: it counted before. With an `id`, `load_seen`
        comes first."""
        if not self.counts(run, id):
            return None
        event = ev.SignalReceived(0, name, payload, id)
        self._host.record(run, event)
        return event

    def signal(self, run: ActiveRun, name: str, payload: Raw, id: str | None) -> ev.SignalReceived | None:
        """`record`, for a run that may have ended.

        Raises:
            RunFinished: the run has ended.
        """
        if run.ended:
            raise _ended(run)
        return self.record(run, name, payload, id)

    async def signal_run(self, tenant: str, run_id: str, name: str, payload: Raw, id: str | None) -> None:
        """Signal a run; durable when it returns.

        Raises:
            RunNotFound, RunFinished.
        """
        try:
            run = await self._host.inbox.reach(tenant, run_id)
        except NotServed:  # it gets the signal when it begins
            self._host.leave(tenant, run_id, "signal", Signal(name, payload, id))
            await self._host.commits.ack()
            return
        event = self.signal(run, name, payload, id)
        await self._host.commits.ack()
        if event is not None and not event.at:
            raise _ended(run)


def _ended(run: ActiveRun) -> RunFinished:
    return RunFinished(f"run {run.run_id!r} has ended ({run.row.status}), so it takes no signals", run_id=run.run_id)
