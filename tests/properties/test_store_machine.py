"""SQLite and the model in memory are told the same random story, by two processes each, and must answer the same.

Keys and positions may have gaps in one and not in the other, so runs are compared by what users see of them.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aob.errors import AobError
from aob.process import SystemProcess
from aob.stores.chain import chain_after
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.protocol import Store
from aob.stores.rows import Append, Cut, EventRow, Lease, LogRow, Message, RunFilter, RunRow, Swept
from aob.stores.sqlite import SqliteOptions, open_store
from aob.stores.sqlite.commits import Commits
from aob.testing.conformance.store import TurnedClock

PROCESSES = st.integers(0, 1)
PARTITIONS = st.sampled_from([0, 0, 0, 1])
TENANTS = st.sampled_from(["t", "u"])
NAMES = st.sampled_from([f"r{n}" for n in range(6)])
TTL = 10.0


class Side:
    """One backend, opened by two processes; it keeps the rows it was given, as an engine does."""

    def __init__(self, opener: Callable[[], Coroutine[Any, Any, Store]]) -> None:
        self.opener = opener
        self.stores: list[Store] = []
        self.runs: dict[tuple[str, str], RunRow] = {}
        self.names: dict[int, tuple[str, str]] = {}

    def know(self, run: RunRow) -> None:
        if run.key:
            self.runs[run.tenant, run.run_id] = run
            self.names[run.key] = (run.tenant, run.run_id)

    def seen_run(self, run: RunRow | None) -> object:
        if run is None:
            return None
        origin = None if run.origin is None else self.names.get(run.origin)
        return (
            run.partition, run.tenant, run.run_id, run.workflow, run.status, run.created, run.updated, run.ended,
            run.due, run.attributes, run.parent, run.reason, run.checkpoint, run.deaths, origin, run.origin_seq,
        )  # fmt: skip

    def seen_event(self, event: EventRow) -> object:
        return (self.names[event.run], event.seq, event.epoch, event.kind, event.chain, event.data)


def seen_message(message: Message) -> object:
    return (message.partition, message.tenant, message.run_id, message.kind, message.body)


def seen_log(row: LogRow) -> object:
    return (row.partition, row.tenant, row.run_id, row.workflow, row.seq, row.kind, row.data)


def swept(what: Swept | str) -> object:
    return what if isinstance(what, str) else (what.runs, what.after and what.after[0])


class StoreMachine(RuleBasedStateMachine):
    """Every rule does one thing to both sides and compares what came of it."""

    @initialize(threaded=st.booleans())
    def begin(self, threaded: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp())
        self.clock, state, process = TurnedClock(), MemoryState(), SystemProcess()
        options = SqliteOptions(slow_commit=-1.0 if threaded else 1.0, check="never")
        url = f"sqlite:///{self.directory / 'aob.db'}"

        async def sqlite() -> Store:
            return await open_store(url, clock=self.clock, process=process, options=options)

        async def memory() -> Store:
            return MemoryStore(self.clock, state)

        self.sides = [Side(sqlite), Side(memory)]
        for side in self.sides:
            side.stores = [self.run(side.opener()) for _ in range(2)]
        self.leases: dict[tuple[int, int], Lease] = {}
        self.holders: dict[int, int] = {}
        self.inboxes: dict[tuple[int, int], list[list[int]]] = {}
        self.count = 0

    def teardown(self) -> None:
        for side in self.sides:
            for store in side.stores:
                self.run(store.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.directory)

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(call)

    def both(self, call: Callable[[Side], Coroutine[Any, Any, Any]]) -> list[Any]:
        """What the call returns on each side; errors must be the same."""
        found: list[Any] = []
        for side in self.sides:
            try:
                found.append(self.run(call(side)))
            except AobError as e:
                found.append(type(e).__name__)
        if isinstance(found[0], str) or isinstance(found[1], str):
            assert found[0] == found[1]
        return found

    def fresh(self) -> bytes:
        self.count += 1
        return b"[%d]" % self.count

    @rule(process=PROCESSES, partition=PARTITIONS)
    def acquire(self, process: int, partition: int) -> None:
        self.take(process, partition)

    def take(self, process: int, partition: int) -> None:
        one, two = self.both(lambda side: side.stores[process].acquire(partition, f"p{process}", TTL))
        assert one == two
        if one is not None:
            self.leases[process, partition] = one
            self.holders[partition] = process
            self.inboxes[process, partition] = [[], []]

    def a_lease(self, data: st.DataObject) -> tuple[int, int]:
        """Process and partition of a lease, most often one that still holds."""
        current = [(p, partition) for partition, p in sorted(self.holders.items()) if (p, partition) in self.leases]
        return data.draw(st.sampled_from(current * 4 + sorted(self.leases)))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), process=PROCESSES)
    def hand_over(self, data: st.DataObject, process: int) -> None:
        before, partition = self.a_lease(data)
        lease = self.leases[before, partition]
        self.both(lambda side: side.stores[before].release([lease]))
        self.take(process, partition)
        self.hear(process, partition)

    @rule(process=PROCESSES, partition=PARTITIONS)
    def look(self, process: int, partition: int) -> None:
        self.hear(process, partition)

    def hear(self, process: int, partition: int) -> None:
        """Append nothing, to see the inbox."""
        if lease := self.leases.get((process, partition)):
            batch = Append(epochs={partition: lease.epoch})
            found = self.both(lambda side: side.stores[process].append(batch))
            if not isinstance(found[0], str):
                one, two = ([seen_message(m) for m in appended.inbox] for appended in found)
                assert one == two
                for inbox, appended in zip(self.inboxes[process, partition], found, strict=True):
                    inbox += [m.id for m in appended.inbox]

    @rule(process=PROCESSES, partition=PARTITIONS)
    def renew(self, process: int, partition: int) -> None:
        if lease := self.leases.get((process, partition)):
            self.both(lambda side: side.stores[process].renew([lease], TTL))

    @rule(process=PROCESSES, partition=PARTITIONS)
    def release(self, process: int, partition: int) -> None:
        if lease := self.leases.get((process, partition)):
            self.both(lambda side: side.stores[process].release([lease]))

    @rule(seconds=st.sampled_from([1.0, TTL - 1, TTL + 1]))
    def time_passes(self, seconds: float) -> None:
        self.clock.seconds += seconds

    @rule(process=PROCESSES)
    def die_and_come_back(self, process: int) -> None:
        for side in self.sides:
            self.run(side.stores[process].close())
            side.stores[process] = self.run(side.opener())
        for key in [key for key in self.leases if key[0] == process]:
            del self.leases[key]

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        starts=st.lists(st.tuples(TENANTS, NAMES), max_size=3),
        tells=st.lists(st.tuples(TENANTS, NAMES, st.integers(1, 3)), max_size=3),
        ends=st.lists(st.tuples(TENANTS, NAMES), max_size=2),
        sends=st.lists(PARTITIONS, max_size=1),
        seen=st.lists(st.tuples(NAMES, st.integers(0, 9)), max_size=1),
        all_or_nothing=st.booleans(),
        take=st.booleans(),
    )
    def append(self, data: st.DataObject, starts: list[tuple[str, str]],
               tells: list[tuple[str, str, int]], ends: list[tuple[str, str]], sends: list[int],
               seen: list[tuple[str, int]], all_or_nothing: bool, take: bool) -> None:  # fmt: skip
        process, partition = self.a_lease(data)
        lease, now = self.leases[process, partition], self.clock.now_us()
        words = {(tenant, name): [self.fresh() for _ in range(count)] for tenant, name, count in tells}
        body, status = self.fresh(), data.draw(st.sampled_from(["completed", "failed", "waiting"]))
        found: list[object] = []
        for number, side in enumerate(self.sides):
            batch = Append(epochs={partition: lease.epoch}, all_or_nothing=all_or_nothing)
            for tenant, name in starts:
                attributes = {"name": name}
                batch.starts.append(RunRow(tenant=tenant, run_id=name, workflow="w", status="running", created=now,
                                           updated=now, partition=partition, attributes=attributes,
                                           parent="r0" if name in ("r3", "r4") else None))  # fmt: skip
            new = {(run.tenant, run.run_id): run for run in reversed(batch.starts)}
            for who, texts in words.items():
                run = new.get(who) or side.runs.get(who)
                if run is not None and run.partition == partition:
                    batch.events += self.events(side, run, texts)
            for who in ends:
                run = side.runs.get(who)
                if run is not None and run.partition == partition:
                    run.status, run.updated = status, now
                    run.ended = None if status == "waiting" else now
                    batch.summaries.append(run)
            batch.sends = [Message(partition=to, tenant="t", run_id="r0", kind="k", body=body) for to in sends]
            batch.seen = [(run, str(n)) for name, n in seen if (run := side.runs.get(("t", name)))]
            batch.replies = [("q", body, now)] if sends else []
            inbox = self.inboxes.get((process, partition), [[], []])[number]
            batch.takes = list(inbox) if take else []
            try:
                appended = self.run(side.stores[process].append(batch))
            except AobError as e:
                found.append(type(e).__name__)
                continue
            if appended.committed:
                for run in batch.starts:
                    side.know(run)
                for id in batch.takes:
                    inbox.remove(id)
            inbox += [message.id for message in appended.inbox]
            conflicts = [(run.run_id, existing.tenant, existing.run_id) for run, existing in appended.conflicts]
            found.append((appended.committed, [seen_message(m) for m in appended.inbox], conflicts))
        assert found[0] == found[1]

    def events(self, side: Side, run: RunRow, texts: list[bytes]) -> list[Any]:
        last = self.run(side.stores[0].last_event(run.key)) if run.key else None
        seq, chain = (last.seq, last.chain) if last else (0, 0)
        records: list[Any] = []
        for text in texts:
            seq, chain = seq + 1, chain_after(chain, "k", text)
            records.append((run, seq, "k", 1, chain, text))
        return records

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), tenant=TENANTS, origin=NAMES, name=NAMES, shared=st.integers(1, 4))
    def fork(self, data: st.DataObject, tenant: str, origin: str, name: str, shared: int) -> None:
        process, partition = self.a_lease(data)
        text, now = self.fresh(), self.clock.now_us()
        found: list[object] = []
        for side in self.sides:
            old = side.runs.get((tenant, origin))
            if old is None or old.partition != partition:
                return
            events = self.run(side.stores[process].events(old.key, 0, shared))
            if not events:
                return
            seq = events[-1].seq
            run = RunRow(tenant=tenant, run_id=name, workflow="w", status="running", created=now, updated=now,
                         partition=partition, origin=old.key, origin_seq=seq)  # fmt: skip
            chain = chain_after(events[-1].chain, "k", text)
            lease = self.leases[process, partition]
            batch = Append(epochs={partition: lease.epoch}, starts=[run],
                           events=[(run, seq + 1, "k", 1, chain, text)])  # fmt: skip
            try:
                appended = self.run(side.stores[process].append(batch))
            except AobError as e:
                found.append(type(e).__name__)
                continue
            if appended.committed:
                side.know(run)
            found.append((appended.committed, [seen_message(m) for m in appended.inbox], len(appended.conflicts)))
        assert len(found) == 2
        assert found[0] == found[1]

    @rule(process=PROCESSES, who=st.none() | st.tuples(TENANTS, NAMES), partition=PARTITIONS)
    def send(self, process: int, who: tuple[str, str] | None, partition: int) -> None:
        body, now = self.fresh(), self.clock.now_us()
        found: list[object] = []
        for side in self.sides:
            message = Message(partition=partition, tenant="t", run_id="r0", kind="k", body=body)
            start = None
            if who is not None:
                start = RunRow(tenant=who[0], run_id=who[1], workflow="w", status="pending", created=now, updated=now,
                               partition=partition)  # fmt: skip
            found.append(side.seen_run(self.run(side.stores[process].send(message, start))))
            if start is not None:
                side.know(start)
        assert found[0] == found[1]

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), ago=st.sampled_from([0.0, 5.0]), limit=st.integers(1, 3))
    def sweep(self, data: st.DataObject, ago: float, limit: int) -> None:
        process, partition = self.a_lease(data)
        lease, before = self.leases[process, partition], self.clock.now_us() - int(ago * 1_000_000)
        one, two = self.both(lambda side: side.stores[process].sweep(lease, before, limit))
        assert swept(one) == swept(two)
        self.forget_deleted()

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), exporter=st.sampled_from("xy"), steps=st.integers(0, 6), drop=st.booleans())
    def export(self, data: st.DataObject, exporter: str, steps: int, drop: bool) -> None:
        process, partition = self.a_lease(data)
        lease = self.leases[process, partition]
        found: list[object] = []
        for side in self.sides:
            store = side.stores[process]
            at = [row.position for row in self.run(store.cursors(exporter)) if row.partition == partition]
            rows = self.run(store.log({partition: at[0] if at else 0}, 6))[:steps]
            position = rows[-1].position if rows else at[0] if at else 0
            begins = [(exporter, partition, 0)] if steps % 2 else []
            cursors = [*begins, (exporter, partition, position)]
            batch = Append(epochs={partition: lease.epoch}, cursors=cursors)
            try:
                committed: object = self.run(store.append(batch)).committed
            except AobError as e:
                committed = type(e).__name__
            dropped = self.run(store.drop_exporter(exporter)) if drop else 0
            names = [(row.exporter, row.partition) for row in self.run(store.cursors())]
            found.append(([seen_log(row) for row in rows], committed, dropped, names))
        assert found[0] == found[1]

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), names=st.lists(st.tuples(TENANTS, NAMES), max_size=3), until=st.integers(0, 6),
          limit=st.integers(1, 4))  # fmt: skip
    def trim(self, data: st.DataObject, names: list[tuple[str, str]], until: int, limit: int) -> None:
        process, partition = self.a_lease(data)
        lease = self.leases[process, partition]
        known = [name for name in names if all(name in side.runs for side in self.sides)]

        def cuts(side: Side) -> list[Cut]:
            return [Cut(run=side.runs[name].key, checkpoint=0, until=until) for name in known]

        one, two = self.both(lambda side: side.stores[process].trim(lease, cuts(side), limit))
        assert one == two

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), tenant=TENANTS, name=NAMES)
    def delete(self, data: st.DataObject, tenant: str, name: str) -> None:
        process, partition = self.a_lease(data)
        lease = self.leases[process, partition]
        if all((tenant, name) in side.runs for side in self.sides):
            self.both(lambda side: side.stores[process].delete_run(lease, side.runs[tenant, name].key))
            self.forget_deleted()

    def forget_deleted(self) -> None:
        for side in self.sides:
            for tenant, name in list(side.runs):
                if self.run(side.stores[0].get_run(tenant, name)) is None:
                    del side.runs[tenant, name]

    @rule(process=PROCESSES)
    def take_reply(self, process: int) -> None:
        one, two = self.both(lambda side: side.stores[process].take_reply("q"))
        assert one == two

    @invariant()
    def both_show_the_same(self) -> None:
        if not hasattr(self, "sides"):
            return
        shown: list[object] = []
        for side in self.sides:
            a, b = side.stores
            runs = self.run(a.list_runs(RunFilter()))
            assert runs == self.run(b.list_runs(RunFilter()))
            histories = [self.run(a.events(run.key, 0, 100)) for run in runs]
            open_runs = [self.run(a.open_runs(some, 0, 100)) for some in ([0], [1], [0, 1])]
            dues = [self.run(b.dues(some, 0, 100)) for some in ([0], [1, 0])]
            shown.append((
                [side.seen_run(run) for run in runs],
                [[side.seen_event(event) for event in history] for history in histories],
                [sorted(self.run(b.seen(run.key))) for run in runs],
                [[run.run_id for run in some] for some in open_runs],
                [[(side.names[key], due) for key, due in some] for some in dues],
                [seen_log(row) for row in self.run(b.log({0: 0, 1: 0}, 100))],
            ))  # fmt: skip
        assert shown[0] == shown[1]


StoreMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStoreMachine = StoreMachine.TestCase


def test_the_machine_finds_a_planted_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    # a bug that this store once had: a new epoch was not given the messages that the one before had left
    def forget(self: Commits, partition: int) -> None:
        self._epochs.pop(partition, None)

    monkeypatch.setattr(Commits, "forget", forget)
    chosen = settings(StoreMachine.TestCase.settings, max_examples=300, derandomize=True, phases=[Phase.generate])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(StoreMachine, settings=chosen)
