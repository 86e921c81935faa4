"""What an exporter is: somebody outside who is given every committed event, in order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from aob.clock import to_datetime
from aob.kernel import events as ev
from aob.stores.rows import LogRow

BATCH = 1_000
"""Events in a batch at most."""
BATCH_BYTES = 8 * 1024 * 1024
"""Above this size a batch is cut; an event that is larger comes alone."""


class LogEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a run, with its place in the log of all runs.

    Args:
        id: `partition:position`, the same whenever the event is delivered.
        position: its place in the partition's log: rising, with gaps where nothing is.
        seq: its place in its run, dense from 1.
        at: when it was committed, UTC.
        kind, step, data: as in `aob.Event`, payloads decoded.
    """

    id: str
    partition: int
    position: int
    tenant: str
    run_id: str
    workflow: str
    seq: int
    at: datetime
    kind: str
    step: str | None
    data: dict[str, Any]


class Exporter(Protocol):
    """Takes events out of the engine, to a file, a queue, a warehouse. Given to `client.serve(exporters=…)`.

    `name` says who it is, from one process to the next: under it the store remembers how far it has come.
    """

    @property
    def name(self) -> str: ...

    async def export(self, events: Sequence[LogEvent]) -> None:
        """Take events that were committed, each partition's in the order of its log.

        When it returns the events count as taken. When it raises they are given again after a while, in the same order
        and under the same ids; so they are after a crash, which may have been between the two. One call is made at a
        time.
        """
        ...


def log_event(row: LogRow, data: bytes) -> LogEvent:
    """An event as exporters see it.

    Args:
        data: the row's, with payloads as they were.

    Raises:
        UnknownEvent: this version of aob does not know it.
    """
    names = _FIELDS.get((row.kind, row.version))
    values: list[Any] = _decode(data)
    if names is not None and len(values) == len(names):
        fields = dict(zip(names, values, strict=True))  # a fifth of the time that the event as a struct would take
        at, step = fields.pop("at"), fields.pop("step", None)
    else:
        event = ev.decode_event(row.kind, row.version, data, run_id=row.run_id)
        at, step, fields = event.at, getattr(event, "step", None), ev.event_data(event)
    return LogEvent(
        id=f"{row.partition}:{row.position}", partition=row.partition, position=row.position, tenant=row.tenant,
        run_id=row.run_id, workflow=row.workflow, seq=row.seq, at=to_datetime(at), kind=row.kind, step=step,
        data=fields,
    )  # fmt: skip


_decode = msgspec.json.Decoder().decode
_FIELDS = {(e.KIND, e.VERSION): e.__struct_fields__ for e in ev.EVENTS if e is not ev.Gap}
