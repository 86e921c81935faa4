"""The log of a partition, and how far exporters have come: nothing is missed, nothing goes before they have it."""

from __future__ import annotations

import asyncio

from aob.errors import LeaseLost, StillNeeded
from aob.stores.protocol import Store
from aob.stores.rows import Append, Lease, LogRow, RunFilter, RunRow
from aob.testing.conformance.stores.removal import forked
from aob.testing.conformance.stores.setting import (
    TTL,
    StoreSetting,
    Story,
    a_run,
    committed,
    ended,
    started,
    taken,
    told,
)

EVERYTHING = 1 << 40


async def whole(store: Store, partition: int = 0, page: int = 1_000) -> list[LogRow]:
    """A partition's log, read in pages."""
    found: list[LogRow] = []
    while rows := await store.log({partition: found[-1].position if found else 0}, page):
        found += rows
    return found


async def moved(store: Store, lease: Lease, **cursors: int) -> None:
    """Commit that exporters have begun, and have come to these positions."""
    places = [(name, lease.partition, place) for name, position in cursors.items() for place in (0, position)]
    await committed(store, Append(epochs={lease.partition: lease.epoch}, cursors=places))


async def came_to(store: Store, exporter: str | None = None) -> list[tuple[str, int, int, int]]:
    """The cursors as plain values."""
    return [(row.exporter, row.partition, row.position, row.last) for row in await store.cursors(exporter)]


def said(rows: list[LogRow]) -> list[tuple[str, bytes]]:
    """Whose events these are, and what they hold."""
    return [(row.run_id, row.data) for row in rows]


class Reader:
    """Reads a log as an exporter does: again and again, behind the last position that it was given."""

    def __init__(self, store: Store, partitions: list[int]) -> None:
        self._store = store
        self.positions = dict.fromkeys(partitions, 0)
        self.rows: dict[int, list[LogRow]] = {partition: [] for partition in partitions}
        self.over = False

    async def read(self) -> int:
        """What is new; how many events it were."""
        rows = await self._store.log(self.positions, 7)
        for row in rows:
            self.positions[row.partition] = row.position
            self.rows[row.partition].append(row)
        return len(rows)

    async def read_on(self) -> None:
        """Read until it is over, and then to the end."""
        while not self.over:
            await self.read()
            await asyncio.sleep(0)
        while await self.read():
            pass


