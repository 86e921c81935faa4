"""Item 23: of an open run, what it did before a checkpoint may be deleted; what is missing is said to be missing."""

from __future__ import annotations

import msgspec

from aob.errors import LeaseLost, StoreCorrupt
from aob.kernel.events import Gap, decode_event
from aob.stores.protocol import Store
from aob.stores.rows import Append, Cut, EventRow, Keyed, Lease, RunRow
from aob.testing.conformance.stores.reads import a_ticket
from aob.testing.conformance.stores.removal import forked
from aob.testing.conformance.stores.setting import (
    StoreSetting,
    Story,
    a_run,
    committed,
    ended,
    started,
    taken,
    told,
)


def timed(*texts: str, at: int = 0) -> list[bytes]:
    """Stored events, a microsecond apart."""
    return [msgspec.json.encode([at + n, text]) for n, text in enumerate(texts)]


async def a_pass(
    store: Store, lease: Lease, run: RunRow, *texts: str, blobs: tuple[bytes, ...] = (), story: Story | None = None
) -> int:
    """Commit events of a run and a checkpoint behind them; the `seq` of the checkpoint."""
    last = await store.last_event(run.key) if run.key else None
    told_by = story or Story(run, *((last.seq, last.chain) if last else (0, 0)))
    data = timed(*texts, at=told_by.seq)
    uses: list[tuple[Keyed, str, bytes]] = [(run, f"sha256:{blob.decode()}", blob) for blob in blobs]
    batch = Append(epochs={lease.partition: lease.epoch}, events=told_by.tell(*data), blobs=uses)
    await committed(store, batch)
    events = told_by.tell(*timed("state", at=told_by.seq), kind="checkpoint")
    run.checkpoint = told_by.seq
    batch = Append(epochs={lease.partition: lease.epoch}, events=events, summaries=[run])
    await committed(store, batch)
    return told_by.seq


def cut(run: RunRow, until: int, checkpoint: int | None = None) -> Cut:
    """Everything up to here goes."""
    return Cut(run=run.key, checkpoint=run.checkpoint if checkpoint is None else checkpoint, until=until)


def shown(events: list[EventRow]) -> list[int | tuple[int, int]]:
    """The numbers of events; of a gap its first and last."""
    out: list[int | tuple[int, int]] = []
    for row in events:
        event = decode_event(row.kind, row.version, row.data) if row.kind == "gap" else None
        assert event is None or row.seq == getattr(event, "last", None)
        out.append((event.first, event.last) if isinstance(event, Gap) else row.seq)
    return out


async def history(store: Store, run: RunRow, after: int = 0, limit: int = 1_000) -> list[int | tuple[int, int]]:
    """What a reader gets of a run, as `shown`."""
    return shown(await store.events(run.key, after, limit))


