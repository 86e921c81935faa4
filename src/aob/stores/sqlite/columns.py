"""Rows of tables as the structs of `aob.stores.rows`, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from aob.stores.rows import EventRow, LogRow, Message, RunRow, TicketRow

_encode = msgspec.json.Encoder().encode
_attributes = msgspec.json.Decoder(dict[str, str]).decode
_strings = msgspec.json.Decoder(list[str]).decode

RUN = (
    "key, partition, tenant, run_id, workflow, status, created, updated, ended, due, input_hash, attributes, parent, "
    "reason, checkpoint, deaths, origin, origin_seq, build"
)
EVENT = "position, run, seq, epoch, kind, version, chain, data"
LOG = "r.partition, e.position, r.tenant, r.run_id, r.workflow, e.seq, e.kind, e.version, e.data"
MESSAGE = "id, partition, tenant, run_id, kind, body, reply, expires"
TICKET = (
    "id, tenant, run_id, workflow, step, title, data, assignees, schema, created, deadline, status, by, reason, closed"
)


def marks(columns: str) -> str:
    """As many placeholders as there are columns."""
    return ", ".join("?" * len(columns.split(",")))


def few(values: Sequence[int]) -> str:
    """Placeholders for these values."""
    return ", ".join("?" * len(values))


def run_values(run: RunRow) -> tuple[Any, ...]:
    """A run as values for `RUN`."""
    return (
        run.key, run.partition, run.tenant, run.run_id, run.workflow, run.status, run.created, run.updated, run.ended,
        run.due, run.input_hash, attributes_value(run), run.parent, run.reason, run.checkpoint, run.deaths, run.origin,
        run.origin_seq, run.build,
    )  # fmt: skip


def attributes_value(run: RunRow) -> str | None:
    """The column's value."""
    return _encode(run.attributes).decode() if run.attributes else None


def run_row(values: tuple[Any, ...]) -> RunRow:
    """`RUN` as a run."""
    (
        key, partition, tenant, run_id, workflow, status, created, updated, ended, due, input_hash, attributes, parent,
        reason, checkpoint, deaths, origin, origin_seq, build,
    ) = values  # fmt: skip
    return RunRow(
        key=key, partition=partition, tenant=tenant, run_id=run_id, workflow=workflow, status=status, created=created,
        updated=updated, ended=ended, due=due, input_hash=input_hash,
        attributes=_attributes(attributes) if attributes else {}, parent=parent, reason=reason, checkpoint=checkpoint,
        deaths=deaths, origin=origin, origin_seq=origin_seq, build=build,
    )  # fmt: skip


def event_row(values: tuple[Any, ...]) -> EventRow:
    """`EVENT` as an event."""
    return EventRow(*values)


def log_row(values: tuple[Any, ...]) -> LogRow:
    """`LOG` as an event."""
    return LogRow(*values)


def message_values(message: Message) -> tuple[Any, ...]:
    """A message as values for `MESSAGE` without its id."""
    return (
        message.partition, message.tenant, message.run_id, message.kind, message.body, message.reply, message.expires
    )  # fmt: skip


def message_row(values: tuple[Any, ...]) -> Message:
    """`MESSAGE` as a message."""
    id, partition, tenant, run_id, kind, body, reply, expires = values
    return Message(
        id=id, partition=partition, tenant=tenant, run_id=run_id, kind=kind, body=body, reply=reply, expires=expires
    )


def ticket_values(ticket: TicketRow) -> tuple[Any, ...]:
    """A ticket as values for `TICKET`."""
    return (
        ticket.id, ticket.tenant, ticket.run_id, ticket.workflow, ticket.step, ticket.title, ticket.data,
        _encode(ticket.assignees).decode(), ticket.schema, ticket.created, ticket.deadline, ticket.status, ticket.by,
        ticket.reason, ticket.closed,
    )  # fmt: skip


def ticket_row(values: tuple[Any, ...]) -> TicketRow:
    """`TICKET` as a ticket."""
    (
        id, tenant, run_id, workflow, step, title, data, assignees, schema, created, deadline, status, by, reason,
        closed,
    ) = values  # fmt: skip
    return TicketRow(
        id=id, tenant=tenant, run_id=run_id, workflow=workflow, step=step, title=title, data=data,
        assignees=_strings(assignees), schema=schema, created=created, deadline=deadline, status=status, by=by,
        reason=reason, closed=closed,
    )  # fmt: skip
