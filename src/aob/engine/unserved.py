"""Runs whose code is not served: they wait. One that has not begun stays `pending`, its start in the inbox with what is
sent to it meanwhile, in order; whoever serves its code begins it. It can be ended before."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from aob.engine.active import ActiveRun
from aob.engine.pins import PINNED
from aob.engine.starts import StartRequest
from aob.errors import NoWorker
from aob.stores.rows import Message, RunRow

if TYPE_CHECKING:
    from aob.engine.host import Host

_BEGINNING = "no worker serves "
_NAMES = 20


class NotServed(NoWorker):
    """The run waits for code. What was asked of it is for a worker that has it."""


class Unserved:
    """What waits for code, as long as this host owns it."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._kept: dict[tuple[str, str], list[Message]] = {}

    # --- runs that have not begun -----------------------------------------------------------------

    def error(self, row: RunRow) -> NotServed:
        """Why nothing can be asked of a pending run."""
        if row.workflow in self._host.programs:
            return NotServed(f"run {row.run_id!r} has not begun yet", run_id=row.run_id)
        return NotServed(self.reason(row.workflow), run_id=row.run_id)

    def reason(self, workflow: str) -> str:
        """Why a run of this workflow does not go on, for its summary."""
        served = sorted(self._host.programs)
        names = ", ".join(served[:_NAMES]) + (", …" if len(served) > _NAMES else "")
        return f"{_BEGINNING}{workflow}" + (f"; served: {names}" if served else "")

    def has_code(self, row: RunRow) -> bool:
        """Whether a run's code is served here, and it may run here."""
        return row.workflow in self._host.programs and not self._host.pins.elsewhere(row)

    def holds(self, tenant: str, run_id: str) -> bool:
        """Whether this run's start waits here."""
        return (tenant, run_id) in self._kept

    def keep(self, message: Message) -> None:
        """Leave a message where it is, behind others to its run."""
        self._kept.setdefault((message.tenant, message.run_id), []).append(message)

    def drop(self, tenant: str, run_id: str) -> None:
        """What was kept for this run comes again."""
        self._kept.pop((tenant, run_id), None)

    def say(self, row: RunRow) -> None:
        """Let a run's summary say why it does not go on."""
        pins = self._host.pins
        reason = pins.reason(row) if pins.elsewhere(row) else self.reason(row.workflow)
        if self._host.programs and row.reason != reason:
            row.reason = reason
            run = ActiveRun(row, None)
            self._host.commits.group().summaries[id(run)] = run

    def begun(self, run: ActiveRun) -> None:
        """A run begins with the next commit; what was kept for it comes behind that."""
        kept = self._kept.pop((run.tenant, run.run_id), None)
        if kept:
            self._host.commits.group().after.append(lambda: self._host.inbox.take(kept))

    async def begin_to_end(self, tenant: str, run_id: str) -> ActiveRun:
        """Begin a run without its code, so that it can be ended: in the same commit, so with no await between.

        Raises:
            NotServed: its start has not come yet.
        """
        host = self._host
        row = await host.store.get_run(tenant, run_id)
        kept = self._kept.get((tenant, run_id), [])
        start = next((m for m in kept if m.kind == "start"), None)
        if row is None or start is None:
            raise NotServed(f"run {run_id!r} has not begun yet", run_id=run_id)
        del self._kept[tenant, run_id]
        request = msgspec.json.decode(host.payloads.open_message(start.body), type=StartRequest)
        run = host.starts.begin_pending(row, request)
        host.residents.admit(run)
        group = host.commits.group()
        group.take([start.id], start.partition)
        group.after.append(lambda: host.inbox.take([m for m in kept if m is not start]))
        return run

    def now_served(self, workflow: str) -> None:
        """This host has the code from now on."""
        for name, kept in list(self._kept.items()):
            if any(m.kind == "start" and _workflow_of(self._host, m) == workflow for m in kept):
                self._host.spawn(self._give_back(name))

    async def _give_back(self, name: tuple[str, str]) -> None:
        await self._host.inbox.settled(*name)  # what is being dealt with joins what is kept
        kept = self._kept.pop(name, [])
        self._host.inbox.take(sorted(kept, key=attrgetter("id")))

    def forget(self, partition: int) -> None:
        """The partition is another owner's now."""
        self._kept = {name: kept for name, kept in self._kept.items() if kept[0].partition != partition}

    # --- runs that have ---------------------------------------------------------------------------

    def say_or_unsay(self, run: ActiveRun) -> None:
        """Let the summary of an open run that was loaded say whether its code is missing."""
        row = run.row
        if run.machine is None and (row.status == "running" or self._host.pins.elsewhere(row)):
            self.say(row)
        elif run.machine is not None and (row.reason or "").startswith((_BEGINNING, PINNED)):
            row.reason = None
            self._host.commits.group().summaries[id(run)] = run


def _workflow_of(host: Host, start: Message) -> str:
    return msgspec.json.decode(host.payloads.open_message(start.body), type=StartRequest).workflow