class LogTests(StoreSetting):
    """`log`, `cursors`, and what retention leaves for exporters and parents."""

    async def test_the_log_has_every_event_in_the_order_of_commits(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            one, two = a_run("one", workflow="v"), a_run("two", tenant="u")
            await started(a, lease, one, two)
            first, second = Story(one), Story(two)
            await told(a, lease, *first.tell(b"1"), *second.tell(b"2"), *first.tell(b"3"))
            await told(a, lease, *second.tell(b"4", kind="timer_fired"))
            rows = await whole(b)
            assert [(r.tenant, r.run_id, r.workflow, r.seq, r.kind, r.version, r.data) for r in rows] == [
                ("t", "one", "v", 1, "step_completed", 1, b"1"),
                ("u", "two", "w", 1, "step_completed", 1, b"2"),
                ("t", "one", "v", 2, "step_completed", 1, b"3"),
                ("u", "two", "w", 2, "timer_fired", 1, b"4"),
            ]
            assert {row.partition for row in rows} == {0}
            positions = [row.position for row in rows]
            assert positions == sorted(set(positions))
            assert [row.position for row in await a.events(one.key, 0, 10)] == [positions[0], positions[2]]
            for page in (1, 2, 3):
                assert await whole(b, page=page) == rows
            assert await b.log({0: positions[-1]}, 10) == []
            assert await b.log({}, 10) == []

    async def test_each_partition_has_a_log_of_its_own(self) -> None:
        async with self.opened() as (_, (a,)):
            here, there = await taken(a, 0), await taken(a, 1)
            mine, yours = a_run("mine"), a_run("yours", partition=1)
            await started(a, here, mine)
            await started(a, there, yours)
            ours, theirs = Story(mine), Story(yours)
            for n in range(5):
                await told(a, here, *ours.tell(b"%d" % n))
                await told(a, there, *theirs.tell(b"%d" % n, b"more"))
            assert [row.run_id for row in await whole(a, 0)] == ["mine"] * 5
            assert [row.run_id for row in await whole(a, 1, page=3)] == ["yours"] * 10
            both = await a.log({0: 0, 1: 0}, 2)
            assert said([row for row in both if row.partition == 0]) == [("mine", b"0"), ("mine", b"1")]
            assert said([row for row in both if row.partition == 1]) == [("yours", b"0"), ("yours", b"more")]

    async def test_10_whoever_reads_on_misses_nothing_however_commits_overlap(self) -> None:
        async with self.opened(3) as (_, (a, b, c)):
            reader = Reader(c, [0, 1])
            reading = asyncio.create_task(reader.read_on())
            here, there = await taken(a, 0, "a"), await taken(b, 1, "b")
            await asyncio.gather(self._write(a, here, 30), self._write(b, there, 30))
            reader.over = True
            await reading
            for partition in (0, 1):
                assert reader.rows[partition] == await whole(a, partition)
                assert [row.data for row in reader.rows[partition]] == [b"%d" % n for n in range(90)]

    async def _write(self, store: Store, lease: Lease, commits: int) -> None:
        run = a_run(f"r{lease.partition}", partition=lease.partition)
        await started(store, lease, run)
        story = Story(run)
        for n in range(commits):
            await told(store, lease, *story.tell(*(b"%d" % (3 * n + i) for i in range(3))))
            await asyncio.sleep(0)

    async def test_10_the_log_goes_on_under_the_next_owner(self) -> None:
        async with self.opened(2) as (clock, (a, b)):
            old, run = await taken(a), a_run()
            await started(a, old, run)
            story = Story(run)
            await told(a, old, *story.tell(b"1", b"2"))
            before = await whole(b)
            clock.seconds += TTL + 1
            new = await taken(b, owner="b")
            await told(b, new, *story.tell(b"3"))
            rows = await whole(a)
            assert rows[:2] == before
            assert rows[2].position > before[-1].position
            assert said(rows[2:]) == [("r", b"3")]

    async def test_cursors_move_with_a_commit_and_are_seen_by_all(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            here, there = await taken(a, 0), await taken(a, 1)
            assert await b.cursors() == []
            run, other = a_run("r"), a_run("s", partition=1)
            await started(a, here, run)
            await started(a, there, other)
            await told(a, here, *Story(run).tell(b"1", b"2"))
            last = (await whole(a))[-1].position
            await moved(a, here, x=0, y=0)
            await moved(a, here, x=last)
            await moved(a, there, x=0)
            assert await came_to(b) == [("x", 0, last, last), ("x", 1, 0, 0), ("y", 0, 0, last)]
            assert await came_to(b, "y") == [("y", 0, 0, last)]
            assert await came_to(b, "z") == []

    async def test_a_replaced_owner_moves_no_cursor(self) -> None:
        async with self.opened(2) as (clock, (a, b)):
            old = await taken(a)
            await moved(a, old, x=1)
            clock.seconds += TTL + 1
            new = await taken(b, owner="b")
            try:
                await moved(a, old, x=5)
            except LeaseLost:
                pass
            else:
                raise AssertionError("a replaced owner moved a cursor")
            assert await came_to(b) == [("x", 0, 1, 0)]
            await moved(b, new, x=2)
            assert await came_to(a) == [("x", 0, 2, 0)]

    async def test_a_dropped_exporter_is_forgotten_everywhere(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            await moved(a, await taken(a, 0), x=1, y=2)
            await moved(a, await taken(a, 1), x=3)
            assert await b.drop_exporter("x") == 2
            assert await b.drop_exporter("x") == 0
            assert await came_to(a) == [("y", 0, 2, 0)]

    async def test_a_dropped_exporter_does_not_come_back_with_a_commit_that_was_on_its_way(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a, 0)
            await moved(a, lease, x=1, y=1)
            assert await b.drop_exporter("x") == 1
            late = [("x", 0, 5), ("y", 0, 5)]
            await committed(a, Append(epochs={0: lease.epoch}, cursors=late))
            assert await came_to(b) == [("y", 0, 5, 0)]
            await committed(a, Append(epochs={0: lease.epoch}, cursors=[("x", 0, 0), ("y", 0, 0)]))
            assert await came_to(b) == [("x", 0, 0, 0), ("y", 0, 5, 0)]

    async def test_21_nothing_is_deleted_before_every_exporter_has_it(self) -> None:
        async with self.opened() as (_, (a,)):
            lease, elsewhere = await taken(a, 0), await taken(a, 1)
            runs = [a_run(f"r{n}") for n in range(3)]
            await started(a, lease, *runs)
            for n, run in enumerate(runs):
                await told(a, lease, *Story(run).tell(b"1", b"2"))
                await ended(a, lease, run, at=100 + n)
            positions = [row.position for row in await whole(a)]
            await moved(a, lease, x=positions[-1], y=positions[2])
            await moved(a, elsewhere, z=0)
            assert await kept_after_a_sweep(a, lease) == ["r1", "r2"]
            for run in runs[1:]:
                assert await refusal(a, lease, run) is not None
            await moved(a, lease, y=positions[3])
            assert await refusal(a, lease, runs[1]) is None
            assert await kept_after_a_sweep(a, lease) == ["r2"]
            assert said(await whole(a)) == [("r2", b"1"), ("r2", b"2")]
            await a.drop_exporter("y")
            assert await kept_after_a_sweep(a, lease) == []

    async def test_21_checkpoints_are_old_when_every_exporter_has_them(self) -> None:
        async with self.owned() as (a, lease):
            run = a_run()
            await started(a, lease, run)
            story = Story(run)
            events = [*story.tell(b"1"), *story.tell(b"2", kind="checkpoint")]
            run.checkpoint = 2
            await committed(a, Append(epochs={0: lease.epoch}, events=events, summaries=[run]))
            await told(a, lease, *story.tell(b"3"))
            position = (await a.checkpoints(0, 0, 10))[0].position
            await moved(a, lease, x=position - 1)
            assert await a.checkpoints(0, 0, 10) == []
            await moved(a, lease, x=position)
            assert [event.seq for event in await a.checkpoints(0, 0, 10)] == [2]

    async def test_21_a_child_stays_while_its_parent_may_ask_for_its_result(self) -> None:
        async with self.owned() as (a, lease):
            parent, child, grandchild = a_run("parent"), a_run("child", parent="parent"), a_run("g", parent="child")
            stranger = a_run("stranger", parent="of another tenant")
            await started(a, lease, parent, child, grandchild, stranger, a_run("of another tenant", tenant="u"))
            for run in (parent, child, grandchild, stranger):
                await told(a, lease, *Story(run).tell(b"1"))
            await ended(a, lease, grandchild, stranger)
            await ended(a, lease, child, status="failed")
            assert await kept_after_a_sweep(a, lease) == ["child", "g", "of another tenant", "parent"]
            assert "'parent'" in (await refusal(a, lease, child) or "")
            await ended(a, lease, parent, at=200, status="failed")  # it may be retried
            assert "'parent'" in (await refusal(a, lease, child) or "")
            assert await kept_after_a_sweep(a, lease) == ["child", "g", "of another tenant"]
            assert await kept_after_a_sweep(a, lease) == ["g", "of another tenant"]
            assert await refusal(a, lease, grandchild) is None

    async def test_21_a_parent_that_cannot_go_on_needs_its_child_no_more(self) -> None:
        async with self.owned() as (a, lease):
            needed: list[str] = []
            for status in ("completed", "failed", "cancelled", "terminated", "timed_out"):
                for by in (None, "somebody"):
                    parent, child = a_run(f"{status} {by}", parent=by), a_run(f"of {status} {by}")
                    child.parent = parent.run_id
                    await started(a, lease, parent, child)
                    await told(a, lease, *Story(parent).tell(b"1"), *Story(child).tell(b"1"))
                    await ended(a, lease, parent, status=status)
                    await ended(a, lease, child)
                    if await refusal(a, lease, child) is not None:
                        needed.append(parent.run_id)
            assert needed == [
                "failed None", "failed somebody", "cancelled somebody", "timed_out None", "timed_out somebody"
            ]  # fmt: skip

    async def test_21_a_child_goes_when_its_parent_has_passed_a_checkpoint(self) -> None:
        async with self.owned() as (a, lease):
            parent, early, late = a_run("parent"), a_run("early", parent="parent"), a_run("late", parent="parent")
            story = Story(parent)
            await started(a, lease, parent, early)
            await told(a, lease, *story.tell(b"1"), *Story(early).tell(b"1"), *story.tell(b"2"))
            await told(a, lease, *story.tell(b"3", kind="checkpoint"))
            parent.checkpoint = 3
            await committed(a, Append(epochs={0: lease.epoch}, summaries=[parent]))
            await started(a, lease, late)
            await told(a, lease, *Story(late).tell(b"1"))
            await ended(a, lease, early, late)
            assert await refusal(a, lease, late) is not None
            assert await kept_after_a_sweep(a, lease) == ["late", "parent"]

    async def test_a_sweep_goes_on_behind_what_it_has_looked_at(self) -> None:
        async with self.owned() as (a, lease):
            runs = [a_run(f"r{n}") for n in range(7)]
            await started(a, lease, *runs)
            await ended(a, lease, *runs)
            keep = [runs[0].key, runs[3].key]
            swept = await a.sweep(lease, 1_000, 3, keep=keep)
            assert (swept.runs, swept.after) == (2, (100, runs[2].key))
            assert swept.after is not None
            swept = await a.sweep(lease, 1_000, 4, swept.after, keep)
            assert (swept.runs, swept.after) == (3, (100, runs[6].key))
            assert swept.after is not None
            swept = await a.sweep(lease, 1_000, 4, swept.after, keep)
            assert (swept.runs, swept.after) == (0, None)
            assert await kept_after_a_sweep(a, lease, limit=1) == ["r3"]

    async def test_the_log_leaves_out_what_is_kept_for_forks_alone(self) -> None:
        async with self.owned() as (a, lease):
            origin = a_run("origin")
            await started(a, lease, origin)
            await told(a, lease, *Story(origin).tell(*(b"%d" % n for n in range(9))))
            fork = await forked(a, lease, origin, "fork", 4)
            await ended(a, lease, origin)
            await a.delete_run(lease, origin.key)
            assert said(await whole(a)) == [("fork", b"fork")]
            assert said(await a.log({0: 0}, 3)) == [("fork", b"fork")]
            assert len(await a.events(fork.key, 0, 10)) == 5


async def kept_after_a_sweep(store: Store, lease: Lease, limit: int = 100) -> list[str]:
    """Which runs are left, by name, when one sweep has looked at `limit` runs."""
    await store.sweep(lease, EVERYTHING, limit)
    return sorted(run.run_id for run in await store.list_runs(RunFilter()))


async def refusal(store: Store, lease: Lease, run: RunRow) -> str | None:
    """Why a run cannot be deleted; None: it is deleted now."""
    try:
        await store.delete_run(lease, run.key)
    except StillNeeded as e:
        assert e.run_id == run.run_id
        return str(e)
    return None