class TrimmingTests(StoreSetting):
    """`checkpoints` and `trim`."""

    async def test_23_a_gap_stands_in_the_place_of_what_was_deleted(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            run, other = a_run("x"), a_run("y")
            await started(a, lease, run, other)
            await a_pass(a, lease, run, "1", "2", "3", "4")
            await a_pass(a, lease, other, "1", "2", "3")
            before = await a.events(run.key, 0, 10)
            assert await a.trim(lease, [cut(run, 4)], 100) == 3
            after = await b.events(run.key, 0, 10)
            assert shown(after) == [1, (2, 4), 5]
            assert (after[0], after[2]) == (before[0], before[4])
            gap = decode_event(after[1].kind, after[1].version, after[1].data)
            assert isinstance(gap, Gap)
            assert (gap.at, gap.chain) == (3, before[3].chain)
            assert after[1] == EventRow(
                before[3].position, run.key, 4, lease.epoch, "gap", 1, before[3].chain, after[1].data
            )
            assert await history(b, other) == [1, 2, 3, 4]
            assert await a.trim(lease, [cut(run, 4)], 100) == 0
            assert await b.last_event(run.key) == before[4]

    async def test_23_a_history_with_a_gap_is_read_from_any_event_on_and_in_any_pages(self) -> None:
        async with self.owned() as (a, lease):
            run = a_run()
            await started(a, lease, run)
            await a_pass(a, lease, run, "1", "2", "3", "4", "5")
            await a_pass(a, lease, run, "7", "8")
            await a.trim(lease, [cut(run, 5)], 100)
            whole = await a.events(run.key, 0, 100)
            for after in range(10):
                rest = [e for e in whole if e.seq > after]
                assert await a.events(run.key, after, 100) == rest, after
                for limit in (1, 2, 3):
                    assert await a.events(run.key, after, limit) == rest[:limit], (after, limit)
            assert await a.events(run.key, 0, 100, 1) == whole[:1]
            assert await a.events(run.key, 5, 1, 6) == whole[2:3]
            assert await a.events(run.key, 4, 100, 5) == whole[1:2]

    async def test_23_it_is_deleted_in_batches_and_each_leaves_one_gap(self) -> None:
        async with self.owned() as (a, lease):
            run, other = a_run("x"), a_run("y")
            await started(a, lease, run, other)
            await a_pass(a, lease, run, *"12345678")
            await a_pass(a, lease, other, *"1234")
            cuts = [cut(run, 8), cut(other, 3)]
            assert await a.trim(lease, cuts, 3) == 3
            assert await history(a, run) == [1, (2, 4), 5, 6, 7, 8, 9]
            assert await a.trim(lease, cuts, 5) == 5
            assert (await history(a, run), await history(a, other)) == ([1, (2, 8), 9], [1, (2, 2), 3, 4, 5])
            assert await a.trim(lease, cuts, 5) == 1
            assert await history(a, other) == [1, (2, 3), 4, 5]
            assert await a.trim(lease, cuts, 5) == 0

    async def test_23_a_gap_grows_with_every_checkpoint_and_the_run_goes_on(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            run = a_run()
            await started(a, lease, run)
            for n in range(1, 6):
                seq = await a_pass(a, lease, run, "x", "y")
                assert seq == 3 * n
                await a.trim(lease, [cut(run, seq - 1)], 100)
                assert await history(b, run) == [1, (2, seq - 1), seq]
                assert [r.checkpoint for r in await b.open_runs([0], 0, 10)] == [seq]
            await ended(a, lease, run)
            await a.delete_run(lease, run.key)
            assert await b.events(run.key, 0, 10) == []

    async def test_23_the_first_event_stays_and_what_is_behind_the_cut(self) -> None:
        async with self.owned() as (a, lease):
            run = a_run()
            await started(a, lease, run)
            await a_pass(a, lease, run, "1", "2")
            assert await a.trim(lease, [cut(run, 1)], 100) == 0
            assert await a.trim(lease, [cut(run, 0)], 100) == 0
            assert await history(a, run) == [1, 2, 3]

    async def test_23_ended_runs_later_checkpoints_and_other_partitions_are_left_alone(self) -> None:
        async with self.opened() as (_, (a,)):
            here, there = await taken(a, 0), await taken(a, 1)
            done, set_aside, yours = a_run("done"), a_run("aside"), a_run("yours", partition=1)
            await started(a, here, done, set_aside)
            await started(a, there, yours)
            for run, lease in ((done, here), (set_aside, here), (yours, there)):
                await a_pass(a, lease, run, "1", "2", "3")
            await ended(a, here, done)
            cuts = [cut(done, 3), cut(set_aside, 3, checkpoint=5), cut(yours, 3), Cut(run=999, checkpoint=1, until=1)]
            assert await a.trim(here, cuts, 100) == 0
            for run in (done, set_aside, yours):
                assert await history(a, run) == [1, 2, 3, 4]
            assert await a.trim(there, cuts, 100) == 2
            found = [await a.checkpoints(partition, 0, 10) for partition in (0, 1)]
            assert [[e.run for e in events] for events in found] == [[done.key, set_aside.key], [yours.key]]

    async def test_23_a_replaced_owner_deletes_no_history(self) -> None:
        async with self.opened(2) as (clock, (a, b)):
            lease = await taken(a)
            run = a_run()
            await started(a, lease, run)
            await a_pass(a, lease, run, "1", "2", "3")
            await a.release([lease])
            clock.seconds += 100
            await taken(b, owner="b")
            try:
                await a.trim(lease, [cut(run, 3)], 100)
            except LeaseLost:
                pass
            else:
                raise AssertionError("an owner that was replaced deleted history")
            assert await history(b, run) == [1, 2, 3, 4]

    async def test_23_what_forks_share_stays_until_they_are_gone(self) -> None:
        async with self.owned() as (a, lease):
            origin = a_run("origin")
            await started(a, lease, origin)
            await a_pass(a, lease, origin, "1", "2", "3", "4", "5")
            near, far = await forked(a, lease, origin, "near", 2), await forked(a, lease, origin, "far", 4)
            shared = await a.events(far.key, 0, 4)
            assert await a.trim(lease, [cut(origin, 5)], 100) == 1
            assert await history(a, origin) == [1, 2, 3, 4, (5, 5), 6]
            assert (await history(a, near), await a.events(far.key, 0, 4)) == ([1, 2, 3], shared)
            await ended(a, lease, far)
            await a.delete_run(lease, far.key)
            assert await a.trim(lease, [cut(origin, 5)], 1) == 1
            assert await history(a, origin) == [1, 2, (3, 3), 4, (5, 5), 6]
            assert await a.trim(lease, [cut(origin, 5)], 100) == 1
            assert await a_pass(a, lease, origin, "7") == 8
            await a.trim(lease, [cut(origin, 7)], 100)
            assert (await history(a, origin), await history(a, near)) == ([1, 2, (3, 7), 8], [1, 2, 3])

    async def test_23_a_forks_own_history_is_deleted_and_not_what_it_shares(self) -> None:
        async with self.owned() as (a, lease):
            origin = a_run("origin")
            await started(a, lease, origin)
            await a_pass(a, lease, origin, "1", "2", "3")
            fork = await forked(a, lease, origin, "fork", 2)
            await a_pass(a, lease, fork, "4", "5")
            assert await a.trim(lease, [cut(fork, 5)], 100) == 3
            assert await history(a, fork) == [1, 2, (3, 5), 6]
            assert await history(a, fork, 2) == await history(a, fork, 4) == [(3, 5), 6]
            assert await history(a, origin) == [1, 2, 3, 4]

    async def test_23_payloads_go_with_the_last_event_that_refers_to_them(self) -> None:
        async with self.owned() as (a, lease):
            run, other = a_run("x"), a_run("y")
            await started(a, lease, run, other)
            story = Story(run)
            await a_pass(a, lease, run, "sha256:input", blobs=(b"input",), story=story)
            await a_pass(a, lease, run, "sha256:input sha256:old", blobs=(b"input", b"old"), story=story)
            await a_pass(a, lease, run, "sha256:often", "sha256:both", blobs=(b"often", b"both"), story=story)
            await a_pass(a, lease, run, "sha256:asked", blobs=(b"asked",), story=story)
            await a_pass(a, lease, run, "sha256:often", blobs=(b"often",), story=story)
            await a_pass(a, lease, other, "sha256:both", blobs=(b"both",))
            ticket = a_ticket("t", run_id="x")
            ticket.data = b"sha256:asked"
            await committed(a, Append(epochs={lease.partition: lease.epoch}, tickets=[ticket]))

            async def left() -> list[str]:
                names = ("input", "old", "often", "both", "asked")
                return [name for name in names if await a.blob(f"sha256:{name}") is not None]

            assert await a.trim(lease, [cut(run, 8)], 100) == 7
            assert await left() == ["input", "often", "both", "asked"]
            await a_pass(a, lease, run, "the last")
            await a.trim(lease, [cut(run, 12)], 100)
            assert await left() == ["input", "both", "asked"]
            await ended(a, lease, run, other)
            await a.delete_run(lease, run.key)
            assert await left() == ["both"]
            await a.delete_run(lease, other.key)
            assert await left() == []

    async def test_23_a_payload_that_a_fork_shares_stays(self) -> None:
        async with self.owned() as (a, lease):
            run = a_run("origin")
            await started(a, lease, run)
            await a_pass(a, lease, run, "1", "sha256:shared", blobs=(b"shared",))
            await a_pass(a, lease, run, "sha256:shared", blobs=(b"shared",))
            fork = await forked(a, lease, run, "fork", 2)
            await a.trim(lease, [cut(run, 4)], 100)
            assert await history(a, run) == [1, 2, (3, 4), 5]
            assert await a.blob("sha256:shared") == b"shared"
            assert await history(a, fork) == [1, 2, 3]

    async def test_23_what_is_damaged_beside_a_gap_is_seen(self) -> None:
        async with self.owned() as (a, lease):
            run = a_run()
            await started(a, lease, run)
            await a_pass(a, lease, run, "1", "2", "3")
            await a.trim(lease, [cut(run, 3)], 100)
            last = await a.last_event(run.key)
            assert last is not None
            await told(a, lease, *Story(run, 4, last.chain + 1).tell(*timed("5")))
            try:
                await a.events(run.key, 0, 10)
            except StoreCorrupt as e:
                assert "event 5" in str(e)
            else:
                raise AssertionError("a damaged history was served")
            assert await history(a, run, 0, 3) == [1, (2, 3), 4]

    async def test_23_checkpoints_come_in_the_order_of_commits(self) -> None:
        async with self.owned() as (a, lease):
            runs = [a_run(f"r{n}") for n in range(3)]
            await started(a, lease, *runs)
            for run in (*runs[::-1], *runs):
                await a_pass(a, lease, run, "x")
            await ended(a, lease, runs[1])
            found = await a.checkpoints(0, 0, 100)
            assert [(e.run, e.seq) for e in found] == [
                *((run.key, 2) for run in runs[::-1]),
                *((run.key, 4) for run in runs),
            ]
            assert {e.kind for e in found} == {"checkpoint"}
            assert await a.checkpoints(0, 0, 2) == found[:2]
            assert await a.checkpoints(0, found[1].position, 100) == found[2:]
            assert await a.checkpoints(0, found[-1].position, 100) == []
            await a.trim(lease, [cut(runs[0], 3)], 100)
            await a.delete_run(lease, runs[1].key)
            assert [(e.run, e.seq) for e in await a.checkpoints(0, 0, 100)] == [
                (runs[2].key, 2), (runs[0].key, 4), (runs[2].key, 4)
            ]  # fmt: skip
