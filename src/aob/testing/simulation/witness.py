"""Sees each commit as it is made, and holds it to what must be true at every step."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from aob.kernel import events as ev
from aob.stores.rows import Append, Lease, Message, RunRow
from aob.testing.simulation.clocks import ORIGIN_US
from aob.testing.simulation.loop import Life, SimLoop

Line = tuple[int, int, str, int, bytes]
"""An event as it was committed: seq, epoch, kind, chain, data."""


class Witness:
    """See `aob.testing.simulation.stores.Witness`.

    `lines` are all events that were ever committed, by run key; `logs` their run ids and numbers, by partition; `wrong`
    what did not hold, in words; `seen` counts what happened at all; `trace` is a hash of everything that the world did.

    Args:
        off: by how many seconds the clock that timers follow may be off the true time; None: nobody knows.
    """

    def __init__(self, loop: SimLoop, off: float | None) -> None:
        self._loop = loop
        self._off_us = None if off is None else round(off * 1e6)
        self._hash = hashlib.blake2b(digest_size=12)
        self.lines: dict[int, list[Line]] = {}
        self.logs: dict[int, list[tuple[str, int]]] = {}
        self.names: dict[int, tuple[str, str]] = {}
        self.wrong: list[str] = []
        self.seen: Counter[str] = Counter()
        self.epochs: dict[int, int] = {}
        self.owners: dict[int, str] = {}
        self.commits = 0
        self.last_commit = 0.0

    @property
    def trace(self) -> str:
        """A hash of all that has happened so far."""
        return self._hash.hexdigest()

    def note(self, *what: Any) -> None:
        """Something happened."""
        self._hash.update(repr((round(self._loop.time(), 6), *what)).encode())

    # --- the store ------------------------------------------------------------------------------------------------

    def called(self, life: Life, call: str, outcome: str) -> None:
        self.note(life.name, call, outcome)
        if outcome == "store_corrupt":
            self.wrong.append(f"I4: {call} of {life.name} met what the store takes for damage")
        if outcome != "ok":
            self.seen[f"{call}: {outcome}"] += 1

    def acquired(self, life: Life, lease: Lease) -> None:
        partition, epoch = lease.partition, lease.epoch
        self.note(life.name, partition, epoch, lease.clean)
        before = self.epochs.get(partition, 0)
        if epoch <= before:
            self.wrong.append(f"I3: partition {partition} was given away under epoch {epoch} after {before}")
        self.epochs[partition] = epoch
        if self.owners.get(partition) not in (None, life.name):
            self.seen["takeover"] += 1
        self.owners[partition] = life.name
        if not lease.clean:
            self.seen["unclean takeover"] += 1

    def renewed(self, life: Life, leases: Sequence[Lease]) -> None:
        for lease in leases:
            if self.epochs.get(lease.partition) != lease.epoch:
                self.wrong.append(f"I3: the lost epoch {lease.epoch} of partition {lease.partition} was renewed")

    def released(self, life: Life, leases: Sequence[Lease]) -> None:
        self.note(life.name, "released", [(lease.partition, lease.epoch) for lease in leases])

    def sent(self, life: Life, sends: Sequence[tuple[Message, RunRow | None]]) -> None:
        for message, start in sends:
            self.note(life.name, message.kind, message.run_id, message.body)
            self.seen[f"message: {message.kind}"] += 1
            if start is not None:
                self.names[start.key] = (start.tenant, start.run_id)

    def deleted(self, life: Life) -> None:
        self.seen["swept"] += 1

    def committed(self, life: Life, batch: Append) -> None:
        self.commits += 1
        self.last_commit = self._loop.time()
        for row in batch.starts:
            if row.key:
                self.names[row.key] = (row.tenant, row.run_id)
        for partition, epoch in batch.epochs.items():
            if self.epochs.get(partition) != epoch:
                self.wrong.append(
                    f"I3: {life.name} wrote to partition {partition} under epoch {epoch}, "
                    f"but it is {self.epochs.get(partition)}"
                )
        written = {row.partition for row in (*batch.starts, *batch.summaries, *(event[0] for event in batch.events))}
        for partition in sorted(written - batch.epochs.keys()):
            self.wrong.append(f"I3: {life.name} wrote to partition {partition}, which it has given up")
        for run, seq, kind, version, chain, data in batch.events:
            if run.key:
                epoch = batch.epochs.get(run.partition, -1)
                self._event(life, run, (seq, epoch, kind, chain, data), version)

    def _event(self, life: Life, run: Any, line: Line, version: int) -> None:
        seq, _, kind, chain, data = line
        self._hash.update(data)
        self.note(life.name, run.key, seq, kind, chain)
        lines = self.lines.setdefault(run.key, [])
        last = lines[-1][0] if lines else getattr(run, "origin_seq", 0)
        if seq != last + 1:
            self.wrong.append(f"I4: event {seq} of run {self.name(run.key)} follows event {last}")
        lines.append(line)
        self.logs.setdefault(run.partition, []).append((run.run_id, seq))
        if kind == "timer_fired":
            self._timer(run, version, data)
        elif kind in ("late", "attempt_failed", "run_reopened", "checkpoint"):
            self.seen[kind] += 1

    def _timer(self, run: Any, version: int, data: bytes) -> None:
        event = ev.decode_event("timer_fired", version, data)
        assert isinstance(event, ev.TimerFired)
        true = ORIGIN_US + round(self._loop.time() * 1e6)
        late = event.at - event.due if self._off_us is None else min(event.at, true + self._off_us) - event.due
        if late < 0:
            early = -late
            self.wrong.append(f"I8: the timer {event.step} of run {self.name(run.key)} fired {early} µs early")

    def name(self, key: int) -> str:
        """A run's id."""
        return self.names.get(key, ("", f"#{key}"))[1]
