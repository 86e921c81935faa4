"""Rows of tables as the structs of `aob.stores.rows`, and those as the arrays that the schema's functions take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from aob.stores.rows import EventRow, Message, RunRow, TicketRow

_encode = msgspec.json.Encoder().encode
_attributes = msgspec.json.Decoder(dict[str, str]).decode

RUN = (
    "key, partition, tenant, run_id, workflow, status, created, updated, ended, due, input_hash, attributes, parent, "
    "reason, checkpoint, deaths, origin, origin_seq, build"
)
EVENT = "position, run, seq, epoch, kind, version, chain, data"
LOG = "e.partition, e.position, r.tenant, r.run_id, r.workflow, e.seq, e.kind, e.version, e.data"
MESSAGE = "id, partition, tenant, run_id, kind, body, reply, expires"
TICKET = (
    "id, tenant, run_id, workflow, step, title, data, assignees, schema, created, deadline, status, by, reason, closed"
)
NO_RUNS: tuple[None, ...] = (None,) * 19
NO_SUMMARIES: tuple[None, ...] = (None,) * 10

Column = Sequence[Any]


def text(value: str | None) -> str | None:
    """A text as Postgres can hold it: it has no character 0."""
    return value.replace("\0", "\ufffd") if value and "\0" in value else value


def attributes_value(attributes: dict[str, str]) -> str | None:
    """The column's value."""
    if not attributes:
        return None
    encoded = _encode(attributes)
    if b"\\u0000" in encoded:
        encoded = _encode({text(name): text(value) for name, value in attributes.items()})
    return encoded.decode()


def run_columns(runs: Sequence[RunRow]) -> tuple[Column, ...]:
    """Runs as a list for each column of `RUN`."""
    return (
        [r.key for r in runs], [r.partition for r in runs], [r.tenant for r in runs], [r.run_id for r in runs],
        [r.workflow for r in runs], [r.status for r in runs], [r.created for r in runs], [r.updated for r in runs],
        [r.ended for r in runs], [r.due for r in runs], [r.input_hash for r in runs],
        [attributes_value(r.attributes) for r in runs], [r.parent for r in runs], [text(r.reason) for r in runs],
        [r.checkpoint for r in runs], [r.deaths for r in runs], [r.origin for r in runs],
        [r.origin_seq for r in runs], [r.build for r in runs],
    )  # fmt: skip


def summary_columns(runs: Sequence[RunRow]) -> tuple[Column, ...]:
    """What can change of runs, a list for each column."""
    return (
        [r.key for r in runs], [r.status for r in runs], [r.updated for r in runs], [r.ended for r in runs],
        [r.due for r in runs], [text(r.reason) for r in runs], [r.checkpoint for r in runs],
        [r.deaths for r in runs], [attributes_value(r.attributes) for r in runs], [r.build for r in runs],
    )  # fmt: skip


def run_row(values: Any) -> RunRow:
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


def event_row(values: Any) -> EventRow:
    """`EVENT` as an event."""
    return EventRow(*values)


def message_row(values: Any) -> Message:
    """`MESSAGE` as a message."""
    id, partition, tenant, run_id, kind, body, reply, expires = values
    return Message(
        id=id, partition=partition, tenant=tenant, run_id=run_id, kind=kind, body=body, reply=reply, expires=expires
    )


def messages_value(messages: Sequence[Message], others: Sequence[int], nonces: Sequence[int]) -> str:
    """Messages without their bodies, as JSON.

    Args:
        others: the partition of each whose run does not exist.
        nonces: what tells each from every other.
    """
    return _encode([
        {
            "place": place, "nonce": nonce, "partition": None if m.partition < 0 else m.partition, "other": other,
            "tenant": m.tenant, "run_id": m.run_id, "kind": m.kind, "reply": m.reply, "expires": m.expires,
        }
        for place, (m, other, nonce) in enumerate(zip(messages, others, nonces, strict=True), 1)
    ]).decode()  # fmt: skip


def tickets_value(tickets: Sequence[TicketRow]) -> str:
    """Tickets without what is bytes, as JSON."""
    return _encode([
        {
            "place": place, "id": t.id, "tenant": t.tenant, "run_id": t.run_id, "workflow": t.workflow, "step": t.step,
            "title": text(t.title), "assignees": [text(a) for a in t.assignees], "created": t.created,
            "deadline": t.deadline, "status": t.status, "by": text(t.by), "reason": text(t.reason), "closed": t.closed,
        }
        for place, t in enumerate(tickets, 1)
    ]).decode()  # fmt: skip


def ticket_row(values: Any) -> TicketRow:
    """`TICKET` as a ticket."""
    (
        id, tenant, run_id, workflow, step, title, data, assignees, schema, created, deadline, status, by, reason,
        closed,
    ) = values  # fmt: skip
    return TicketRow(
        id=id, tenant=tenant, run_id=run_id, workflow=workflow, step=step, title=title, data=data,
        assignees=list(assignees), schema=schema, created=created, deadline=deadline, status=status, by=by,
        reason=reason, closed=closed,
    )  # fmt: skip
