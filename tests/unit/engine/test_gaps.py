"""History that was deleted: what a replay, a fork or a retry makes of it, and when nothing is deleted."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw

import aob
from aob import telemetry
from aob.client.client import Client
from aob.clock import SystemClock
from aob.engine.history import History, HistoryGone, Numbered, checkpoint_by, kept
from aob.engine.host import Host
from aob.engine.payloads import Payloads
from aob.engine.trimming import Trimming
from aob.kernel import events as ev
from aob.kernel.carry import Carry
from aob.stores.memory import MemoryStore
from aob.stores.rows import Append, Cut, Lease, RunRow
from aob.testing.conformance.engine_harness import eventually
from aob.testing.conformance.stores.setting import Story, a_run, committed, taken
from aob.testing.oracle import look, problems

STARTED = ev.RunStarted(1, "w", Raw(b"null"), "t", "r", "birth000", 1)


def checkpoint(applied: int) -> ev.Checkpoint:
    return ev.Checkpoint(9, Raw(b"1"), Raw(msgspec.json.encode(Carry(applied, {"step": applied}, 1))))


def numbered(*events: tuple[int, ev.Event]) -> list[Numbered]:
    return [(event, seq) for seq, event in events]


def test_a_gap_is_set_aside_only_as_a_whole() -> None:
    gap, emitted = ev.Gap(5, 2, 6), ev.Emitted(5, "e", Raw(b"1"))
    for keep, left in ((1, [1, 9]), (2, [1, 6, 9]), (5, [1, 6, 9]), (6, [1, 6, 9]), (7, [1, 6, 7, 9])):
        events = numbered((1, STARTED), (6, gap), (7, emitted), (8, emitted), (9, ev.RunReopened(9, keep)))
        assert [seq for _, seq in kept(events)] == left, keep


def test_a_replay_begins_at_the_last_checkpoint_that_contains_the_gap() -> None:
    before, window = ev.Gap(5, 2, 6), ev.SignalReceived(5, "n", Raw(b"1"))
    events = numbered((1, STARTED), (6, before), (7, window), (8, checkpoint(4)), (9, checkpoint(6)), (12, window))
    assert [checkpoint_by(events, seq, "r") for seq in (1, 9, 10, 12)] == [0, 9, 9, 9]
    for seq in (2, 6, 7, 8):
        with pytest.raises(HistoryGone, match="up to event 6 was deleted"):
            checkpoint_by(events, seq, "r")
    assert checkpoint_by(numbered((1, STARTED), (2, window), (3, checkpoint(2))), 2, "r") == 0


async def stored(store: MemoryStore, lease: Lease, *events: ev.Event) -> RunRow:
    """A run with these events, the last checkpoint noted."""
    row, records = a_run("r", tenant="t"), []
    story = Story(row)
    for event in events:
        records += story.tell(ev.encode_event(event), kind=event.KIND)
        row.checkpoint = story.seq if isinstance(event, ev.Checkpoint) else row.checkpoint
    await committed(store, Append(epochs={lease.partition: lease.epoch}, starts=[row], events=records))
    return row


async def test_a_row_from_before_the_deletion_is_not_replayed_from_what_is_left() -> None:
    store = MemoryStore(SystemClock())
    signal = ev.SignalReceived(5, "n", Raw(b"1"))
    lease = await taken(store)
    row = await stored(store, lease, STARTED, signal, checkpoint(2), signal, checkpoint(4), signal)
    history = History(store, Payloads(store, None, 100))
    assert await store.trim(lease, [Cut(run=row.key, checkpoint=5, until=4)], 10) == 3
    events, _ = await history.for_replay(row)
    assert [seq for _, seq in events] == [1, 5, 6]
    for stale in (0, 3):
        with pytest.raises(HistoryGone, match="read it anew"):
            await history.for_replay(msgspec.structs.replace(row, checkpoint=stale))


async def test_a_replay_of_a_run_that_was_deleted_meanwhile_says_so() -> None:
    store = MemoryStore(SystemClock())
    lease = await taken(store)
    row = await stored(store, lease, STARTED, checkpoint(1), ev.RunCompleted(9, Raw(b"1")))
    ended = msgspec.structs.replace(row, status="completed", ended=9)
    await committed(store, Append(epochs={lease.partition: lease.epoch}, summaries=[ended]))
    await store.delete_run(lease, row.key)
    with pytest.raises(aob.RunNotFound, match="was deleted"):
        await History(store, Payloads(store, None, 100)).for_replay(ended)


@aob.workflow
async def passes() -> None:
    done: int = aob.checkpoint_state(int) or 0
    await aob.wait_signal("go")
    aob.checkpoint(done + 1)


async def a_host(client: Client) -> tuple[Host, aob.Run[Any]]:
    """The host of a run with two passes behind it."""
    run = await client.start(passes, run_id="r")
    for n in (1, 2):
        await run.signal("go")

        async def passed(n: int = n) -> bool:
            return [e.kind for e in await run.history()].count("checkpoint") == n

        await eventually(passed, f"pass {n}")
    host = client.host()
    assert host is not None
    return host, run


async def test_nothing_is_deleted_while_a_fork_is_made_and_it_is_later() -> None:
    async with aob.connect("sqlite://") as client, client.serve(passes):
        host, run = await a_host(client)
        trimming, later = Trimming(host), host.clock.now_us() + 10**6
        host.controls.forks.under_way += 1
        assert await trimming.trim(later) == 0
        host.controls.forks.under_way -= 1
        seen = await look(client.store)
        assert await trimming.trim(1) == 0
        assert await trimming.trim(later) == 3
        assert [e.kind for e in await run.history()] == ["run_started", "gap", "checkpoint"]
        after = await look(client.store)
        assert problems(after, earlier=[seen]) == []
        assert problems(seen, earlier=[after]) != []


async def test_the_oracle_sees_what_no_gap_explains() -> None:
    async with aob.connect("sqlite://") as client, client.serve(passes):
        host, _ = await a_host(client)
        seen = await look(client.store)
        await Trimming(host).trim(host.clock.now_us() + 10**6)
        after = await look(client.store)
        events = after.events["default", "r"]
        events[1] = msgspec.structs.replace(events[1], data=ev.encode_event(ev.Gap(1, 3, 4)))
        assert any("numbered" in problem for problem in problems(after))
        assert any("gone or changed" in problem for problem in problems(after, earlier=[seen]))
        events[1] = msgspec.structs.replace(events[1], data=ev.encode_event(ev.Gap(1, 2, 4)))
        after.runs["default", "r"].checkpoint = 3
        assert any("goes on from" in problem for problem in problems(after, earlier=[seen]))


async def test_an_unreadable_checkpoint_stops_the_deletion_and_is_told() -> None:
    told: list[str] = []
    async with aob.connect("sqlite://") as client, client.serve(passes):
        host, run = await a_host(client)
        assert isinstance(client.store, MemoryStore)
        (events,) = client.store.state.events.values()
        place = next(n for n, e in enumerate(events) if e.kind == "checkpoint")
        events[place] = msgspec.structs.replace(events[place], data=b"damaged")
        unsubscribe = telemetry.subscribe(lambda name, fields: told.append(name))
        try:
            assert await Trimming(host).trim(host.clock.now_us() + 10**6) == 0
        finally:
            unsubscribe()
        assert told == ["sweep_failed"]
        assert run.run_id == "r"
