"""Tickets: what a person is asked, and decides once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from aob.engine.active import ActiveRun
from aob.engine.asker import HERE, Asker
from aob.engine.ids import ticket_id
from aob.engine.queries import program_of
from aob.engine.starts import Withdraw
from aob.errors import NoWorker, TicketClosed, TicketNotFound
from aob.kernel import events as ev
from aob.kernel.steps import Step
from aob.stores.rows import TicketRow

if TYPE_CHECKING:
    from aob.engine.host import Host

_TIMER_ROUNDING = 2  # microseconds: a timer's time went through a float


class Decision(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A person's answer to a ticket, as it is recorded; `data` only where it was edited."""

    approved: bool
    by: str
    reason: str = ""
    data: Raw = ev.NULL


class Tickets:
    """Closes tickets: by decisions, or because nobody waits for them any more."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._deciding: set[str] = set()

    async def decide(self, tenant: str, ticket: str, decision: Decision, asker: Asker = HERE) -> TicketRow:
        """Answer a ticket; once.

        Raises:
            TicketNotFound, TicketClosed.
        """
        host = self._host
        row, run, check = await self._open(tenant, ticket)
        while run.gone or (asker is not HERE and host.commits.stand_before(run)):
            await host.commits.ack()  # what is said with the commit must be true
            row, run, check = await self._open(tenant, ticket)
        self._check_edited(run, row, decision)
        step = run.machine.open.get(row.step) if run.machine is not None else None
        self._deciding.add(ticket)
        try:
            row.status = "approved" if decision.approved else "rejected"
            row.by, row.reason = host.payloads.seal_text(decision.by), host.payloads.seal_text(decision.reason)
            row.closed = host.clock.now_us()
            result = Raw(msgspec.json.encode(decision))
            host.record(run, ev.StepCompleted(0, row.step, check, result, by=decision.by))
            host.commits.group().tickets.append(row)
            asker.tell(msgspec.json.encode(row))
            await host.commits.ack()
        finally:
            self._deciding.discard(ticket)
        if step is not None and step.cancelled():  # the run had gone on when the decision came
            row.status, row.by, row.reason = "open", None, None
            self._close_ticket(row, host.clock.now_us())
            raise self._closed(row, row.status)
        return row

    async def _open(self, tenant: str, ticket: str) -> tuple[TicketRow, ActiveRun, int]:
        """A ticket that may be decided now, its run, and the input checksum of its step.

        Raises:
            TicketNotFound, TicketClosed.
        """
        host = self._host
        row = await host.store.get_ticket(tenant, ticket)
        if row is None:
            raise TicketNotFound(f"no ticket {ticket!r} of tenant {tenant!r}")
        run = await host.residents.get(tenant, row.run_id)
        check = await self._check_of(run, row.step)
        if row.status != "open" or ticket in self._deciding or run.ended or check is None:
            raise self._closed(row, row.status if row.status != "open" else "decided or withdrawn")
        if row.deadline is not None and row.deadline <= max(host.clock.now_us(), run.last_at) + _TIMER_ROUNDING:
            raise self._closed(row, "expired")
        return row, run, check

    def _check_edited(self, run: ActiveRun, row: TicketRow, decision: Decision) -> None:
        """Edited data must fit the type that the approval asks for."""
        if decision.data == ev.NULL:
            return
        step = run.machine.open.get(row.step) if run.machine is not None else None
        if step is None:
            program_of(self._host, run.row)
            raise NoWorker(f"run {run.run_id!r} is parked, so its type of edited data is not known", run_id=run.run_id)
        step.plan.codec.decode(decision.data)

    async def _check_of(self, run: ActiveRun, step: str) -> int | None:
        """The input checksum of a ticket's step, while it is open."""
        if run.machine is not None and run.machine.mismatch is None:
            found = run.machine.open.get(step)
            return None if found is None else found.check
        check = None
        async for event, _ in self._host.residents.history.read(run.row):
            if isinstance(event, ev.StepScheduled) and event.step == step:
                check = event.check
            elif isinstance(event, ev.StepCompleted | ev.StepFailed) and event.step == step:
                check = None
        return check

    def withdraw(self, run: ActiveRun, step: Step) -> None:
        """The run no longer waits for this ticket."""
        if isinstance(step.live, TicketRow):
            self._close_ticket(step.live, self._host.clock.now_us())
        else:
            self._send_withdraw(run, ticket_id(run.run_id, step.id))

    def _send_withdraw(self, run: ActiveRun, ticket: str) -> None:
        self._host.leave(run.tenant, run.run_id, "withdraw", Withdraw(ticket))

    async def withdraw_ticket(self, tenant: str, ticket: str) -> None:
        """Close a ticket that nobody waits for any more."""
        row = await self._host.store.get_ticket(tenant, ticket)
        if row is not None:
            self._close_ticket(row, self._host.clock.now_us())

    async def let_go(self, tenant: str, run_id: str) -> None:
        """Cancel the children and close the tickets of a run that ended without its code."""
        run = await self._host.residents.get(tenant, run_id)
        open: dict[str, ev.StepScheduled] = {}
        async for event, _ in self._host.residents.history.read(run.row):
            if isinstance(event, ev.StepScheduled):
                open[event.step] = event
            elif isinstance(event, ev.StepCompleted | ev.StepFailed):
                open.pop(event.step, None)
        for event in open.values():
            if event.type == "child" and event.target is not None:
                self._host.starts.cancel_orphan(run, event.target)
            elif event.type == "ticket" and event.target is not None:
                self._send_withdraw(run, event.target)

    def _close_ticket(self, ticket: TicketRow, now: int) -> None:
        if ticket.status == "open" and ticket.id not in self._deciding:
            ticket.status = "expired" if ticket.deadline is not None and ticket.deadline <= now else "withdrawn"
            ticket.closed = now
            self._host.commits.group().tickets.append(ticket)

    def _closed(self, row: TicketRow, how: str) -> TicketClosed:
        by = f" by {self._host.payloads.open_text(row.by)}" if row.by else ""
        return TicketClosed(f"ticket {row.id!r} is closed: {how}{by}", run_id=row.run_id)
