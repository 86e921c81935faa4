"""The owner of partitions: every chore of the engine meets here, each in its own file.

append <- commits <- records <- attempts, timers, messages, commands
   |                                         ^
   +-> applied -> machine.apply -> dispatch -+
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from aob import telemetry
from aob.clock import Clock, SkewedClock
from aob.engine.active import ActiveRun
from aob.engine.commits import Commits
from aob.engine.controls import Controls
from aob.engine.dispatch import Dispatch
from aob.engine.executor import Executor
from aob.engine.exporter import Exporter
from aob.engine.group import UNSET, Record
from aob.engine.inbox import Inbox
from aob.engine.outbox import Outbox
from aob.engine.partitions import NotOwner
from aob.engine.patience import PASSING
from aob.engine.payloads import PayloadCodec, Payloads
from aob.engine.pins import Pins
from aob.engine.recovery import Quarantine, Recovery
from aob.engine.residents import Residents
from aob.engine.retention import sweep_for_ever
from aob.engine.starts import Starts
from aob.engine.unserved import Unserved
from aob.engine.wakeups import Wakeups
from aob.errors import AobError, LeaseLost
from aob.kernel import events as ev
from aob.kernel.machine import Program
from aob.kernel.states import AFTER_EVENT, TERMINAL_STATES
from aob.process import Process
from aob.settings import Settings
from aob.stores.protocol import Store
from aob.stores.rows import Lease, Message, RunRow

_NO_PROGRESS = frozenset((ev.StepScheduled, ev.StepStarted, ev.CancelRequested))


class Host:
    """Owns partitions: one where the store has one, else its share of them. They come and go (`take`, `handover`),
    but a lease that is lost ends the host as a whole: then this process was taken for dead.

    Args:
        programs: the workflows that are served here, by name.
        executor: runs activities.
        exporters: are given all events of the host's partitions.
        stopped: called once, when the lease is lost or the store failed.
    """

    def __init__(
        self, store: Store, clock: Clock, process: Process, settings: Settings, executor: Executor, *,
        programs: dict[str, Program], codec: PayloadCodec | None = None,
        exporters: Sequence[Exporter] = (), stopped: Callable[[AobError], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.store = store
        self.clock = clock if store.skew_us is None else SkewedClock(clock, store.skew_us)
        self.process = process
        self.settings = settings
        self.programs = programs
        self.executor = executor
        self.payloads = Payloads(store, codec, settings.blob_over)
        self.failed: AobError | None = None
        self.leaving: set[int] = set()
        self._on_stopped = stopped
        self.inbox = Inbox(self)
        self.commits = Commits(
            store, self.clock, self.payloads,
            applied=self._applied, conflicts=self._conflict, inbox=self.inbox, stopped=self._stopped,
        )  # fmt: skip
        self.wakeups = Wakeups(self.clock, self._due)
        self.residents = Residents(self)
        self.quarantine = Quarantine(self)
        self.dispatch = Dispatch(self)
        self.starts = Starts(self)
        self.unserved = Unserved(self)
        self.pins = Pins(self)
        self.controls = Controls(self)
        self.outbox = Outbox(self, exporters)
        self._dirty: dict[int, ActiveRun] = {}
        self._dirty_timer: Any = None
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- life -------------------------------------------------------------------------------------

    async def start(self, leases: list[Lease]) -> None:
        """Begin with these partitions: recover their open runs, then go on."""
        self.spawn(self._renew())  # recovery may take longer than a lease lasts
        await self.take(leases)
        self.commits.poke()
        self.spawn(self.inbox.watch())
        self.outbox.start()
        self.spawn(sweep_for_ever(self))

    async def take(self, leases: list[Lease]) -> None:
        """Take partitions over, beside those that are held: recover their open runs.

        Raises:
            LeaseLost: they are not recovered, for the leases are over, or the store did not answer; or leases of what
                is held had run out unnoticed. The host ends, for nobody would look at those runs, or export them,
                again.
        """
        again = [lease.partition for lease in leases if lease.partition in self.commits.leases]
        self.commits.start(leases)
        epoch = max(lease.epoch for lease in leases)
        telemetry.tell("lease_taken", partitions=len(leases), held=len(self.commits.leases), epoch=epoch)
        if again:
            raise self._ended(LeaseLost(f"the leases of {len(again)} partitions had run out"))
        try:
            await self.pins.look()
            await Recovery(self).recover(leases)
            await self.outbox.take([lease.partition for lease in leases])
        except PASSING as e:
            raise self._ended(LeaseLost(f"partitions could not be taken over: {e.message}")) from e

    def owns(self, partition: int) -> bool:
        """Whether runs of this partition are this host's to go on with."""
        return partition in self.commits.leases and partition not in self.leaving

    def refuse_strange(self, partition: int) -> None:
        """See that a run of this partition is this host's.

        Raises:
            NotOwner: it is not.
        """
        if partition not in self.commits.leases or partition in self.leaving:
            raise self.failed or NotOwner(f"another process owns partition {partition}")

    async def stop(self) -> None:
        """Hand over: nothing new is started, what is in flight has been waited for by the executor."""
        self.wakeups.stop()
        if self.failed is None:
            self._write_dirty()
            await self.outbox.drained(self.settings.drain_timeout)
            await self.commits.drained()
        self.failed = self.failed or LeaseLost("this worker has stopped")
        self.commits.stop(self.failed)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            if self.commits.leases:
                await self.store.release(list(self.commits.leases.values()))
        finally:
            self.residents.clear()

    def spawn(self, coro: Any) -> asyncio.Task[Any]:
        """A task of the host; it ends with it."""
        task = asyncio.get_running_loop().create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _renew(self) -> None:
        ttl = self.settings.lease_ttl
        renewed = self.clock.monotonic()
        while True:
            await self.clock.sleep(ttl / 3)
            asked, held = self.clock.monotonic(), dict(self.commits.leases)
            try:
                await self.store.renew(list(held.values()), ttl)
            except PASSING as e:
                telemetry.tell("renew_failed", error=e)
                if asked - renewed < ttl:  # the leases last, and the store may be back before they end
                    continue
                error: AobError = LeaseLost(f"the leases could not be renewed until they were over: {e.message}")
            except AobError as e:
                if isinstance(e, LeaseLost) and not held.items() <= self.commits.leases.items():
                    continue  # one was handed over meanwhile: that says nothing of the others
                error = e
            else:
                renewed = asked
                self.residents.evict_idle()
                await self.pins.look_again()
                continue
            self._ended(error)
            return

    def _ended(self, error: AobError) -> AobError:
        self.commits.stop(error)
        self._stopped(error)
        return error

    def _stopped(self, error: AobError) -> None:
        if self.failed is not None:
            return
        self.failed = error
        if isinstance(error, LeaseLost):
            epochs = self.commits.epochs.values()
            telemetry.tell("lease_lost", partitions=len(epochs), epoch=max(epochs, default=0))
        self.wakeups.stop()
        for run in self.residents.all():
            self.dispatch.stop_attempts(run)
            run.gone = True
            run.wake_all()
        self._on_stopped(error)

    # --- records ----------------------------------------------------------------------------------

    def record(self, run: ActiveRun, event: ev.Event, value: Any = UNSET) -> None:
        """Put an event of a run into the next commit, with what it changes of the run's summary."""
        row = run.row
        status = AFTER_EVENT.get(event.KIND)
        if status is not None:
            self._status_event(run, event, status)
        elif row.status == "waiting" or (row.deaths and type(event) not in _NO_PROGRESS):
            row.status, row.due, row.deaths = "running" if row.status == "waiting" else row.status, None, 0
            self.commits.group().summaries[id(run)] = run
        self.commits.add(run, event, value)
        if status in TERMINAL_STATES:
            self.dispatch.run_ended(run, event)

    def leave(self, tenant: str, run_id: str, kind: str, body: msgspec.Struct) -> None:
        """Leave a message for a run with the next commit: whatever dies after that, it is dealt with, and only then."""
        group = self.commits.group()
        group.sends.append(Message(tenant=tenant, run_id=run_id, kind=kind, body=self.payloads.seal_message(body)))
        group.after.append(self.commits.poke)

    def record_late(self, run: ActiveRun, event: ev.Late) -> None:
        """Note a fact that changes nothing; the run's summary stays as it is."""
        self.commits.add(run, event)

    def _status_event(self, run: ActiveRun, event: ev.Event, status: str) -> None:
        row = run.row
        row.status, row.due, row.deaths = status, None, 0
        if status in TERMINAL_STATES:
            run.ended = True
            row.ended = max(self.clock.now_us(), run.last_at)
            reason = reason_of(event)
            row.reason = reason and self.payloads.seal_text(reason)
        elif isinstance(event, ev.RunReopened):
            run.ended, run.terminal, row.ended, row.reason = False, None, None, None
        if run.row.key:
            self.commits.group().summaries[id(run)] = run

    def _applied(self, records: list[Record], seqs: list[int]) -> None:
        for (run, event, value), seq in zip(records, seqs, strict=True):
            run.pending -= 1
            machine = run.machine
            if machine is None:
                self.after(run, event)
                continue
            if value is UNSET:
                machine.apply(event, seq)
            else:
                machine.apply(event, seq, value)
            if machine.commands:
                self.dispatch.carry_out(run)
            if type(event) is not ev.StepCompleted:
                self.after(run, event)
            if run.waiters is not None:
                run.wake()
            due = machine.timers.next_due(machine.paused)
            if due != run.armed:
                run.armed = due
                self.wakeups.set(run.row.key, due)
            if run.busy == 0:
                self.idle(run)

    def after(self, run: ActiveRun, event: ev.Event) -> None:
        """What an event means to the host, once it is committed."""
        if isinstance(event, ev.RunStarted):
            self.residents.admit(run)
        elif isinstance(event, ev.AttemptFailed):
            self.dispatch.retry_later(run, event)
        elif isinstance(event, PAUSING):
            self._settle_pause(run)
        elif isinstance(event, ev.UpdateCompleted):
            self.controls.updates.completed(run, event)
        elif event.KIND in ev.TERMINAL:
            run.terminal = event
            self.residents.retire(run)
            run.wake_all()
        elif run.waiters is not None:
            run.wake()

    def _settle_pause(self, run: ActiveRun) -> None:
        """An event may have begun a pause or ended one: the summary says what is true, and work goes on."""
        machine, row = run.machine, run.row
        if machine is None or run.ended or run.parked:
            return
        if machine.paused != (row.status == "paused") and run.pending == 0:
            row.status = "paused" if machine.paused else "running"
            self.commits.group().summaries[id(run)] = run
        if run.held_back and not machine.paused:
            self.dispatch.go_on(run)

    # --- waiting runs -----------------------------------------------------------------------------

    def idle(self, run: ActiveRun) -> None:
        """No attempt of the run is in flight: if it only waits, its summary says so soon, and it may leave memory."""
        if run.ended:
            return
        machine = run.machine
        if machine is not None and (machine.mismatch is not None) != run.parked:
            self.residents.park_or_unpark(run)
        if not run.parked and (machine is None or machine.waiting()):
            run.idle_since = self.clock.monotonic()
            self._dirty[id(run)] = run
            if self._dirty_timer is None:
                self._dirty_timer = self.clock.call_later(0.05, self._write_dirty)

    def _write_dirty(self) -> None:
        self._dirty_timer = None
        dirty, self._dirty = self._dirty, {}
        if self.failed is not None:
            return
        for run in dirty.values():
            if run.gone:
                continue  # it left memory as it is in the store, and its machine knows nothing any more
            if run.row.partition in self.leaving:
                continue  # something may not have been begun here: its next owner sees whether it waits
            if run.ended or run.busy or run.pending or run.row.key == 0 or run.row.status not in ("running", "waiting"):
                continue  # an event that is on its way may end the wait, and is looked at when it has come
            if run.machine is None or run.machine.waiting():
                due = run.machine.timers.next_due() if run.machine is not None else None
                if run.row.status != "waiting" or run.row.due != due:
                    run.row.status, run.row.due = "waiting", due
                    self.commits.group().summaries[id(run)] = run

    def _due(self, keys: list[int]) -> None:
        for key in keys:
            run = self.residents.by_key.get(key)
            if run is None:
                self.spawn(self.residents.load_key(key))
            else:
                self.fire_timers(run)

    def fire_timers(self, run: ActiveRun) -> None:
        """Record the timers of this run that are due."""
        machine = run.machine
        run.armed = None
        if machine is None or run.ended or machine.mismatch is not None:
            return
        now = max(self.clock.now_us(), run.last_at)
        for timer in machine.timers.take_due(now, machine.paused):
            run.last_at = now  # should the clock be set back before the commit, this was not early all the same
            self.record(run, ev.TimerFired(0, timer.id, timer.due))
        due = machine.timers.next_due(machine.paused)
        if due is not None:
            run.armed = due
            self.wakeups.set(run.key, due)

    def _conflict(self, run: ActiveRun, existing: RunRow) -> None:
        self.starts.conflict(run, existing)


PAUSING = (ev.Paused, ev.Resumed, ev.CancelRequested, ev.TimerFired)
"""Events that may begin or end a pause."""


def reason_of(event: ev.Event) -> str | None:
    """One line for lists on why a run ended as it did."""
    if isinstance(event, ev.RunFailed):
        return f"{event.failure.type.rpartition(':')[2]}: {event.failure.message}"[:500]
    if isinstance(event, ev.RunCancelled | ev.RunTerminated):
        return event.reason[:500]
    if isinstance(event, ev.RunTimedOut):
        return f"passed its {event.limit}"
    return None
