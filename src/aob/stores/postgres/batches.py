"""A batch as the arguments of the schema's `append_1`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aob.stores.postgres import columns
from aob.stores.postgres.holdings import Held, Holder, Holdings
from aob.stores.rows import Append, EventRecord, RunRow, partition_of

ARGUMENTS = 5 + 9 + 10 + 1 + 19 + 1 + 17
_LAST = (1 << 31) - 1
_NO_EVENTS: tuple[None, ...] = (None,) * 9
_NO_REST: tuple[Any, ...] = (False, *(None,) * 17)


class Sealed:
    """A batch with its places in the log: what one call commits.

    Args:
        starts: those of the batch that are still to be made; what belongs to the others (key 0) is left out.
        nonces: one for each message that the batch sends.
        partitions: how many partitions there are.
        part: of which the messages are asked for; None: of all that the database has given this owner.
    """

    def __init__(
        self, batch: Append, holder: Holder, holdings: Holdings, starts: list[RunRow], nonces: list[int],
        partitions: int, part: list[int] | None,
    ) -> None:  # fmt: skip
        self._batch = batch
        self._holder = holder
        self._nonces = nonces
        self._held = holdings.held
        self._positions: dict[int, int] = {}
        self._wrote_to: dict[int, Held] = {}
        self._first: EventRecord | None = None
        events = batch.events
        if events and len(starts) != len(batch.starts):
            events = [event for event in events if event[0].key]
        known = [*batch.takes, *(holder.told.keys() - batch.takes)] if holder.told else batch.takes
        self.values: list[Any] = [
            holder.id, holder.fence, holder.mark, part, known,
            *(self._events(events) if events else _NO_EVENTS),
            *(columns.summary_columns(batch.summaries) if batch.summaries else columns.NO_SUMMARIES),
            sorted(batch.takes) or None,
            *(columns.run_columns(starts) if starts else columns.NO_RUNS),
            *(_rest(batch, nonces, partitions) if _has_rest(batch) else _NO_REST),
        ]  # fmt: skip

    def _events(self, events: list[EventRecord]) -> tuple[columns.Column, ...]:
        positions = self._positions
        runs, seqs, kinds, versions, chains, datas = zip(*events, strict=True)
        partitions: list[int] = [run.partition for run in runs]
        for partition in set(partitions):
            held = self._wrote_to[partition] = self._held[partition]
            positions[partition] = held.position
        places: list[int] = []
        for partition in partitions:
            positions[partition] = place = positions[partition] + 1
            places.append(place)
        self._first = events[0]
        self._first_place = (partitions[0], places[0])
        epochs = self._batch.epochs
        return (
            [run.key for run in runs], seqs, partitions, [epochs[p] for p in partitions], places, kinds, versions,
            chains, datas,
        )  # fmt: skip

    def evidence(self) -> tuple[str, tuple[Any, ...]] | None:
        """What shows that this was committed: the name of the question, and about what it is.
        None: nothing does, and doing it again does no harm."""
        batch = self._batch
        if self._first is not None:
            return "event", (*self._first_place, self._first[0].key, self._first[1])
        if starts := [start for start in batch.starts if start.key]:
            return "run", (starts[0].key,)
        if seen := [(run.key, id) for run, id in batch.seen if run.key]:
            return "seen", seen[0]
        if told := [id for id in batch.takes if id in self._holder.told]:  # only this owner can have taken them
            return "taken", (told[0],)
        if self._nonces:
            return "sent", (self._nonces[0],)
        return None

    def committed(self) -> None:
        """It is durable: the next one comes behind it."""
        for partition, position in self._positions.items():
            self._wrote_to[partition].position = position
        for id in self._batch.takes:
            self._holder.told.pop(id, None)


def _has_rest(batch: Append) -> bool:
    return bool(batch.seen or batch.blobs or batch.replies or batch.cursors or batch.tickets or batch.sends)


def _rest(batch: Append, nonces: list[int], partitions: int) -> tuple[Any, ...]:
    seen = [(run.key, id) for run, id in batch.seen if run.key]
    last = {run.key: seq for run, seq, *_ in batch.events} if batch.blobs else {}
    blobs = [(run.key, digest, data, last.get(run.key, _LAST)) for run, digest, data in batch.blobs if run.key]
    tickets, sends = batch.tickets, batch.sends
    others = [partition_of(m.tenant, m.run_id, partitions) for m in sends]
    return (
        True, *_columns(seen, 2), *_columns(blobs, 4), *_columns(batch.replies, 3),
        *_columns(batch.cursors, 3),
        _or_none(tickets, columns.tickets_value), [t.data for t in tickets] or None,
        [t.schema for t in tickets] or None,
        columns.messages_value(sends, others, nonces) if sends else None, [m.body for m in sends] or None,
    )  # fmt: skip


def _columns(rows: Sequence[Any], count: int) -> tuple[Any, ...]:
    return tuple(zip(*rows, strict=True)) if rows else (None,) * count


def _or_none(values: list[Any], encode: Callable[[list[Any]], str]) -> str | None:
    return encode(values) if values else None
