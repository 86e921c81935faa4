"""From commands to deeds: steps, retries, children, tickets; and from outcomes back to records."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from aob.clock import Handle
from aob.engine.active import ActiveRun
from aob.engine.executor import Attempt
from aob.engine.ids import idempotency_key, ticket_id
from aob.engine.partitions import NotOwner
from aob.engine.patience import patiently
from aob.engine.starts import LetGo, Signal
from aob.engine.unserved import NotServed
from aob.errors import (
    AobError,
    BadPayload,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunTerminated,
    RunTimedOut,
    StepTimeout,
)
from aob.kernel import events as ev
from aob.kernel.codec import codec_for
from aob.kernel.failures import Failure, capture, restore
from aob.kernel.machine import Command
from aob.kernel.retry import next_due
from aob.kernel.states import TERMINAL_STATES
from aob.kernel.steps import Abandon, Step
from aob.stores.rows import TicketRow
from aob.workflow.definitions import ActivityPlan

if TYPE_CHECKING:
    from aob.engine.host import Host


class Ticket(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The input of a ticket step: what a person is asked."""

    title: str
    data: Raw = Raw(b"null")
    assignees: list[str] = []
    deadline: int | None = None
    schema: Raw = ev.NULL


class Dispatch:
    """Carries out what machines ask for."""

    def __init__(self, host: Host) -> None:
        self._host = host

    # --- commands ---------------------------------------------------------------------------------

    def carry_out(self, run: ActiveRun) -> None:
        """Do what the run's machine has put on its command list, in order."""
        machine = run.machine
        assert machine is not None
        commands, machine.commands = machine.commands, []
        if len(commands) == 1 and type(commands[0]) is Step:
            if not run.ended:
                self.step(run, commands[0])
            return
        if any(type(c) is ev.Changed for c in commands):
            commands = self._versions_first(run, commands)
        self._commands(run, commands)

    def _versions_first(self, run: ActiveRun, commands: list[Command]) -> list[Command]:
        """What a new version of the code asks for is done only when it is durable that this run follows it."""
        records = [c for c in commands if isinstance(c, ev.Event)]
        others = [c for c in commands if not isinstance(c, ev.Event)]
        for event in records:
            self._command(run, event)
        self._host.commits.group().after.append(lambda: self._commands(run, others))
        return []

    def _commands(self, run: ActiveRun, commands: Sequence[Command]) -> None:
        for command in commands:
            self._command(run, command)

    def _command(self, run: ActiveRun, command: Command) -> None:
        if run.ended:
            return
        if type(command) is Step:
            if not command.done():
                self.step(run, command)
        elif type(command) is Abandon:
            self._abandon(run, command)
        else:
            assert isinstance(command, ev.Event)
            self._host.record(run, command)

    def step(self, run: ActiveRun, step: Step) -> None:
        """Begin a step, or go on with one that was begun before a restart."""
        host, machine = self._host, run.machine
        assert machine is not None
        if host.leaving and run.row.partition in host.leaving:
            return  # the next owner begins it
        if machine.paused:
            run.held_back = [*(run.held_back or ()), step]
            return
        if machine.overrides and step.id in machine.overrides:
            self._answer_override(run, step, machine.overrides[step.id])
            return
        if step.kind == "activity":
            if step.due and step.due > host.clock.now_us():
                self._wait_for_retry(run, step)
                return
            if step.first_start and _is_over(step.plan, step.first_start, host.clock.now_us()):
                self._out_of_time(run, step)
                return
            if machine.started.fidelity == "full":
                self._record_start(run, step)
            if run.row.deaths:
                host.quarantine.begin(run, step)
            else:
                self.begin(run, step)
        else:
            _KINDS[step.kind](self, run, step)

    def begin(self, run: ActiveRun, step: Step) -> None:
        """Begin an attempt of an activity."""
        if self._host.leaving and run.row.partition in self._host.leaving:
            return
        run.busy += 1
        step.live = self._host.executor.start(run, step, self)

    def _record_start(self, run: ActiveRun, step: Step) -> None:
        if not step.scheduled:
            step.scheduled = 1
            self._host.record(run, ev.StepScheduled(0, step.id, step.check, "activity", Raw(step.input)))
        step.started = True
        self._host.record(run, ev.StepStarted(0, step.id, step.attempt, self._host.process.name))

    def _answer_override(self, run: ActiveRun, step: Step, result: Raw) -> None:
        try:
            value = step.decode(result)
        except BadPayload as e:
            self._host.record(run, ev.StepFailed(0, step.id, step.check, capture(e)))
            return
        self._host.record(run, ev.StepCompleted(0, step.id, step.check, result, 0, by="override"), value)

    def _side_effect(self, run: ActiveRun, step: Step) -> None:
        try:
            data, value = codec_for(Any, "aob.side_effect").encode_checked(step.plan())
        except Exception as e:
            self._host.record(run, ev.StepFailed(0, step.id, step.check, capture(e)))
        else:
            self._host.record(run, ev.StepCompleted(0, step.id, step.check, Raw(data)), value)

    def _child(self, run: ActiveRun, step: Step) -> None:
        self._host.starts.child(run, step)

    def _signal_run(self, run: ActiveRun, step: Step) -> None:
        self._host.spawn(self._send_signal(run, step))

    async def _send_signal(self, run: ActiveRun, step: Step) -> None:
        assert run.machine is not None
        host = self._host
        target, name, payload = msgspec.json.decode(step.input, type=tuple[str, str, Raw])
        key = idempotency_key(run.tenant, run.run_id, run.machine.started.birth, step.id)
        try:
            await patiently(host, lambda: self._signal(run.tenant, target, Signal(name, payload, key)))
        except AobError as e:
            if host.failed is not None:
                return  # the next owner sends it
            event: ev.Event = ev.StepFailed(0, step.id, step.check, capture(e))
        else:
            event = ev.StepCompleted(0, step.id, step.check, Raw(b"null"))
        if not run.ended and not step.done():
            host.record(run, event)

    async def _signal(self, tenant: str, run_id: str, signal: Signal) -> None:
        """A signal in the next commit: as the event itself, or as a message where another process owns the run, or none
        has its code."""
        host = self._host
        try:
            other = await host.inbox.reach(tenant, run_id)
            host.controls.signals.signal(other, signal.name, signal.payload, signal.id)
        except (NotOwner, NotServed):
            row = await host.store.get_run(tenant, run_id)
            if row is not None and row.status in TERMINAL_STATES:
                raise RunFinished(f"run {run_id!r} has ended ({row.status})", run_id=run_id) from None
            host.leave(tenant, run_id, "signal", signal)

    def _ticket(self, run: ActiveRun, step: Step) -> None:
        if step.scheduled:
            return
        step.scheduled = 1
        asked = msgspec.json.decode(step.input, type=Ticket)
        group = self._host.commits.group()
        self._host.record(
            run, ev.StepScheduled(0, step.id, step.check, "ticket", Raw(step.input), ticket_id(run.run_id, step.id))
        )
        blobs: list[tuple[str, bytes]] = []
        payloads = self._host.payloads
        data = payloads.seal_bytes(bytes(asked.data), blobs)
        group.blobs += [(run, digest, blob) for digest, blob in blobs]
        step.live = TicketRow(
            id=ticket_id(run.run_id, step.id),
            tenant=run.tenant,
            run_id=run.run_id,
            workflow=run.row.workflow,
            step=step.id,
            title=payloads.seal_text(asked.title),
            data=data,
            assignees=[payloads.seal_text(name) for name in asked.assignees],
            schema=None if asked.schema == ev.NULL else payloads.seal_message(asked.schema),
            created=self._host.clock.now_us(),
            deadline=asked.deadline,
        )
        group.tickets.append(step.live)

    # --- stopping ---------------------------------------------------------------------------------

    def _abandon(self, run: ActiveRun, command: Abandon) -> None:
        step = command.step
        live = step.live
        if step.kind == "activity":
            if isinstance(live, _Waiting):
                live.timer.cancel()
                step.live = None
                live = None
            if live is not None:
                self._host.executor.stop(live)
            elif command.wait:
                self._record_cancelled(run, step)
        elif step.kind == "child":
            self._host.starts.cancel_child(run, step)
        elif step.kind == "ticket":
            self._host.controls.tickets.withdraw(run, step)

    def _record_cancelled(self, run: ActiveRun, step: Step) -> None:
        failure = capture(asyncio.CancelledError())
        self._host.record(run, ev.StepFailed(0, step.id, step.check, failure, step.attempt))

    def stop_attempts(self, run: ActiveRun) -> None:
        """Tell every attempt of the run to stop."""
        if run.machine is None:
            return
        for step in list(run.machine.open.values()):
            if isinstance(step.live, _Waiting):
                step.live.timer.cancel()
                step.live = None
            elif step.live is not None and step.kind == "activity":
                self._host.executor.stop(step.live)

    def run_ended(self, run: ActiveRun, event: ev.Event) -> None:
        """The run's end is on its way to the store: stop what it had going, and tell its parent."""
        self.stop_attempts(run)
        machine = run.machine
        if machine is not None and machine.mismatch is None:
            for step in list(machine.open.values()):
                if step.kind == "child":
                    self._host.starts.cancel_child(run, step)
                elif step.kind == "ticket":
                    self._host.controls.tickets.withdraw(run, step)
        else:  # only the history says what it had open
            self._host.leave(run.tenant, run.run_id, "let_go", LetGo())
        self._host.starts.tell_parent(run, event)

    # --- retries ----------------------------------------------------------------------------------

    def retry_later(self, run: ActiveRun, event: ev.AttemptFailed) -> None:
        """A failed attempt is durable: make the next one when it is due."""
        step = run.machine.open.get(event.step) if run.machine is not None else None
        if step is not None and step.live is None:
            self._wait_for_retry(run, step)

    def _wait_for_retry(self, run: ActiveRun, step: Step) -> None:
        delay = max(step.due - self._host.clock.now_us(), 0) / 1e6
        step.live = _Waiting(self._host.clock.call_later(delay, lambda: self._retry(run, step)))

    def _retry(self, run: ActiveRun, step: Step) -> None:
        step.live = None
        machine = run.machine
        if machine is None or machine.closing or run.ended or machine.open.get(step.id) is not step:
            return
        if self._host.failed is None:
            self.step(run, step)

    def go_on(self, run: ActiveRun) -> None:
        """After a pause: begin what was held back."""
        steps, run.held_back = run.held_back or [], None
        for step in steps:
            if run.machine is not None and run.machine.open.get(step.id) is step and step.live is None:
                self.step(run, step)

    # --- outcomes ---------------------------------------------------------------------------------

    def attempt_succeeded(self, attempt: Attempt, data: bytes, value: Any) -> None:
        """See `Outcomes`."""
        run, step = attempt.run, attempt.step
        self._over(run, step)
        host = self._host
        if run.ended or step.done() or run.gone or host.failed is not None:
            self._late(run, step, "completed", Raw(data))
            return
        if attempt.stopping:
            self._late(run, step, "completed", Raw(data))
            self._record_cancelled(run, step)
            return
        took = host.clock.now_us() - (step.first_start or attempt.started_us)
        event = ev.StepCompleted(0, step.id, step.check, Raw(data), attempt.number, took)
        if run.row.status == "running" and not run.row.deaths:
            host.commits.add(run, event, value)
        else:
            host.record(run, event, value)

    def attempt_failed(self, attempt: Attempt, error: BaseException) -> None:
        """See `Outcomes`."""
        run, step, host = attempt.run, attempt.step, self._host
        self._over(run, step)
        if run.ended or step.done() or run.gone or host.failed is not None:
            self._late(run, step, "failed", ev.NULL)
            return
        if attempt.stopping:
            self._record_cancelled(run, step)
            return
        plan: ActivityPlan = step.plan
        now = host.clock.now_us()
        failure = capture(error)
        first = step.first_start or attempt.started_us
        due = next_due(plan.retry, failure, error, attempt.number, now, host.process.uniform())
        if due is not None and _is_over(plan, first, due):
            failure, due = _took_too_long(plan, error), None
        if due is not None:
            beat = Raw(codec_for(Any, "heartbeat").encode(step.heartbeat))
            host.record(run, ev.AttemptFailed(0, step.id, attempt.number, failure, due, first, beat))
        else:
            host.record(
                run, ev.StepFailed(0, step.id, step.check, failure, attempt.number, now - first, Raw(step.input))
            )

    def _out_of_time(self, run: ActiveRun, step: Step) -> None:
        """The total time passed while nobody served, or the run was paused: nothing more is tried."""
        cause = None if step.failure is None else restore(step.failure)
        failure, took = _took_too_long(step.plan, cause), self._host.clock.now_us() - step.first_start
        self._host.record(run, ev.StepFailed(0, step.id, step.check, failure, step.attempt - 1, took, Raw(step.input)))

    def attempt_stopped(self, attempt: Attempt) -> None:
        """See `Outcomes`."""
        run, step = attempt.run, attempt.step
        self._over(run, step)
        if self._host.failed is None and not run.gone and not run.ended and not step.done():
            self._record_cancelled(run, step)
        else:
            self.no_longer_busy(run)

    def _over(self, run: ActiveRun, step: Step) -> None:
        run.busy -= 1
        step.live = None
        if self._host.quarantine.active:
            self._host.quarantine.release(run)

    def attempt_is_long(self, attempt: Attempt) -> None:
        """See `Outcomes`."""
        self._host.quarantine.release(attempt.run)
        step = attempt.step
        if not step.started and not attempt.run.ended and not step.done():
            step.started = True
            self._host.record(attempt.run, ev.StepStarted(0, step.id, attempt.number, self._host.process.name))

    def _late(self, run: ActiveRun, step: Step, outcome: str, result: Raw) -> None:
        if self._host.failed is not None or run.gone:
            return
        self._host.record_late(run, ev.Late(0, step.id, outcome, result))
        self.no_longer_busy(run)

    def no_longer_busy(self, run: ActiveRun) -> None:
        """Something that was in flight is over, and gave the run no event to go on with."""
        if run.busy or self._host.failed is not None or run.gone:
            return
        if run.terminal is not None:
            self._host.residents.drop(run)
        else:
            self._host.idle(run)

    def child_failure(self, run_id: str, event: ev.Event, reason: str | None) -> Failure:
        """How a child's end looks to its parent."""
        error = _CHILD_ENDS.get(type(event), RunFailed)
        failed = capture(error(f"child run {run_id} ended as {ev.TERMINAL[event.KIND]}: {reason or ''}".rstrip(": ")))
        if isinstance(event, ev.RunFailed):
            return msgspec.structs.replace(failed, cause=event.failure)
        return failed


