"""Which runs are in memory: loaded when something concerns them, replayed, parked when the code does not fit, evicted
when they only wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from aob import telemetry
from aob.engine.active import ActiveRun
from aob.engine.history import History
from aob.engine.partitions import NotOwner
from aob.engine.patience import patiently
from aob.engine.recovery import is_poison
from aob.errors import AobError, RunNotFound
from aob.kernel import events as ev
from aob.kernel.machine import Machine, Program
from aob.kernel.states import TERMINAL_STATES
from aob.stores.rows import RunRow

if TYPE_CHECKING:
    from aob.engine.host import Host

_PAGE = 1_000


class Residents:
    """The partition's runs that are in memory, and the way in and out."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.by_key: dict[int, ActiveRun] = {}
        self.by_id: dict[tuple[str, str], ActiveRun] = {}
        self.history = History(host.store, host.payloads)
        self._loading: dict[tuple[str, str], asyncio.Future[ActiveRun]] = {}
        self._overtaken: set[tuple[str, str]] = set()
        """Runs that began, or whose partition was given up, while they were being loaded."""
        self.admitted: set[int] | None = None
        """Runs that have been in memory since recovery began."""
        self._recovering: dict[int, asyncio.Future[None]] = {}
        self._reserved: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._evict_at = 1.25 * host.settings.resident_runs
        self._held: Counter[int] = Counter()
        self.reopened: set[tuple[str, str]] = set()
        self._absent: dict[tuple[str, str], list[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def held(self, run: ActiveRun) -> AsyncGenerator[None]:
        """While the block lasts nobody deletes this run, though it has ended.

        Raises:
            RunNotFound: somebody has deleted it already.
        """
        key = run.row.key
        self._held[key] += 1
        try:
            await self._host.commits.ack()  # a deletion that began before is over now
            if await self._host.store.run_by_key(key) is None:
                raise RunNotFound(f"run {run.run_id!r} was deleted", run_id=run.run_id)
            yield
        finally:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]

    def is_held(self, run: ActiveRun) -> bool:
        """Whether somebody needs this run to stay just now."""
        return run.row.key in self._held

    def in_use(self, partition: int) -> list[int]:
        """Keys of ended runs that are held, or whose attempts have yet to stop."""
        stopping = (run.row.key for run in self.by_id.values() if run.ended and run.row.partition == partition)
        return [*self._held, *stopping]

    def all(self) -> list[ActiveRun]:
        """Every run in memory."""
        return list(self.by_id.values())

    # --- in ---------------------------------------------------------------------------------------

    def admit(self, run: ActiveRun) -> None:
        """A run begins."""
        if run.row.key:
            if self.admitted is not None:
                self.admitted.add(run.row.key)
            self.by_key[run.row.key] = run
            self.by_id[run.tenant, run.run_id] = run
            if self._loading and (run.tenant, run.run_id) in self._loading:
                self._overtaken.add((run.tenant, run.run_id))
            if self._absent:
                self._take_waiters(run)
            if len(self.by_key) > self._evict_at:
                self._evict(0)
                self._evict_at = 1.25 * max(len(self.by_key), self._host.settings.resident_runs)

    def next_commit(self, tenant: str, run_id: str) -> asyncio.Future[None]:
        """A future that is done after the run's next commit, be it in memory or not."""
        run = self.by_id.get((tenant, run_id))
        if run is not None:
            return run.next_commit()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._absent.setdefault((tenant, run_id), []).append(future)
        return future

    def _take_waiters(self, run: ActiveRun) -> None:
        waiters = self._absent.pop((run.tenant, run.run_id), None)
        if waiters:
            run.waiters = [*(run.waiters or ()), *waiters]

    async def get(self, tenant: str, run_id: str) -> ActiveRun:
        """The run, loaded if it is not in memory. One that has ended is loaded without its code.

        Raises:
            RunNotFound: there is none.
        """
        reserved = self._reserved.get((tenant, run_id))
        if reserved is not None:
            await asyncio.wait([reserved])
        run = self.by_id.get((tenant, run_id))
        if run is not None:
            return run
        if self._recovering:
            await self._recovered(tenant, run_id)
        return await self._once((tenant, run_id), lambda: self._find(tenant, run_id))

    async def present(self, tenant: str, run_id: str) -> ActiveRun:
        """The run in memory, as it is now; it stays there until the caller awaits again.

        Raises:
            RunNotFound: there is none.
            NotOwner: its partition is being handed over, and it stands still.
        """
        while True:
            run = await self.get(tenant, run_id)
            if not run.gone or self._host.failed is not None:
                return run
            self._host.refuse_strange(run.row.partition)

    async def at_hand(self, tenant: str, run_id: str) -> ActiveRun:
        """As `present`, with the ids that it has counted."""
        while True:
            run = await self.present(tenant, run_id)
            await self._host.controls.signals.load_seen(run)
            if not run.gone or self._host.failed is not None:
                return run

    async def _find(self, tenant: str, run_id: str) -> ActiveRun:
        row = await self._host.store.get_run(tenant, run_id)
        if row is None:
            raise RunNotFound(f"no run {run_id!r} of tenant {tenant!r}", run_id=run_id)
        self._host.refuse_strange(row.partition)
        if row.status == "pending" and not self._host.unserved.holds(tenant, run_id):
            row = await self._begun(row)
            begun = self.by_id.get((tenant, run_id))
            if begun is not None:  # its first commit is on its way
                return begun
        if row.status == "pending":
            raise self._host.unserved.error(row)
        return await self._load(row)

    def reserve(self, row: RunRow) -> None:
        """From now on `get` waits until this run is released: what `row` says stays true until it is loaded."""
        self._reserved[row.tenant, row.run_id] = asyncio.get_running_loop().create_future()

    @contextmanager
    def recovering(self, partitions: Iterable[int]) -> Generator[None]:
        """In this block runs of these partitions are loaded by recovery alone."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._recovering |= dict.fromkeys(partitions, over)
        self.admitted = self.admitted or set()
        try:
            yield
        finally:
            self._recovering = {p: future for p, future in self._recovering.items() if future is not over}
            if not self._recovering:
                self.admitted = None
            over.set_result(None)

    async def _recovered(self, tenant: str, run_id: str) -> None:
        row = await self._host.store.get_run(tenant, run_id)
        over = self._recovering.get(row.partition) if row is not None else None
        if over is not None:
            await asyncio.wait([over])

    def release(self, row: RunRow) -> None:
        """The run is loaded, or will not be."""
        reserved = self._reserved.pop((row.tenant, row.run_id), None)
        if reserved is not None:
            reserved.set_result(None)

    async def _begun(self, row: RunRow) -> RunRow:
        """A run whose start waits in the inbox, and comes with the next commit."""
        while True:
            await self._host.commits.ack()
            await self._host.inbox.begun(row.tenant, row.run_id)
            now = await self._host.store.get_run(row.tenant, row.run_id) or row
            if now.partition == row.partition:
                return now
            self._host.refuse_strange(now.partition)  # it moved, start and all
            row = now

    async def load(self, row: RunRow) -> ActiveRun:
        """Bring a run into memory, once however many ask. `row` is as the run is now: it is not in memory, and nobody
        had it there since the row was read."""
        return await self._once((row.tenant, row.run_id), lambda: self._load(row))

    async def _once(self, name: tuple[str, str], load: Callable[[], Awaitable[ActiveRun]]) -> ActiveRun:
        """Nobody else loads the run meanwhile; if it begins, `load` notices."""
        present = self.by_id.get(name)
        if present is not None:
            return present
        if name in self._loading:
            return await asyncio.shield(self._loading[name])
        future: asyncio.Future[ActiveRun] = asyncio.get_running_loop().create_future()
        self._loading[name] = future
        self._overtaken.discard(name)
        try:
            run = await load()
        except BaseException as e:
            future.set_exception(e)
            future.exception()
            raise
        finally:
            del self._loading[name]
            self._overtaken.discard(name)
        future.set_result(run)
        return run

    async def load_key(self, key: int) -> None:
        """Bring in the run with this key, if it is open."""
        row = await patiently(self._host, lambda: self._host.store.run_by_key(key))
        if row is not None and row.ended is None and self._host.owns(row.partition):
            await self._load_or_park(row, lambda: self.get(row.tenant, row.run_id))

    async def load_or_park(self, row: RunRow) -> None:
        """Bring a run into memory; one whose history cannot be read is parked instead, and says why."""
        await self._load_or_park(row, lambda: self.load(row))

    async def _load_or_park(self, row: RunRow, load: Callable[[], Awaitable[ActiveRun]]) -> None:
        host = self._host
        try:
            await patiently(host, load)
        except NotOwner:
            return  # the next owner brings it in
        except AobError as e:
            if host.failed is not None:
                return
            telemetry.tell("run_parked", run_id=row.run_id, code=e.code, reason=str(e))
            row.status, row.reason = "parked", host.payloads.seal_text(f"{e.code}: {e}"[:4000])
            run = ActiveRun(row, None)
            host.commits.group().summaries[id(run)] = run

    async def _load(self, row: RunRow) -> ActiveRun:
        name = (row.tenant, row.run_id)
        while True:
            run = await self._read(row)
            begun = self.by_id.get(name)
            if begun is None and name not in self._overtaken:
                return self._loaded(run)
            if run.machine is not None:
                run.machine.close()
            if begun is not None:
                return begun
            self._overtaken.discard(name)  # it began here meanwhile, and was evicted: what was read is old
            row = await self._host.store.get_run(*name) or row

    async def _read(self, row: RunRow) -> ActiveRun:
        """The run as the store has it, not live yet."""
        run = ActiveRun(row, None)
        self._host.refuse_strange(row.partition)
        program = await self._program(row)
        if row.status in TERMINAL_STATES or row.status == "pending" or program is None:
            run.seq, run.chain, run.last_at = await self.history.tail(row)
        else:
            run.machine = Machine(program)
            run.seq, run.chain, run.last_at = await self.replay(run.machine, row)
        return run

    def _loaded(self, run: ActiveRun) -> ActiveRun:
        """From here on the run is in memory, unless it has ended, and goes on."""
        host, row, machine = self._host, run.row, run.machine
        if row.status in TERMINAL_STATES:
            return run
        host.refuse_strange(row.partition)
        self._admit_loaded(run)
        host.unserved.say_or_unsay(run)
        if machine is None:
            return run
        run.parked = row.status == "parked"
        if machine.mismatch is not None or run.parked:
            self.park_or_unpark(run)
        if machine.mismatch is None:
            machine.go_live()
            host.dispatch.carry_out(run)
            host.fire_timers(run)
            if run.busy == 0:
                host.idle(run)
        return run

    async def _program(self, row: RunRow) -> Program | None:
        """The code of a run, if it is served. A child's may be known through its parent alone, which calls it."""
        programs = self._host.programs
        if is_poison(row) or row.status in TERMINAL_STATES or self._host.pins.elsewhere(row):
            return None
        parent = row.parent
        if row.workflow not in programs and parent is not None and (row.tenant, parent) not in self._reserved:
            found = await self._host.store.get_run(row.tenant, parent)
            if found is not None and found.status not in TERMINAL_STATES:
                await self.load_or_park(found)
        return programs.get(row.workflow)

    def now_served(self, workflow: str) -> None:
        """This workflow's code has become known: runs of it that are in memory without it are brought in again."""
        for run in self.all():
            if run.machine is None and run.row.workflow == workflow and not run.ended and not is_poison(run.row):
                self._host.spawn(self.bring_in_again(run))

    async def bring_in_again(self, run: ActiveRun) -> None:
        """Load a run that is in memory without its code."""
        while run.pending:
            await self._host.commits.ack()
        if self.by_id.get((run.tenant, run.run_id)) is run and not run.ended:
            self.evict(run)
            await self.load_key(run.row.key)

    def _admit_loaded(self, run: ActiveRun) -> None:
        if self.admitted is not None:
            self.admitted.add(run.row.key)
        self.by_key[run.row.key] = run
        self.by_id[run.tenant, run.run_id] = run
        self._take_waiters(run)

    async def replay(self, machine: Machine, row: RunRow) -> tuple[int, int, int]:
        """Apply a run's recorded events to a new machine; `go_live` is left to the caller.

        Returns:
            `seq`, chain and time of the last event.
        """
        return await self.history.replay(machine, row)

    async def terminal_event(self, row: RunRow) -> ev.Event | None:
        """How an ended run ended."""
        return await self.history.terminal(row)

    # --- parked -----------------------------------------------------------------------------------

    def park_or_unpark(self, run: ActiveRun) -> None:
        """Make the summary say what is true: the code fits, or it does not."""
        machine, row = run.machine, run.row
        assert machine is not None
        mismatch = machine.mismatch
        run.parked = mismatch is not None
        if mismatch is not None:
            reason = f"{mismatch.code}: {mismatch.message}\n{mismatch.diff}"[:4000]
            row.status, row.reason = "parked", self._host.payloads.seal_text(reason)
            telemetry.tell("run_parked", run_id=run.run_id, code=mismatch.code, reason=mismatch.message)
        else:
            row.status, row.reason = ("paused" if machine.paused else "running"), None
        self._host.commits.group().summaries[id(run)] = run

    # --- out --------------------------------------------------------------------------------------

    def retire(self, run: ActiveRun) -> None:
        """The run has ended and its end is durable. It stays while attempts of it are stopping, to note what they
        say."""
        if run.machine is not None:
            run.machine.close()
        if run.busy == 0:
            self.drop(run)

    def drop(self, run: ActiveRun) -> None:
        """Forget an ended run; what still comes of it is forgotten too, for it may have been opened again."""
        run.gone = True
        self.by_key.pop(run.row.key, None)
        if self.by_id.get((run.tenant, run.run_id)) is run:
            del self.by_id[run.tenant, run.run_id]
        self._host.wakeups.set(run.row.key, None)

    def evict_idle(self) -> None:
        """Let runs leave memory that have waited for a while."""
        self._evict(self._host.settings.evict_after)

    def _evict(self, idle_for: float) -> None:
        latest = self._host.clock.monotonic() - idle_for
        for run in list(self.by_key.values()):
            if self._may_leave(run) and run.idle_since <= latest:
                self.evict(run)

    def _may_leave(self, run: ActiveRun) -> bool:
        return (
            run.busy == 0
            and run.pending == 0
            and not run.ended
            and run.stored_status == "waiting"
            and run.row.status == "waiting"
            and run.machine is not None
            and run.machine.waiting()
            and run.machine.mismatch is None
            and run.stored_due == run.machine.timers.next_due()
        )

    def evict(self, run: ActiveRun) -> None:
        """Drop a waiting run from memory; its event brings it back."""
        self.by_key.pop(run.row.key, None)
        self.by_id.pop((run.tenant, run.run_id), None)
        run.gone = True
        run.wake_all()
        if run.machine is not None:
            run.machine.close()

    def of(self, partition: int) -> list[ActiveRun]:
        """The runs in memory of one partition."""
        return [run for run in self.by_id.values() if run.row.partition == partition]

    def expel(self, partition: int) -> None:
        """Forget the runs of a partition that this host has given up."""
        self._overtaken |= self._loading.keys()
        self._host.unserved.forget(partition)
        for run in self.of(partition):
            self.by_key.pop(run.row.key, None)
            del self.by_id[run.tenant, run.run_id]
            run.gone = True
            run.wake_all()
            if run.machine is not None:
                run.machine.close()
        absent, self._absent = self._absent, {}
        for waiters in absent.values():  # whoever waits finds out where its run is now
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def clear(self) -> None:
        """Drop everything."""
        for run in self.all():
            run.gone = True
            run.wake_all()
            if run.machine is not None:
                run.machine.close()
        for waiters in self._absent.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        self._absent.clear()
        self.by_key.clear()
        self.by_id.clear()
