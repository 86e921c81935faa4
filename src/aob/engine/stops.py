"""How a run is stopped from outside, for good or for a while: cancel, terminate, pause, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aob.engine.active import ActiveRun
from aob.engine.asker import HERE, Asker
from aob.engine.recovery import is_poison
from aob.engine.unserved import NotServed
from aob.errors import RunFinished
from aob.kernel import events as ev

if TYPE_CHECKING:
    from aob.engine.host import Host


class Stops:
    """Stops runs and lets them go on; durable when the async calls return."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def cancel(self, tenant: str, run_id: str, reason: str) -> None:
        """Ask a run to stop; nothing happens to one that has ended or was asked before."""
        await self.cancel_run(await self._to_end(tenant, run_id), reason)
        await self._host.commits.ack()

    async def cancel_run(self, run: ActiveRun, reason: str, asker: Asker = HERE) -> None:
        """`cancel`, for a run in memory; one whose workers died of it is tried again, for it stops what it did."""
        self.record_cancel(run, reason)
        poison, row = is_poison(run.row), run.row
        if poison:
            row.status, row.deaths, row.reason = "running", 0, None
            self._host.commits.group().summaries[id(run)] = run
        asker.tell()
        if poison:
            await self._host.commits.ack()
            self._host.residents.evict(run)
            await self._host.residents.load(row)

    def record_cancel(self, run: ActiveRun, reason: str) -> None:
        """Put a cancel into the next commit."""
        if run.ended:
            return
        if run.machine is not None and run.machine.cancelling:
            return
        self._host.record(run, ev.CancelRequested(0, reason))
        if run.row.status == "paused":
            run.row.status = "running"
            self._host.commits.group().summaries[id(run)] = run
        elif run.row.status == "pending":
            self._host.record(run, ev.RunCancelled(0, reason))

    async def terminate(self, tenant: str, run_id: str, reason: str) -> None:
        """End a run at once, without running its code.

        Raises:
            RunFinished: it has ended otherwise.
        """
        run = await self._to_end(tenant, run_id)
        self.record_terminate(run, reason)
        await self._host.commits.ack()

    def record_terminate(self, run: ActiveRun, reason: str) -> None:
        """Put a run's end into the next commit."""
        if not run.ended:
            machine = run.machine
            self._host.commits.overtake(run)
            self._host.record(run, ev.RunTerminated(0, reason, machine.used() if machine and machine.seq else {}))
        elif run.row.status != "terminated":
            raise RunFinished(f"run {run.run_id!r} has ended already ({run.row.status})", run_id=run.run_id)

    async def _to_end(self, tenant: str, run_id: str) -> ActiveRun:
        """A run that is to be ended, be its code served or not."""
        try:
            return await self._host.inbox.reach(tenant, run_id)
        except NotServed:
            return await self._host.unserved.begin_to_end(tenant, run_id)

    async def pause(self, tenant: str, run_id: str, reason: str = "") -> None:
        """Dispatch nothing new; attempts in flight finish.

        Raises:
            RunFinished: it has ended.
        """
        run = await self._host.inbox.reach(tenant, run_id)
        self.record_pause(run, reason)
        await self._host.commits.ack()

    def record_pause(self, run: ActiveRun, reason: str) -> None:
        """Put a pause into the next commit."""
        _refuse_ended(run, "paused")
        if run.row.status != "paused" and not is_poison(run.row):
            self._host.record(run, ev.Paused(0, reason))

    async def resume(self, tenant: str, run_id: str) -> None:
        """Go on after a pause; a parked run is tried again.

        Raises:
            RunFinished: it has ended.
        """
        await self.resume_run(await self._host.inbox.reach(tenant, run_id))

    async def resume_run(self, run: ActiveRun, asker: Asker = HERE) -> None:
        """`resume`, for a run in memory."""
        _refuse_ended(run, "resumed")
        if run.parked or run.row.status == "parked":
            run = await self.unpark(run)
        if run.row.status == "paused":
            self._host.record(run, ev.Resumed(0))
        asker.tell()
        await self._host.commits.ack()

    async def unpark(self, run: ActiveRun) -> ActiveRun:
        """Try a parked run again; returns it as it is in memory then. What that changed goes into the commit that is
        being filled: no await comes after it."""
        residents = self._host.residents
        residents.evict(run)
        run.row.deaths, run.row.reason = 0, None
        return await residents.load(run.row)


def _refuse_ended(run: ActiveRun, what: str) -> None:
    if run.ended:
        raise RunFinished(f"run {run.run_id!r} has ended ({run.row.status}), so it cannot be {what}", run_id=run.run_id)