class _Waiting:
    """A step between two attempts."""

    __slots__ = ("timer",)

    def __init__(self, timer: Handle) -> None:
        self.timer = timer


_CHILD_ENDS: dict[type[ev.Event], type[RunFailed]] = {
    ev.RunCancelled: RunCancelled,
    ev.RunTerminated: RunTerminated,
    ev.RunTimedOut: RunTimedOut,
}


def _is_over(plan: ActivityPlan, first: int, at: int) -> bool:
    """Whether the total time of a step, whose first attempt began at `first`, has passed then."""
    return plan.total_timeout is not None and at >= first + plan.total_timeout * 1e6


def _took_too_long(plan: ActivityPlan, cause: BaseException | None) -> Failure:
    late = StepTimeout(f"activity {plan.name} did not succeed within its total_timeout of {plan.total_timeout:g} s")
    late.__cause__ = cause
    return capture(late)


_KINDS = {
    "side_effect": Dispatch._side_effect,  # pyright: ignore[reportPrivateUsage]
    "child": Dispatch._child,  # pyright: ignore[reportPrivateUsage]
    "signal_run": Dispatch._signal_run,  # pyright: ignore[reportPrivateUsage]
    "ticket": Dispatch._ticket,  # pyright: ignore[reportPrivateUsage]
}
