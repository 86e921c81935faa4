"""Exporters and what they export to: each target is held to the log as it was committed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from random import Random

from aob.engine.exporter import LogEvent
from aob.stores.chain import GAP
from aob.testing.simulation.loop import Life, SimLoop
from aob.testing.simulation.witness import Witness

Place = tuple[str, int]
"""Where an event stands: run id and seq."""


class Target:
    """Where an exporter's events go, whichever process brings them: a file, a warehouse.

    Each partition's events must come in the order in which they were committed. They may come again, from a process
    that does not know that it was replaced, or that does not know that they came; but none may be left out.

    Args:
        name: the exporter's.
        draw: when it fails.
        strength: of its failures; 1 is common.
    """

    def __init__(self, name: str, loop: SimLoop, witness: Witness, draw: Random, strength: float) -> None:
        self.name = name
        self.healed = False
        self._loop = loop
        self._witness = witness
        self._draw = draw
        self._strength = strength
        self._away_until = 0.0
        self._indexed: dict[int, int] = {}
        self._places: dict[int, dict[Place, list[int]]] = {}
        self._count: dict[int, int] = {}

    async def bring(self, life: Life, events: Sequence[LogEvent]) -> None:
        """Events come over the network.

        Raises:
            ConnectionError: they were not taken; or they were, and nobody knows.
        """
        draw = self._draw
        if self.healed:
            self._take(life, events)
            return
        await asyncio.sleep(draw.choice((0.001, 0.1, 5)) * draw.random())
        if self._is_away():
            self._witness.seen["export: failed"] += 1
            raise ConnectionError(f"{self.name} does not answer (simulated)")
        self._take(life, events)
        await asyncio.sleep(draw.choice((0.001, 0.1, 5)) * draw.random())
        if draw.random() < 0.02 * self._strength:
            self._witness.seen["export: unknown"] += 1
            raise ConnectionError(f"{self.name} took something, and nobody knows (simulated)")

    def missing(self) -> Iterator[str]:
        """Of which partitions it has not all."""
        for partition, log in self._witness.logs.items():
            if (count := self._count.get(partition, 0)) < len(log):
                run_id, seq = log[count]
                yield (
                    f"I10: exporter {self.name} has {count} of the {len(log)} events of partition {partition}; "
                    f"the next is event {seq} of {run_id}"
                )

    def _is_away(self) -> bool:
        draw = self._draw
        if self._loop.time() >= self._away_until and draw.random() < 0.02 * self._strength:
            self._away_until = self._loop.time() + draw.choice((1, 60, 1200)) * draw.random()
        return self._loop.time() < self._away_until

    def _take(self, life: Life, events: Sequence[LogEvent]) -> None:
        self._witness.note(life.name, self.name, [event.id for event in events])
        self._witness.seen["export"] += 1
        for event in events:
            self._take_one(event)

    def _take_one(self, event: LogEvent) -> None:
        partition = event.partition
        count = self._count.get(partition, 0)
        places = self._index(partition).get((event.run_id, event.seq), [])
        if any(place < count for place in places) and (event.kind == GAP or count not in places):
            self._witness.seen["export: again"] += 1
        elif count in places:
            self._count[partition] = count + 1
        else:
            what = f"{event.kind} {event.id}, event {event.seq} of {event.run_id}"
            why = f"{places[0] - count} before it are missing" if places else "that was never committed"
            self._witness.wrong.append(f"I10: exporter {self.name} was given {what}: {why}")

    def _index(self, partition: int) -> dict[Place, list[int]]:
        places = self._places.setdefault(partition, {})
        log = self._witness.logs.get(partition, [])
        for at in range(self._indexed.get(partition, 0), len(log)):
            places.setdefault(log[at], []).append(at)
        self._indexed[partition] = len(log)
        return places


class SimExporter:
    """A process's way to a target (see `aob.Exporter`)."""

    def __init__(self, target: Target, life: Life, witness: Witness) -> None:
        self.name = target.name
        self._target = target
        self._life = life
        self._witness = witness
        self._busy = False

    async def export(self, events: Sequence[LogEvent]) -> None:
        """See `aob.Exporter.export`."""
        if self._busy:
            self._witness.wrong.append(f"I10: exporter {self.name} was called while it was at work")
        self._busy = True
        try:
            await self._target.bring(self._life, events)
        finally:
            self._busy = False
