"""Group commit: what all runs of the process produce in a turn goes to the store in one transaction, and only then
takes effect.

A record is an event of a run on its way to the store. Its `seq`, time and checksum are set when its group is sent; if
the store answers that inbox messages came first, they are dealt with and everything is numbered anew behind them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol, TypeVar

from aob import telemetry
from aob.clock import Clock
from aob.engine.active import ActiveRun
from aob.engine.eager import begin, later
from aob.engine.group import UNSET, Group, Record
from aob.engine.partitions import NotOwner
from aob.engine.payloads import Payloads
from aob.errors import AobError, LeaseLost, StoreFailed, StoreFull, StoreLocked
from aob.kernel import events as ev
from aob.stores.chain import chain_after
from aob.stores.protocol import Store
from aob.stores.rows import Append, Appended, EventRecord, Lease, Message, RunRow

T = TypeVar("T")
_GROUP = 4_000
_TRY_AGAIN = 1.0


class Messages(Protocol):
    """Who deals with messages."""

    async def ready(self, messages: list[Message]) -> None:
        """Load what `take` will ask about."""
        ...

    def take(self, messages: list[Message]) -> None:
        """Deal with them: record at once what they mean for runs that are in memory."""
        ...


class Commits:
    """The partition's way to its store.

    Args:
        applied: called for each event after its commit, in order.
        conflicts: called with a start whose id is taken, and the row that has it.
        inbox: given messages that came first; what it adds goes before what waits.
        stopped: called when this process must write no more (`LeaseLost`, `StoreFailed`, …).
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        payloads: Payloads,
        *,
        applied: Callable[[list[Record], list[int]], None],
        conflicts: Callable[[ActiveRun, RunRow], None],
        inbox: Messages,
        stopped: Callable[[AobError], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._payloads = payloads
        self._applied = applied
        self._conflicts = conflicts
        self._inbox = inbox
        self._stopped = stopped
        self._groups: deque[Group] = deque()
        self._open: Group = Group()
        self._ahead: Group = Group()
        self._behind: Group | None = None
        self._overtaken: dict[int, ActiveRun] = {}
        self._scheduled = False
        self._sending = False
        self._asked: deque[asyncio.Future[None]] = deque()
        self._sent_now: Group = Group()
        self._loop: asyncio.AbstractEventLoop
        self.leases: dict[int, Lease] = {}
        self.epochs: dict[int, int] = {}
        self.failed: AobError | None = None
        self.commits = self.events = 0
        self.published: Callable[[list[Record]], None] | None = None
        """Called with the events of each commit, where somebody exports them."""

    def start(self, leases: Iterable[Lease]) -> None:
        """Take records of runs of these partitions from now on."""
        self._loop = asyncio.get_running_loop()
        self.leases |= {lease.partition: lease for lease in leases}
        self.epochs = {partition: lease.epoch for partition, lease in self.leases.items()}

    def give_up(self, partition: int) -> Lease:
        """Take none of this partition any more, nor its messages."""
        lease = self.leases.pop(partition)
        self.epochs = {partition: lease.epoch for partition, lease in self.leases.items()}
        return lease

    def holding(self) -> set[int]:
        """Partitions of which something waits to be committed."""
        groups = (*self._groups, self._open, self._ahead)
        events = {run.row.partition for group in groups for run, _, _ in group.records}
        rows = {run.row.partition for group in groups for run in (*group.starts.values(), *group.summaries.values())}
        rows |= {partition for group in groups for partition in group.partitions}
        return events | rows | {partition for group in groups for _, partition, _ in group.cursors}

    # --- what goes in -----------------------------------------------------------------------------

    def add(self, run: ActiveRun, event: ev.Event, value: Any = UNSET) -> None:
        """Put an event into the next commit; `value` is a step's result as decoded, to spare decoding it again.

        Raises:
            NotOwner: the run's partition was given up.
        """
        if run.row.partition not in self.epochs:
            raise NotOwner("another process goes on with this run", run_id=run.run_id)
        group = self._open
        run.pending += 1
        group.records.append((run, event, value))
        if not self._scheduled:
            self._schedule()
        elif len(group.records) > _GROUP and type(event) is ev.StepCompleted and self._behind is None:
            self._cut()

    def group(self) -> Group:
        """The group that is being filled, for what is not an event; it will be sent."""
        if not self._scheduled:
            self._schedule()
        return self._open

    def ack(self) -> asyncio.Future[Any]:
        """A future that is done when what was added so far is durable."""
        future = self._loop.create_future()
        if self.failed is not None:
            future.set_exception(self.failed)
            future.exception()  # who does not wait for it is told by the worker's end
            return future
        self.group().acks.append(future)
        return future

    def poke(self) -> None:
        """Commit soon, be it empty: the store says then what waits in the inbox."""
        if self.failed is None and self.leases:
            self.group().after.append(_nothing)

    async def alone(self, partition: int, work: Callable[[Lease], Awaitable[T]]) -> T:
        """Do something in the store, under this partition's lease, while no commit is under way."""
        async with self.quiet():
            lease = self.leases.get(partition)
            if self.failed is not None or lease is None:
                raise self.failed or LeaseLost(f"this process does not own partition {partition}")
            return await work(lease)

    @asynccontextmanager
    async def quiet(self) -> AsyncGenerator[None]:
        """In this block no commit is under way."""
        if self._sending:
            await self._turn()
        self._sending = True
        try:
            yield
        except StoreFailed as e:
            self._fail(e)
            raise
        finally:
            self._free()
            self._next()

    async def _turn(self) -> None:
        """Wait for the end of what is under way; nothing else begins before the caller has gone on."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free()
                self._next()
            raise

    def _free(self) -> None:
        """What was under way is over: whoever asked for quiet is next."""
        while self._asked:
            turn = self._asked.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._sending = False

    @contextmanager
    def ahead(self) -> Generator[None]:
        """What is added in this block, which must not await, stands for messages: it is sent before everything else
        that waits, and behind what stands for earlier messages."""
        if self._behind is not None:
            yield
            return
        self._behind, self._open = self._open, self._ahead
        try:
            yield
        finally:
            self._ahead, self._open, self._behind = self._open, self._behind, None

    def stand_before(self, run: ActiveRun) -> bool:
        """Whether events of this run will be applied before what is added now."""
        if self._behind is None or not run.pending:
            return run.pending > 0
        groups = [self._sent_now, self._open, *(g for g in self._groups if g.ahead)]
        return any(other is run for group in groups for other, _, _ in group.records)

    def overtake(self, run: ActiveRun) -> None:
        """The run is about to end, maybe ahead of events of it that wait; those change nothing any more."""
        if self._behind is not None and run.pending:
            self._overtaken[id(run)] = run

    def _without_overtaken(self, group: Group) -> None:
        kept: list[Record] = []
        for run, event, value in group.records:
            if run.terminal is None or id(run) not in self._overtaken or isinstance(event, ev.Late):
                kept.append((run, event, value))
                continue
            event.at = 0
            if isinstance(event, ev.StepCompleted):
                kept.append((run, ev.Late(0, event.step, "completed", event.result), UNSET))
            elif isinstance(event, ev.StepFailed):
                kept.append((run, ev.Late(0, event.step, "failed", ev.NULL), UNSET))
            else:
                run.pending -= 1
        group.records = kept
        self._overtaken = {key: run for key, run in self._overtaken.items() if run.pending}

    def _next_group(self) -> Group | None:
        self._cut()
        groups, ahead = self._groups, self._ahead
        if not ahead.empty():
            self._ahead = Group()
            if groups and groups[0].ahead:
                groups[0].extend(ahead)
            else:
                ahead.ahead = True
                groups.appendleft(ahead)
        return groups.popleft() if groups else None

    def cut(self, atomic: bool) -> Group:
        """Begin a group of its own; `atomic`: one conflict refuses it whole. End it with another `cut(False)`."""
        self._cut()
        self._open.atomic = atomic
        return self.group()

    def _cut(self) -> None:
        if not self._open.empty():
            self._groups.append(self._open)
            self._open = Group()

    def _schedule(self) -> None:
        self._scheduled = True
        self._loop.call_soon(self._flush)

    # --- sending ----------------------------------------------------------------------------------

    def _flush(self, behind: bool = False) -> None:
        try:
            self._send_next(behind)
        except Exception as e:
            self._broken(e)

    def _broken(self, error: Exception) -> None:
        """A fault of the engine's own: what is durable is known to the store alone, so this process stops, and
        says so."""
        failure = (
            error if isinstance(error, AobError) else StoreFailed(f"the engine failed: {type(error).__name__}: {error}")
        )
        failure.__cause__ = None if failure is error else error
        self._fail(failure)

    def _send_next(self, behind: bool = False) -> None:
        """Send what waits; `behind`: something is still to be applied before it."""
        if self._sending or self.failed is not None:
            return
        group = self._next_group()
        if group is not None and self._overtaken:
            self._without_overtaken(group)
        if group is None:
            self._scheduled = False
            return
        self._sending, self._sent_now = True, group
        if not self.epochs and not group.writes():  # all was handed over: the store has nothing to say
            self._loop.call_soon(self._answered, group, Appended(committed=True))
            return
        try:
            sending = self._store.append(self._batch(group))
        except Exception:
            self._groups.appendleft(group)  # whoever waits for it is told
            self._free()
            raise
        waiting: Any = None
        try:
            waiting = sending.send(None)
        except StopIteration as done:
            appended: Appended | None = done.value
        except Exception as e:
            self._not_sent(group, e)
            return
        else:
            appended = None
        if appended is None:
            task: asyncio.Task[Appended] = self._loop.create_task(later(sending, waiting))  # pyright: ignore[reportArgumentType, reportUnknownVariableType]
            task.add_done_callback(lambda t: self._later(group, t))
        elif behind:
            self._loop.call_soon(self._answered, group, appended)
        else:  # out of the except block, which would be the context of every error in workflows
            self._sent(group, appended)

    def _later(self, group: Group, task: asyncio.Task[Appended]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._answered(group, task.result())
        elif isinstance(error, Exception):
            self._not_sent(group, error)

    def _answered(self, group: Group, result: Appended) -> None:
        try:
            self._sent(group, result, ahead=True)
        except Exception as e:
            self._broken(e)

    def _batch(self, group: Group) -> Append:
        now = self._clock.now_us()
        rows: list[EventRecord] = []
        chains = group.chains = []
        seqs = group.seqs = []
        append, keep, number = rows.append, chains.append, seqs.append
        encode, must_seal = ev.encode_event, self._payloads.must_seal
        blobs: list[tuple[Any, str, bytes]] = [(r.row, digest, blob) for r, digest, blob in group.blobs]
        for place, (run, event, _) in enumerate(group.records):
            if run.ended:
                event = self._after_end(group, place)
            at = run.last_at
            event.at = run.last_at = now if now > at else at
            data = encode(event)
            if must_seal(data):
                stored, found = self._payloads.seal(event)
                data = encode(stored)
                blobs += [(run.row, digest, blob) for digest, blob in found]
            kind = event.KIND
            keep(run.chain)
            run.chain = chain = chain_after(run.chain, kind, data)
            run.seq = seq = run.seq + 1
            number(seq)
            append((run.row, seq, kind, event.VERSION, chain, data))
            if kind == "checkpoint":
                run.row.checkpoint = seq
                group.summaries[id(run)] = run
        # that a run has ended is said with its last event, which may wait in a later group; what was given up is said
        # by its next owner
        rows_of = group.summaries.values()
        summaries = [r.row for r in rows_of if (r.closed or not r.ended) and r.row.partition in self.epochs]
        for row in summaries:
            row.updated = now
        return Append(
            epochs=self.epochs,
            starts=[r.row for r in group.starts.values()],
            events=rows,
            summaries=summaries,
            blobs=blobs,
            seen=[(r.row, i) for r, i in group.seen],
            tickets=group.tickets,
            sends=group.sends,
            takes=group.takes,
            replies=group.replies,
            cursors=[cursor for cursor in group.cursors if cursor[1] in self.epochs],
            all_or_nothing=group.atomic,
        )

    def _after_end(self, group: Group, place: int) -> ev.Event:
        """The event at this place, or the late fact that is left of it: a message may have ended the run before it."""
        run, event, _ = group.records[place]
        if event.KIND in ev.TERMINAL and not run.closed:
            run.closed = True
            return event
        if not run.closed or isinstance(event, ev.Late):
            return event
        result = getattr(event, "result", None) or getattr(event, "payload", None) or ev.NULL
        late = ev.Late(0, getattr(event, "step", None) or "", event.KIND, result)
        group.records[place] = (run, late, UNSET)
        return late

    def _unnumber(self, group: Group) -> None:
        for (run, event, _), chain in zip(reversed(group.records), reversed(group.chains), strict=True):
            run.seq -= 1
            run.chain = chain
            if event.KIND in ev.TERMINAL:
                run.closed = False

    def _sent(self, group: Group, result: Appended, ahead: bool = False) -> None:
        """The store has answered. `ahead`: it takes its time, so it gets what waits before this is applied, and both
        work at once."""
        self._sent_now = Group()
        if not result.committed:
            self._unnumber(group)
            self._again(group, result)
            return
        self._free()
        if ahead and not result.conflicts:
            self._flush(behind=True)
        self.commits += 1
        self.events += len(group.records)
        records = group.records
        if result.conflicts:
            records = self._drop(group, result)
        for run in group.summaries.values():
            run.stored_status, run.stored_due = run.row.status, run.row.due
        self._applied(records, group.seqs)
        if self.published is not None and records:
            self.published(records)
        for ack in group.acks:
            if not ack.done():
                ack.set_result(None)
        for fn in group.after:
            fn()
        self._next()

    def _again(self, group: Group, result: Appended) -> None:
        """Nothing was written: messages came first, or an atomic group met a conflict."""
        if result.conflicts:
            self._free()
            self._drop(group, result)
            for ack in group.acks:
                if not ack.done():
                    ack.set_result(None)
            self._next()
            return
        self._cut()
        self._groups.appendleft(group)
        begin(self._first_or_fail(result.inbox), self._loop.create_task)

    async def _first(self, messages: list[Message]) -> None:
        """Messages come first; what was to be sent, and what has come since, goes behind what they record at once."""
        try:
            await self._inbox.ready(messages)
        finally:
            self._free()
        if self.failed is None:
            with self.ahead():
                self._inbox.take(messages)
            self._next()

    async def _first_or_fail(self, messages: list[Message]) -> None:
        try:
            await self._first(messages)
        except Exception as e:
            self._broken(e)

    def _drop(self, group: Group, result: Appended) -> list[Record]:
        lost = {id(start): row for start, row in result.conflicts}
        gone: set[int] = set()
        for run in group.starts.values():
            existing = lost.get(id(run.row))
            if existing is not None:
                gone.add(id(run))
                self._conflicts(run, existing)
        kept = [(r, seq) for r, seq in zip(group.records, group.seqs, strict=True) if id(r[0]) not in gone]
        group.seqs = [seq for _, seq in kept]
        return [r for r, _ in kept]

    def _not_sent(self, group: Group, error: Exception) -> None:
        self._sent_now = Group()
        self._unnumber(group)
        self._free()
        if isinstance(error, StoreFull | StoreLocked):  # nothing was written, and that may change by itself
            telemetry.tell(error.code)
            self._groups.appendleft(group)
            self._clock.call_later(_TRY_AGAIN, self._flush)
            return
        failure = (
            error if isinstance(error, AobError) else StoreFailed(f"the store failed: {type(error).__name__}: {error}")
        )
        self._groups.appendleft(group)
        self._fail(failure)

    def _fail(self, failure: AobError) -> None:
        self.stop(failure)
        if not isinstance(failure, LeaseLost):
            telemetry.tell("store_failed", error=failure)
        self._stopped(failure)

    def _next(self) -> None:
        self._scheduled = False
        if self._groups or not self._open.empty() or not self._ahead.empty():
            self._schedule()

    def stop(self, error: AobError) -> None:
        """Take no more; whoever waits gets the error."""
        self.failed = error
        self._cut()
        for group in (*self._groups, self._ahead):
            for ack in group.acks:
                if not ack.done():
                    ack.set_exception(error)
                    ack.exception()
            for run in group.starts.values():
                run.gone = True
                run.wake_all()
        self._groups.clear()
        self._ahead = Group()

    async def drained(self) -> None:
        """Wait until nothing is left to send."""
        while self.failed is None and (
            self._groups or self._sending or not self._open.empty() or not self._ahead.empty()
        ):
            await self._clock.sleep(0.001)


def _nothing() -> None:
    pass
