"""An owner that tells a few runs' stories, and a reader that checks them: for the tests of bad days."""

from pathlib import Path

from aob.clock import SystemClock
from aob.process import SystemProcess
from aob.stores.rows import Append, EventRow, Lease, RunFilter, RunRow
from aob.stores.sqlite import SqliteOptions, SqliteStore, open_store
from aob.testing.conformance.stores.setting import Story, a_run, taken


async def opened(path: Path, **options: object) -> SqliteStore:
    """The store in a file."""
    chosen = SqliteOptions(**options)  # pyright: ignore[reportArgumentType]
    return await open_store(f"sqlite:///{path}", clock=SystemClock(), process=SystemProcess(), options=chosen)


class Owner:
    """Commits one event for each of its runs at a time; event n of a run holds n, so that any loss shows."""

    def __init__(self, store: SqliteStore, lease: Lease, runs: list[RunRow], stories: list[Story]) -> None:
        self.store = store
        self.lease = lease
        self.runs = runs
        self.stories = stories

    @classmethod
    async def of(cls, store: SqliteStore, runs: int = 3, ttl: float = 3600.0) -> "Owner":
        """The owner of partition 0, with new runs, or those that are there already."""
        return await cls.under(await taken(store, ttl=ttl), store, runs)

    @classmethod
    async def under(cls, lease: Lease, store: SqliteStore, runs: int = 3) -> "Owner":
        """The same with a lease that is there already."""
        found = sorted(await store.list_runs(RunFilter()), key=lambda run: run.key)
        if not found:
            found = [a_run(f"r{n}") for n in range(runs)]
            appended = await store.append(Append(epochs={0: lease.epoch}, starts=found))
            assert appended.committed
        lasts = [await store.last_event(run.key) for run in found]
        pairs = zip(found, lasts, strict=True)
        return cls(store, lease, found, [Story(run, e.seq, e.chain) if e else Story(run) for run, e in pairs])

    async def tell(self, size: int = 100) -> int:
        """Commit the next event of each run; its number, once it is durable."""
        before = [(story.seq, story.chain) for story in self.stories]
        number = self.stories[0].seq + 1
        events = [e for story in self.stories for e in story.tell(b"%d" % number + b" " * size)]
        try:
            appended = await self.store.append(Append(epochs={0: self.lease.epoch}, events=events))
            assert appended.committed
        except BaseException:
            for story, (seq, chain) in zip(self.stories, before, strict=True):
                story.seq, story.chain = seq, chain
            raise
        return number


async def histories(store: SqliteStore) -> list[list[EventRow]]:
    """All histories of tenant t, checked.

    Every run must have the same number of events, since they are committed together, and epochs must not go down.
    """
    runs = await store.list_runs(RunFilter(tenant="t"))
    found = [await store.events(run.key, 0, 1_000_000) for run in runs]
    assert len({len(history) for history in found}) <= 1, "a commit is there in part"
    for history in found:
        assert [event.epoch for event in history] == sorted(event.epoch for event in history)
        assert [event.data.split()[0] for event in history] == [b"%d" % (n + 1) for n in range(len(history))]
    return found


async def told(path: Path) -> int:
    """How many commits a file holds, after it was checked in every way."""
    store = await opened(path, check="always")
    try:
        found = await histories(store)
        return len(found[0]) if found else 0
    finally:
        await store.close()
