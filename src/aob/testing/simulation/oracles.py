"""What must hold at the end: of the store against all that was ever committed, and of the runs against their plans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aob.kernel import events as ev
from aob.kernel.states import TERMINAL_STATES
from aob.stores.chain import GAP
from aob.stores.protocol import Store
from aob.testing.oracle import Seen, look, numbers_of, problems
from aob.testing.simulation.tales import Tale

if TYPE_CHECKING:
    from aob.testing.simulation.world import World


async def judge(world: World, store: Store) -> list[str]:
    """What does not hold, in words; empty when all is well."""
    found = await look(store)
    wrong = problems(found, world.ledger.keys)
    wrong += _of_commits(world, found)
    wrong += _of_messages(world, found)
    for tale in world.outside.tales:
        wrong += _of_tale(world, tale, found)
    wrong += [what async for what in world.outside.people.not_kept(store)]
    for target in world.targets:
        wrong += target.missing()
    most = 2 * world.settings.max_deaths + 2
    wrong += [f"I19: run {run} killed {n} workers" for run, n in world.ledger.deaths.items() if n > most]
    if left := await store.waiting():
        wrong.append(f"I7: {len(left)} messages are left in the inbox: {[(m.kind, m.run_id) for m in left][:5]}")
    return wrong


def _of_commits(world: World, found: Seen) -> Iterator[str]:
    """I1, I2, I4: the store holds what was committed, all of it, and nothing else."""
    held = {row.key: found.events[name] for name, row in found.runs.items()}
    for key, lines in world.witness.lines.items():
        rows = held.get(key)
        if rows is None:
            if not world.plan.may("retention"):
                yield f"I1: run {world.witness.name(key)} is gone"
            continue
        own = [row for row in rows if row.run == key and row.kind != GAP]
        gone = {n for row in rows if row.kind == GAP for n in numbers_of(row)}
        if [(row.seq, row.epoch, row.kind, row.chain, row.data) for row in own] != [
            x for x in lines if x[0] not in gone
        ]:
            yield f"I4: of the {len(lines)} events of run {world.witness.name(key)} some are gone or changed"
    for key, rows in held.items():
        if key not in world.witness.lines and any(row.run == key for row in rows):
            yield f"I2: run {world.witness.name(key)} has events that nobody committed"


def _of_messages(world: World, found: Seen) -> Iterator[str]:
    """I7: each signal and update with an id is in its run's history once, in its sender's order."""
    for tale in world.outside.tales:
        events = found.events.get(("default", tale.run_id))
        if events is None or tale.drive is not None:
            continue
        if any(row.kind == GAP for row in events):
            continue
        got: list[str] = []
        for row in events:
            if row.kind == "signal_received":
                event = ev.decode_event(row.kind, row.version, row.data)
                assert isinstance(event, ev.SignalReceived)
                if event.id is not None:
                    got.append(event.id)
        twice = [id for id, count in Counter(got).items() if count > 1]
        if twice:
            yield f"I7: run {tale.run_id} got {twice} more than once"
        ended = next((i for i, row in enumerate(events) if row.kind in ev.TERMINAL), None)
        unsent = set(got) - {id for _, id in tale.sent}
        if unsent:
            yield f"I2: run {tale.run_id} got {sorted(unsent)}, which nobody sent"
        lost = [id for _, id in tale.acked if id not in got]
        if lost and (ended is None or events[ended].kind == "run_completed"):
            yield f"I1: run {tale.run_id} never got {lost}, which were accepted"
        orders: dict[str, list[int]] = {}
        for id in got:
            name, _, n = id.rpartition(".")
            if name.startswith("s"):
                orders.setdefault(name, []).append(int(n))
        for name, order in orders.items():
            if order != sorted(order):
                yield f"I7: run {tale.run_id} got the signals of {name} in the order {order}"


def _of_tale(world: World, tale: Tale, found: Seen) -> Iterator[str]:
    """I1, I19: it was started, it ended, as it may, with the value that was known before."""
    row = found.runs.get(("default", tale.run_id))
    if row is None:
        if not world.plan.may("retention"):
            yield f"I1: run {tale.run_id} was accepted, but is not there"
    elif row.status not in TERMINAL_STATES:
        yield f"I19: run {tale.run_id} has not ended: it is {row.status} ({row.reason})"
    elif row.status not in tale.ends:
        yield f"run {tale.run_id} is {row.status} ({row.reason}); it may be {sorted(tale.ends)}"
    if tale.outcome is None and row is None and world.plan.may("retention"):
        return
    if tale.outcome is None:
        yield f"I19: nobody was told the end of run {tale.run_id}"
        return
    how, value = tale.outcome
    if row is not None and how != row.status:
        yield f"run {tale.run_id} is {row.status}, but its caller was told {how}"
    if how == "completed" and not tale.same(tale.value, value):
        yield f"run {tale.run_id} returned {value!r} instead of {tale.value!r}"
