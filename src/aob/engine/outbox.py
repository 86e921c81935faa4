"""The log as outbox: the owner of partitions gives what it has committed to exporters, and remembers how far they came.

Nothing is given that is not committed, and nothing committed is left out: an exporter's cursor moves, under the lease,
when it has taken a batch. It reads the log behind its cursor, never "what is new", so it does not matter what was
committed when, or by whom.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from aob import telemetry
from aob.engine.exporter import BATCH, BATCH_BYTES, Exporter, LogEvent, log_event
from aob.engine.group import Record
from aob.engine.payloads import may_be_marked
from aob.kernel import events as ev
from aob.stores.rows import LogRow

if TYPE_CHECKING:
    from aob.engine.host import Host

_BREATHE = 100
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 30.0
_LOOK_AGAIN = 0.005
_LOOK_EVERY = 10.0


class Outbox:
    """Runs the exporters of a host."""

    def __init__(self, host: Host, exporters: Sequence[Exporter]) -> None:
        self._host = host
        self._runners = [Runner(host, exporter) for exporter in exporters]
        if self._runners:
            host.commits.published = self._published

    def start(self) -> None:
        """Begin to export."""
        for runner in self._runners:
            self._host.spawn(runner.run())

    async def take(self, partitions: Sequence[int]) -> None:
        """Export these partitions, too, each from where its cursor stands."""
        for runner in self._runners:
            await runner.take(partitions)

    def give_up(self, partition: int) -> None:
        """Another worker goes on with this partition."""
        for runner in self._runners:
            runner.give_up(partition)

    def unfinished(self) -> set[int]:
        """Partitions of which an exporter that works has something left to take."""
        return set[int]().union(*(runner.unfinished() for runner in self._runners))

    async def drained(self, within: float) -> None:
        """Wait until all exporters have everything, as long as they work; at most so many seconds."""
        host = self._host
        until = host.clock.monotonic() + within
        while host.failed is None and self.unfinished():
            if host.clock.monotonic() >= until:
                return
            await host.clock.sleep(_LOOK_AGAIN)

    def _published(self, records: list[Record]) -> None:
        partitions = {run.row.partition for run, _, _ in records}
        for runner in self._runners:
            runner.wake(partitions)


class Runner:
    """One exporter: reads the logs of the host's partitions, gives it batches, and moves its cursors."""

    def __init__(self, host: Host, exporter: Exporter) -> None:
        self._host = host
        self._exporter = exporter
        self._positions: dict[int, int] = {}
        self._behind: set[int] = set()
        self._exporting: dict[int, int] = {}
        self._news = asyncio.Event()
        self._wait = 0.0
        self._look_at = host.clock.monotonic() + _LOOK_EVERY

    async def take(self, partitions: Sequence[int]) -> None:
        """See `Outbox.take`. An exporter that is new begins with the first event that is there."""
        known = await self._begun(partitions)
        self._positions |= {partition: known.get(partition, 0) for partition in partitions}
        self.wake(partitions)

    async def _begun(self, partitions: Sequence[int]) -> dict[int, int]:
        """Where the cursors stand, once those of these partitions that were not there are."""
        host, name = self._host, self._exporter.name
        known = {row.partition: row.position for row in await host.store.cursors(name)}
        new = [partition for partition in partitions if partition not in known]
        if new:
            host.commits.group().cursors += [(name, partition, 0) for partition in new]
            await host.commits.ack()
        return known

    async def _look(self) -> None:
        """Now and then: where somebody dropped this exporter it begins anew, for nothing is kept for it any more."""
        now = self._host.clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY
        partitions = list(self._positions)
        known = await self._begun(partitions)
        for partition in self._positions.keys() & set(partitions) - known.keys():
            self._positions[partition] = 0
            self._behind.add(partition)

    def give_up(self, partition: int) -> None:
        """See `Outbox.give_up`."""
        self._positions.pop(partition, None)
        self._behind.discard(partition)

    def wake(self, partitions: Sequence[int] | set[int]) -> None:
        """There is something new in these."""
        self._behind.update(partitions)
        self._news.set()

    def unfinished(self) -> set[int]:
        """See `Outbox.unfinished`."""
        return set() if self._wait else (self._behind | self._exporting.keys()) & self._positions.keys()

    async def run(self) -> None:
        """Export what is there, and then what comes; again and again what fails."""
        host = self._host
        while host.failed is None:
            if not self._behind:
                self._news.clear()
                await self._news.wait()
            try:
                await self._look()
                held = self._positions.keys() & host.commits.leases.keys()
                self._exporting = {partition: self._positions[partition] for partition in self._behind & held}
                self._behind = set()
                await self._export(self._exporting)
                self._wait = 0.0
            except Exception as e:
                self._behind |= self._exporting.keys()
                if host.failed is None:
                    await self._pause(e)
            finally:
                self._exporting = {}

    async def _pause(self, error: Exception) -> None:
        self._wait = min(self._wait * 2 or _FIRST_WAIT, _LONGEST_WAIT)
        seconds = round(self._wait * (0.5 + self._host.process.uniform()), 3)
        what = f"{type(error).__name__}: {error}"
        telemetry.tell("export_failed", exporter=self._exporter.name, error=what, seconds=seconds)
        await self._host.clock.sleep(seconds)

    async def _export(self, behind: dict[int, int]) -> None:
        if not behind:
            return
        epochs = dict(self._host.commits.epochs)
        limit = max(1, BATCH // len(behind))
        rows = await self._host.store.log(behind, limit)
        self._behind |= {partition for partition, n in Counter(row.partition for row in rows).items() if n == limit}
        async for batch in self._batches(rows):
            await self._give(batch, epochs)

    async def _batches(self, rows: list[LogRow]) -> AsyncGenerator[list[LogEvent]]:
        batch: list[LogEvent] = []
        size = 0
        for number, row in enumerate(rows, 1):
            data = row.data
            if may_be_marked(data):
                event = ev.decode_event(row.kind, row.version, data, run_id=row.run_id)
                data = ev.encode_event(await self._host.payloads.open(event, data))
            if batch and size + len(data) > BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(log_event(row, data))
            size += len(data)
            if number % _BREATHE == 0:
                await asyncio.sleep(0)  # runs go on meanwhile
        if batch:
            yield batch

    async def _give(self, batch: list[LogEvent], epochs: dict[int, int]) -> None:
        host, name = self._host, self._exporter.name
        batch = [event for event in batch if self._positions.get(event.partition, event.position) < event.position]
        if not batch:
            return
        await self._exporter.export(batch)
        for partition, position in {event.partition: event.position for event in batch}.items():
            if host.commits.epochs.get(partition) == epochs[partition] and partition in self._positions:
                self._positions[partition] = position
                host.commits.group().cursors.append((name, partition, position))
        await host.commits.ack()
