"""Reading a run's history from the store: as it is, and as a replay wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aob.engine.payloads import Payloads
from aob.errors import CallerError, RunNotFound, StoreCorrupt
from aob.kernel import events as ev
from aob.kernel.carry import OF_THE_PASS_BEFORE, carry_of
from aob.kernel.machine import Machine
from aob.stores.protocol import Store
from aob.stores.rows import EventRow, RunRow

_PAGE = 2_000
_CHUNK = 500
Numbered = tuple[ev.Event, int]


class HistoryGone(CallerError):
    """What the call needs of the run's history was deleted after the retention time."""

    code = "history_gone"


class History:
    """Events of runs, payloads opened."""

    def __init__(self, store: Store, payloads: Payloads) -> None:
        self._store = store
        self._payloads = payloads

    async def read(self, row: RunRow, after: int = 0, until: int | None = None) -> AsyncIterator[Numbered]:
        """Events with `after < seq <= until`, in order.

        Raises:
            RunNotFound: the run was deleted in the middle.
        """
        read_on = False
        while rows := await self._store.events(row.key, after, _PAGE, until):
            for stored in rows:
                event = await self._open(stored, row)
                if event is None:
                    break  # it is read anew, as a gap
                yield event, stored.seq
                after, read_on = stored.seq, True
            else:
                if len(rows) < _PAGE:
                    return
        if read_on:
            await self._refuse_deleted(row)

    async def _open(self, stored: EventRow, row: RunRow) -> ev.Event | None:
        """The event, payloads opened; None: it was deleted since it was read, and its payloads with it."""
        event = ev.decode_event(stored.kind, stored.version, stored.data, run_id=row.run_id)
        try:
            return await self._payloads.open(event, stored.data)
        except StoreCorrupt:
            await self._refuse_deleted(row)
            if await self._store.events(row.key, stored.seq - 1, 1, stored.seq) == [stored]:
                raise
            return None

    async def _refuse_deleted(self, row: RunRow) -> None:
        """See that what is missing is not missing because the run was deleted while it was read.

        Raises:
            RunNotFound: it was.
        """
        if await self._store.run_by_key(row.key) is None:
            raise RunNotFound(f"run {row.run_id!r} was deleted while it was read", run_id=row.run_id)

    async def applied(self, stored: EventRow) -> int:
        """Up to which `seq` a checkpoint contains what was before it.

        Raises:
            StoreCorrupt: its payload is not there; or no more, if its run has ended.
        """
        event = ev.decode_event(stored.kind, stored.version, stored.data)
        checkpoint = await self._payloads.open(event, stored.data)
        assert isinstance(checkpoint, ev.Checkpoint)
        return carry_of(checkpoint).applied

    async def tail(self, row: RunRow) -> tuple[int, int, int]:
        """`seq`, chain and time of the last event; zeros when there is none."""
        last = await self._store.last_event(row.key)
        if last is None:
            return 0, 0, 0
        return last.seq, last.chain, ev.decode_event(last.kind, last.version, last.data, run_id=row.run_id).at

    async def terminal(self, row: RunRow) -> ev.Event | None:
        """The event that ended the run, or None while it is open."""
        last = await self._store.last_event(row.key)
        if last is None:
            return None
        if last.kind in ev.TERMINAL:
            return await self._open(last, row)
        found = None
        async for event, _ in self.read(row):  # late facts may follow the end
            if event.KIND in ev.TERMINAL:
                found = event
            elif isinstance(event, ev.RunReopened):
                found = None
        return found

    async def for_replay(self, row: RunRow, until: int | None = None) -> tuple[list[Numbered], tuple[int, int, int]]:
        """What a replay applies: from the last checkpoint, without what `retry` set aside.

        With a checkpoint: run_started, the checkpoint, then every event that it does not contain.

        Returns:
            The events, and `seq`, chain and time of the last one.

        Raises:
            HistoryGone: `row` is as it was before a later checkpoint, and its history was deleted since.
            RunNotFound: the run was deleted since.
        """
        tail = await self.tail(row)
        if row.checkpoint and (until is None or until >= row.checkpoint):
            first = [e async for e in self.read(row, 0, 1)]
            checkpoint = [e async for e in self.read(row, row.checkpoint - 1, row.checkpoint)]
            if not checkpoint or not isinstance(checkpoint[0][0], ev.Checkpoint):
                raise await self._passed_by(row)
            applied = carry_of(checkpoint[0][0]).applied
            rest = [
                (event, seq)
                async for event, seq in self.read(row, applied, until)
                if seq > row.checkpoint or (seq < row.checkpoint and type(event) not in OF_THE_PASS_BEFORE)
            ]
            events = [*first, *checkpoint, *kept(rest)]
        else:
            events = kept([e async for e in self.read(row, 0, until)])
        if any(type(event) is ev.Gap for event, _ in events):
            raise await self._passed_by(row)
        if not events:
            await self._refuse_deleted(row)
        return events, tail

    async def _passed_by(self, row: RunRow) -> HistoryGone:
        await self._refuse_deleted(row)
        return HistoryGone(
            f"what run {row.run_id!r} did up to a later checkpoint was deleted while it was read: read it anew",
            run_id=row.run_id,
        )

    async def replay(self, machine: Machine, row: RunRow) -> tuple[int, int, int]:
        """Apply a run's recorded events to a new machine; `go_live` is left to the caller.

        Returns:
            `seq`, chain and time of the last event.
        """
        events, tail = await self.for_replay(row)
        machine.begin_replay(events)
        if not events:
            return tail  # its start is not committed yet
        first, checkpoint = events[0][0], events[1] if len(events) > 1 else None
        if row.checkpoint and checkpoint is not None and isinstance(checkpoint[0], ev.Checkpoint):
            assert isinstance(first, ev.RunStarted)
            machine.restore(first, checkpoint[0], checkpoint[1])
            events = events[2:]
        for start in range(0, len(events), _CHUNK):
            for event, seq in events[start : start + _CHUNK]:
                machine.apply(event, seq)
            await asyncio.sleep(0)
        return tail


def kept(events: list[Numbered]) -> list[Numbered]:
    """Events without those that a `retry` set aside: what the run did, and not what it was sent, nor that it is
    a fork. Of a gap it may be that only some of it was."""
    out: list[Numbered] = []
    for event, seq in events:
        if isinstance(event, ev.RunReopened):
            out = [before for before in out if not _set_aside(*before, event.keep)]
        out.append((event, seq))
    return out


def _set_aside(event: ev.Event, seq: int, keep: int) -> bool:
    if isinstance(event, ev.SignalReceived) or (isinstance(event, ev.RunReopened) and event.fork is not None):
        return False
    return seq > keep and not (isinstance(event, ev.Gap) and event.first <= keep)


def checkpoint_by(events: list[Numbered], seq: int, run_id: str) -> int:
    """The last checkpoint that stands not behind `seq`, from which a replay up to there begins; 0: from the start.

    Args:
        events: the whole history, without what a retry set aside.

    Raises:
        HistoryGone: the replay would need events that were deleted.
    """
    found, carried, gone = 0, 0, 0
    for event, at in events:
        if isinstance(event, ev.Gap) and event.first <= seq:
            gone = at
        elif at > seq:
            break
        elif isinstance(event, ev.Checkpoint):
            found, carried = at, carry_of(event).applied
    if gone > carried:
        raise HistoryGone(
            f"the history of run {run_id!r} up to event {gone} was deleted after the retention time, so nothing can "
            f"begin at event {seq}: it can at the first checkpoint behind event {gone}, or later",
            run_id=run_id,
        )
    return found
