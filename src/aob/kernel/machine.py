"""The run machine: a run as a pure function of its history.

`apply(event, seq)` changes the run and lets its code run until nothing is ready; `commands` then holds what the host
has to do, in order: a `Step` to carry out, an `Abandon`, or an event to record. Nothing here reads a clock or does I/O,
and `apply` never raises on user code's account.

Replay is the same call with `replaying` set: steps are not put on the command list, since their events follow.
`go_live` then yields what was in flight.
"""

# the table of handlers at the end names the machine's own methods
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import random
from asyncio import events as asyncio_events
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context
from typing import Any, NoReturn, Protocol, cast
from zlib import crc32

import msgspec
from msgspec import Raw

from aob.errors import AobError, BadDefinition, NonDeterministic
from aob.kernel import events as ev, flags
from aob.kernel.carry import Carry, carry_of, refuse_busy
from aob.kernel.codec import SignatureCodec
from aob.kernel.compensations import Undo, undo_all
from aob.kernel.conditions import Conditions, holds
from aob.kernel.ends import End, exhausted, outcome, stopped
from aob.kernel.failures import capture, restore
from aob.kernel.generators import keep_generators
from aob.kernel.guard import TURN
from aob.kernel.handlers import Handlers, refused
from aob.kernel.loop import TimerHandle, WorkflowLoop
from aob.kernel.mailbox import Mailbox
from aob.kernel.ordering import keep_order
from aob.kernel.recorded import NOTED, Recorded
from aob.kernel.replay import mismatch, started_by_newer, was_asked_for
from aob.kernel.spending import Spending
from aob.kernel.steps import Abandon, Step, StepCall
from aob.kernel.timers import NO_TIMERS, URGENT, Timers

_get_running_loop = asyncio_events._get_running_loop  # pyright: ignore
_set_running_loop = asyncio_events._set_running_loop
_UNSET: Any = object()
CANCELLED = "asyncio.exceptions:CancelledError"

Command = Step | Abandon | ev.Event
_DEAF_AFTER = 1_000
_AT_WORK = ("activity", "side_effect", "signal_run")
_ASKED_FOR = ("child", "ticket")


class Program(Protocol):
    """What the kernel needs of a workflow definition."""

    name: str
    fn: Callable[..., Coroutine[Any, Any, Any]]
    codec: SignatureCodec
    cancel_grace: float


class Restart(BaseException):
    """Control flow: this pass of the function is over, the next starts from a checkpoint."""


class Evicted(BaseException):
    """Control flow: the run leaves memory; cleanup code that calls anything durable gets this."""


class Machine:
    """One run in memory.

    Args:
        program: the workflow's definition.
    """

    # fmt: off
    __slots__ = (
        "__weakref__", "_allowed", "_conditions", "_dropped", "_fork", "_function", "_handlers", "_held", "_last",
        "_random", "_recorded", "_refused", "_restart", "cancelled", "closing", "commands", "compensated",
        "compensations", "counters", "ended", "flags", "loop", "mailbox", "main", "mismatch", "open", "overrides",
        "paused", "program", "read_only", "replaying", "saga_depth", "seed", "seq", "spending", "started", "state",
        "step_errors", "timers",
    )
    # fmt: on
    loop: WorkflowLoop
    mailbox: Mailbox
    started: ev.RunStarted
    flags: int
    seed: int
    overrides: dict[str, Raw]

    def __init__(self, program: Program) -> None:
        self.program = program
        self.seq = 0
        self.commands: list[Command] = []
        self.replaying = False
        self.open: dict[str, Step] = {}
        self.counters: dict[str, int] = {}
        self.state: Raw | None = None
        self.main: asyncio.Task[Any] | None = None
        self._function: asyncio.Task[Any] | None = None
        self.ended: ev.Event | None = None
        self.mismatch: NonDeterministic | None = None
        self.cancelled: ev.CancelRequested | None = None
        self.compensated = False
        self.closing = False
        self.read_only = False
        self.saga_depth = 0
        self.paused = False
        self.spending = Spending()
        self.compensations: list[Undo] | None = None
        self._refused = 0
        self.timers = NO_TIMERS
        self._conditions: Conditions | None = None
        self._handlers: Handlers | None = None
        self._recorded: Recorded | None = None
        self._held: list[tuple[ev.Event, int, Any]] | None = None
        self._last = 0
        self._restart: Raw | None = None
        self._fork: ev.Fork | None = None
        self._allowed: int | None = None
        self._dropped: list[Step] | None = None
        self._random: random.Random | None = None
        self.step_errors: list[tuple[BaseException, str]] | None = None

    # --- events in --------------------------------------------------------------------------------

    def apply(self, event: ev.Event, seq: int, value: Any = _UNSET) -> None:
        """Apply one event and run until nothing is ready.

        Args:
            seq: the event's place in the history.
            value: of a `StepCompleted`: its decoded result, where the caller has it already.
        """
        if self.mismatch is not None or self.closing:
            return
        if self._held is not None and not self._ends_hold(event):
            self._held.append((event, seq, value))
            return
        if self.paused:
            self._unpause(event)
            if self._held is not None and not self._ends_hold(event):
                self._held.append((event, seq, value))
                return
        self.seq = seq
        if seq == 1:
            self._first(event)
            if self.mismatch is not None:
                return
        loop = self.loop
        if event.at > loop.now_us:
            loop.now_us = event.at
        outer = _get_running_loop()
        _set_running_loop(loop)
        turn = TURN
        turn.count += 1
        turn.machine = self
        try:
            if type(event) is ev.StepCompleted:
                step = self.open.pop(event.step, None)
                if step is None or step.check != event.check:
                    self._not_open(event, step)
                else:
                    if event.used is not None:
                        self.spending.add(event.used, self.started.limits)
                    step.set_result(step.decode(event.result) if value is _UNSET else value)
            else:
                apply = _APPLY.get(type(event))
                if apply is not None:
                    apply(self, event)
            if loop.ready:
                loop.drain()
            if self._conditions is not None:
                self._conditions.check(self)
        except BaseException as e:
            self.loop_failed(e)
        finally:
            turn.machine = None
            _set_running_loop(outer)

    def replay(self, events: Iterable[tuple[ev.Event, int]]) -> None:
        """Apply recorded events; call `go_live` after the last."""
        events = list(events)
        self.begin_replay(events)
        for event, seq in events:
            self.apply(event, seq)

    def begin_replay(self, events: Iterable[tuple[ev.Event, int]]) -> None:
        """Recorded events will be applied; note what code asks about them ahead of time."""
        self.replaying = True
        for event, seq in events:
            if type(event) in NOTED:
                self.recorded.note(event)
            if type(event) is not ev.Late and type(event) is not ev.RunReopened:
                self._last = seq

    def go_live(self) -> None:
        """The recorded events are applied: what has none is in flight, and goes on the command list."""
        self.replaying = False
        if self.mismatch is not None:
            return
        commands = self.commands
        dropped, self._dropped = self._dropped, None
        commands.extend(Abandon(s, wait=False) for s in dropped or ())
        commands.extend(Abandon(s, wait=True) if s.stopping else s for s in self.open.values())
        if self._handlers is not None:
            commands.extend(self._handlers.answers.values())
        if self._held is not None and self._restart is not None:
            commands.append(self._checkpoint_event())
        if self.ended is not None:
            commands.append(self.ended)

    def restore(self, started: ev.RunStarted, checkpoint: ev.Checkpoint, seq: int) -> int:
        """Begin at a checkpoint instead of at the start.

        Returns:
            The `seq` up to which events are contained in it.
        """
        self.replaying = True
        self._prepare(started)
        carry = carry_of(checkpoint)
        self._held = []
        self.apply(checkpoint, seq)
        return carry.applied

    def _first(self, event: ev.Event) -> None:
        assert isinstance(event, ev.RunStarted), f"the first event of a run is {event.KIND}"
        self._prepare(event)

    def _prepare(self, started: ev.RunStarted) -> None:
        self.started = started
        self.seed, self.flags = started.seed, started.flags
        keep_order()
        keep_generators()
        self.loop = WorkflowLoop(self, started.seed & 0xFFFFFFFF)
        self.mailbox = Mailbox(self.loop.create_future)
        self.overrides = dict(started.overrides)
        if self.flags & ~flags.KNOWN:
            self.mismatch = started_by_newer(started)
        if started.deadline is not None:
            self._allowed = started.deadline - max(started.at, started.start_at or 0)

    # --- one event each ---------------------------------------------------------------------------

    def _run_started(self, event: ev.RunStarted) -> None:
        if event.start_at is not None and event.start_at > event.at:
            self._internal_timer("start", event.start_at, lambda: self._start_main(event.input))
        else:
            self._start_main(event.input)

    def _start_main(self, input: Raw) -> None:
        deadline = self.started.deadline
        if deadline is not None and self.cancelled is None:
            self._internal_timer("deadline", deadline, self._deadline_passed)
        if self.cancelled is not None:
            self._arm_grace(self.cancelled.at)
        try:
            args, kwargs = self.program.codec.decode_input(input)
            coro = self.program.fn(*args, **kwargs)
        except Exception as e:
            self._end_with(ev.RunFailed(0, capture(e)))
            return
        self.main = self._function = self.loop.new_task(coro, "main", Context())
        self.main.add_done_callback(self._main_done)
        if self.cancelled is not None:
            self.main.cancel()

    def _step_failed(self, event: ev.StepFailed) -> None:
        step = self.open.pop(event.step, None)
        if step is None or step.check != event.check:
            self._not_open(event, step)
            return
        if event.used is not None:
            self.spending.add(event.used, self.started.limits)
        error = restore(event.failure)
        if isinstance(error, AobError) and error.step is None:
            error.step = event.step
        self.step_errors = [*(self.step_errors or [])[-31:], (error, event.step)]
        if event.failure.type == CANCELLED:
            step.stop_waiting()
        else:
            step.set_exception(error)
            step.exception()  # nobody is told that it was never retrieved: the history has it

    def _step_scheduled(self, event: ev.StepScheduled) -> None:
        step = self.open.get(event.step)
        if step is None or step.check != event.check:
            self._not_open(event, step)
        else:
            step.scheduled = event.at

    def _step_started(self, event: ev.StepStarted) -> None:
        step = self.open.get(event.step)
        if step is None:
            self._not_open(event, None)
        else:
            step.attempt = event.attempt
            step.first_start = step.first_start or event.at

    def _attempt_failed(self, event: ev.AttemptFailed) -> None:
        step = self.open.get(event.step)
        if step is None:
            self._not_open(event, None)
        else:
            step.attempt, step.due = event.attempt + 1, event.due
            step.failure, step.heartbeat = event.failure, msgspec.json.decode(event.heartbeat)
            step.first_start = step.first_start or event.first_start

    def _timer_fired(self, event: ev.TimerFired) -> None:
        timer = self.timers.fired(event.step, event.due)
        if timer is not None:
            self.loop.ready.append(timer)
        elif self.replaying and event.step in self.timers.outstanding():
            self.mismatch = mismatch(self, event, None)
        else:
            self._not_open(event, None)

    def _signal_received(self, event: ev.SignalReceived) -> None:
        if event.update is None:
            self.mailbox.deliver(event.name, event.payload)
        else:
            self.loop.new_task(self.handlers.answer(event, self._update_answered), event.update, Context())

    def _update_completed(self, event: ev.UpdateCompleted) -> None:
        if self.handlers.answers.pop(event.step, None) is None and self.replaying:
            self._not_open(event, None)

    def _checkpoint(self, event: ev.Checkpoint) -> None:
        if self._held is None:
            self._not_open(event, None)
            return
        carry = carry_of(event)
        held, self._held, self._restart = self._held, None, None
        self.counters = carry.counters
        self.seed, self._random = carry.seed, None
        self.mailbox.restore(carry.mailbox)
        spending = self.spending
        spending.steps, spending.children, spending.exhausted = carry.steps, carry.children, carry.exhausted
        spending.spare, spending.deepest = carry.spare, carry.deepest
        self.cancelled, self.compensated = carry.cancel, carry.compensated
        self._forget_pass()
        if carry.fork is not None and carry.fork is not self._fork:
            self._take_name(carry.fork)
        if carry.deadline != self.started.deadline:
            self.started = msgspec.structs.replace(self.started, deadline=carry.deadline)
        self.state = event.state
        self.loop.number_anew()
        self._start_main(self.started.input)
        self.loop.drain()
        for later, seq, value in held:
            self.apply(later, seq, value)

    def _forget_pass(self) -> None:
        """What belonged to the pass that ended: other tasks, timers, handlers, what was emitted and changed."""
        self._close_tasks()
        self.timers.clear()
        self._conditions = None
        if self._handlers is not None:
            self._handlers.forget_pass()
        if self._recorded is not None:
            self._recorded.forget_pass()

    def _reopened(self, event: ev.RunReopened) -> None:
        """What was set aside was not applied. Time limits count anew. A fork takes its own name, and what was in flight
        starts anew; of a run that is retried, its tickets are opened again, and its children too (`due` says since
        when)."""
        if self._allowed is not None:
            self._set_deadline(event.at + self._allowed)
        if self.cancelling:
            self._arm_grace(event.at)
        if event.fork is not None:
            self._take_name(event.fork)
            self.seed, self._random = event.fork.seed, None
        for step in self.open.values():
            if event.fork is not None:
                step.attempt, step.due, step.first_start, step.scheduled = 1, 0, 0, 0
            elif step.kind == "ticket":
                step.scheduled = 0
            elif step.kind == "child":
                step.due = event.at

    def _set_deadline(self, deadline: int) -> None:
        self.started = msgspec.structs.replace(self.started, deadline=deadline)
        self.timers.drop("deadline#")
        if self.main is not None and self.cancelled is None:
            self._internal_timer("deadline", deadline, self._deadline_passed)

    def _take_name(self, fork: ev.Fork) -> None:
        self._fork = fork
        self.started = msgspec.structs.replace(
            self.started,
            run_id=fork.run_id,
            birth=fork.birth,
            parent=None,
            parent_step=None,
            attributes=fork.attributes,
        )
        self.overrides = dict(fork.overrides)

    def _ends_hold(self, event: ev.Event) -> bool:
        """Events are held while a checkpoint is being committed, and during a pause (which these end)."""
        kind = type(event)
        if self._restart is not None:
            return kind is ev.Checkpoint
        if kind is ev.TimerFired:
            return getattr(event, "step", "").startswith(URGENT)
        if kind is ev.UpdateCompleted:  # an update that came before the pause was answered in it
            return getattr(event, "step", "") in self.handlers.answers
        return kind in (ev.Checkpoint, ev.Resumed, ev.CancelRequested, ev.RunReopened) or event.KIND in ev.TERMINAL

    def _pause(self, event: ev.Paused) -> None:
        self.paused, self._held = True, []

    def _unpause(self, by: ev.Event) -> None:
        held, self._held = self._held or [], None
        self.paused = False
        if by.KIND in ev.TERMINAL:
            return
        for event, seq, value in held:
            self.apply(event, seq, value)

    def _cancel_requested(self, event: ev.CancelRequested) -> None:
        if self.cancelling or self.ended is not None:
            return
        self.cancelled = event
        if self.main is None:
            self._end_with(stopped(self, event))
            return
        self._arm_grace(event.at)
        self.main.cancel()

    @property
    def cancelling(self) -> bool:
        """The run was asked to stop, and its function has not said that it goes on (with `uncancel`)."""
        went_on = self._function is not None and self._function.cancelling() == 0
        return self.cancelled is not None and not went_on

    def _arm_grace(self, since: int) -> None:
        self.timers.drop("grace#")
        self._internal_timer("grace", since + round(self.program.cancel_grace * 1e6), self._grace_passed)

    # --- cancellation and ends --------------------------------------------------------------------

    def _deadline_passed(self) -> None:
        self._cancel_requested(ev.CancelRequested(self.loop.now_us, "timeout", timed_out="timeout"))

    def _grace_passed(self) -> None:
        if self.ended is None and self.cancelled is not None and self.cancelling:
            self._end_with(stopped(self, self.cancelled))

    def _main_done(self, task: asyncio.Task[Any]) -> None:
        if self.closing or self.ended is not None or task is not self.main:
            return
        error = None if task.cancelled() else task.exception()
        if self._restart is not None:  # however the function took it
            if not self.replaying:
                self.commands.append(self._checkpoint_event())
            return
        failed = task.cancelled() or error is not None
        if failed and self.compensations:
            undo, self.compensations = self.compensations, None
            self.main = self.loop.new_task(self._compensate(undo, task), "compensate", Context())
            self.main.add_done_callback(self._main_done)
            return
        self._end_with(outcome(self, task, error))

    async def _compensate(self, undo: list[Undo], task: asyncio.Task[Any]) -> Any:
        self.compensated = True
        try:
            await undo_all(undo)
        except asyncio.CancelledError:
            pass  # the run is ending anyway, as the function left it
        except Exception as e:
            e.__context__ = None if task.cancelled() else task.exception()
            raise
        return await task

    def _end_with(self, event: End) -> None:
        event.used = self.used()
        self.ended = event
        if not self.replaying:
            self.commands.append(event)

    def used(self) -> dict[str, int]:
        """What a child used up of its parent's limits."""
        limits = self.started.limits
        if self.started.parent is None or not limits:
            return {}
        return self.spending.used(limits)

    def loop_failed(self, error: BaseException) -> None:
        """Something escaped from the run's loop: the run fails with it."""
        if self.ended is None and not self.closing and self.mismatch is None:
            self._end_with(ev.RunFailed(0, capture(error), None, self.compensated))

    def _terminal(self, event: ev.Event) -> None:
        if (self.replaying and self.ended is None and type(event) in (ev.RunCompleted, ev.RunFailed)) or (
            type(event) is ev.RunCompleted
            and self.replaying
            and (type(self.ended) is not ev.RunCompleted or bytes(self.ended.result) != bytes(event.result))
        ):
            self._not_open(event, None)
        self.ended = event

    # --- steps ------------------------------------------------------------------------------------

    def schedule(self, call: StepCall) -> Step:
        """Give a call its id and make it a step that is open."""
        if self.closing or self._held is not None or self.read_only:
            self._refused += 1
            if self._refused < _DEAF_AFTER or self.read_only:
                self._refuse_call(call.name)
            return cast(Step, self.loop.create_future())
        name = call.name
        spending, limits = self.spending, self.started.limits
        spending.steps += 1
        if limits and spending.step(limits):
            if self.ended is None:
                self._end_with(exhausted(self))
            return cast(Step, self.loop.create_future())
        if call.kind == "child":
            spending.child(limits)
        k = self.counters.get(name, 0) + 1
        self.counters[name] = k
        loop = self.loop
        step = Step.__new__(Step)
        step.number = call.number
        asyncio.Future.__init__(step, loop=loop)  # pyright: ignore
        step.id = id = f"{name}#{k}"
        step.kind = call.kind
        step.input = call.input
        step.check = crc32(call.input)
        step.plan = call.plan
        step.decode = call.decode
        step.machine = self
        step.attempt = 1
        step.due = step.first_start = step.scheduled = 0
        step.live = step.heartbeat = step.failure = None
        step.started = step.stopping = False
        step.wait_on_cancel = call.wait_on_cancel
        self.open[id] = step
        if not self.replaying:
            self.commands.append(step)
        return step

    def abandon(self, step: Step) -> None:
        """The workflow no longer waits for this step."""
        if self.open.pop(step.id, None) is None or self.closing:
            return
        if self.replaying:
            if step.kind in ("child", "ticket"):
                self._dropped = [*(self._dropped or ()), step]
            return
        if step in self.commands:
            self.commands.remove(step)
        else:
            self.commands.append(Abandon(step, wait=False))

    def ask_to_stop(self, step: Step) -> None:
        """The attempt is told to stop; its end is waited for."""
        step.stopping = True
        if not self.replaying:
            self.commands.append(Abandon(step, wait=True))

    def undo_list(self) -> list[Undo]:
        """Where compensations of the whole run are registered."""
        if self.compensations is None:
            self.compensations = []
        return self.compensations

    def _refuse_call(self, name: str) -> NoReturn:
        if self.closing:
            raise Evicted
        if self.read_only:
            raise BadDefinition(f"{name} was called in a query, validator or predicate; these only read")
        raise Restart

    # --- timers -----------------------------------------------------------------------------------

    def start_timer(
        self,
        due_us: int,
        fn: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
        name: str = "timer",
    ) -> TimerHandle:
        """A durable timer; `fn(*args)` runs when its event is applied."""
        if self.closing or self.read_only:
            self._refuse_call("a timer")
        k = self.counters.get(name, 0) + 1
        self.counters[name] = k
        due = max(due_us, self.loop.now_us)
        if self.timers is NO_TIMERS:
            self.timers = Timers()
        timer = TimerHandle(f"{name}#{k}", due, self.timers.cancelled, fn, args, context)
        self.timers.add(timer)
        return timer

    def _internal_timer(self, name: str, due_us: int, fn: Callable[[], None]) -> None:
        self.start_timer(due_us, fn, (), Context(), name)

    # --- waiting ----------------------------------------------------------------------------------

    def wait_until(self, predicate: Callable[[], Any]) -> asyncio.Future[None]:
        """A future that is done once the predicate is true."""
        future = self.loop.create_future()
        if holds(self, predicate):
            future.set_result(None)
        else:
            if self._conditions is None:
                self._conditions = Conditions()
            self._conditions.add(predicate, future)
        return future

    # --- queries and updates ----------------------------------------------------------------------

    @property
    def handlers(self) -> Handlers:
        """The run's query and update handlers."""
        if self._handlers is None:
            self._handlers = Handlers()
        return self._handlers

    @property
    def recorded(self) -> Recorded:
        """What the history says of emits and changes."""
        if self._recorded is None:
            self._recorded = Recorded()
        return self._recorded

    def query(self, name: str, args: list[Raw], kwargs: dict[str, Raw]) -> Any:
        """The answer of a query handler to arguments in JSON; nothing is written.

        Raises:
            QueryNotFound: the run has no such query.
            BadInput, BadPayload: the arguments do not fit it.
        """
        handler = self.handlers.query(name)
        return self._reading(handler, *self.handlers.query_args(name, args, kwargs))

    def check_update(self, name: str, args: list[Raw], kwargs: dict[str, Raw]) -> Raw:
        """Run an update's validator on arguments in JSON; what it raises refuses the update, and has `UpdateRefused` as
        its cause.

        Returns:
            The arguments by parameter name, as they are recorded.

        Raises:
            QueryNotFound: the run has no such update.
            BadInput, BadPayload: the arguments do not fit it.
        """
        update = self.handlers.update(name)
        payload = update.codec.bind_wire(args, kwargs)
        bound = update.codec.decode_args(payload)
        if update.check is not None:
            with refused(name):
                self._reading(update.check, *bound)
        return payload

    def _reading(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        outer = _get_running_loop()
        _set_running_loop(self.loop)
        self.read_only = True
        try:
            return Context().run(fn, *args, **kwargs)
        finally:
            self.read_only = False
            _set_running_loop(outer)

    def _update_answered(self, answer: ev.UpdateCompleted) -> None:
        if not self.replaying:
            self.commands.append(answer)

    # --- what workflow code asks for --------------------------------------------------------------

    def random(self) -> random.Random:
        """The run's own random stream."""
        if self.read_only:
            self._refuse_call("random")
        if self._random is None:
            self._random = random.Random(self.seed)
        return self._random

    def emit(self, name: str, data: bytes) -> None:
        """A durable event for watchers, unless the history has it."""
        if self.closing or self.read_only:
            self._refuse_call("emit")
        if self.recorded.emits_anew(name):
            self.commands.append(ev.Emitted(0, name, Raw(data)))

    def changed(self, change_id: str) -> bool:
        """True, and recorded, when reached live; on replay what the history says."""
        if self.closing or self.read_only:
            self._refuse_call("changed")
        answer, is_new = self.recorded.changed(change_id, live=not self.replaying or self.seq == self._last)
        if is_new:
            self.commands.append(ev.Changed(0, change_id))
        return answer

    def checkpoint(self, state: bytes) -> NoReturn:
        """End this pass of the function.

        Raises:
            CheckpointBusy: something is outstanding that cannot be kept, or this is not the main task.
        """
        if self.closing or self._held is not None:
            self._refuse_call("checkpoint")
        refuse_busy(self, self._handlers.running if self._handlers else ())
        self._held, self._restart = [], Raw(state)
        raise Restart

    def _checkpoint_event(self) -> ev.Checkpoint:
        assert self._restart is not None
        seed = self._random.getrandbits(63) if self._random is not None else self.seed
        carry = Carry(
            self.seq,
            dict(self.counters),
            seed,
            self.mailbox.unread(),
            self.spending.steps,
            self.spending.children,
            self.spending.exhausted,
            self.cancelled if self.cancelling else None,
            self.compensated,
            self.spending.spare,
            self.started.deadline,
            self._fork,
            self.spending.deepest,
        )
        return ev.Checkpoint(0, self._restart, Raw(msgspec.json.encode(carry)))

    # --- the end ----------------------------------------------------------------------------------

    @property
    def begun(self) -> bool:
        """The function runs: it has been started, and no checkpoint is about to start it again."""
        return self.seq > 0 and self._restart is None

    def waiting(self) -> bool:
        """Nothing to do but wait: for a timer, a message, a person or a child, once it is on record that these were
        asked for."""
        return not any(s.kind in _AT_WORK or (s.kind in _ASKED_FOR and not s.scheduled) for s in self.open.values())

    def close(self) -> None:
        """Leave memory without running anything durable; sync `finally` blocks of the code do run."""
        if self.closing:
            return
        self.closing = True
        if self.seq:
            if self.loop.live_tasks():
                self._close_tasks(for_good=True)
            self.loop.detach()
            self.main = self._function = None
        self.commands.clear()
        self.open.clear()
        self.timers.clear()
        self._conditions = None

    def _close_tasks(self, for_good: bool = False) -> None:
        closing, self.closing = self.closing, True
        try:
            self.loop.close_tasks(for_good)
        finally:
            self.closing = closing

    def _not_open(self, event: ev.Event, step: Step | None) -> None:
        """An event about a step that is not open: late, or never asked for."""
        if step is not None or (self.replaying and not was_asked_for(self, event)):
            self.mismatch = mismatch(self, event, step)


_APPLY: dict[type[ev.Event], Callable[[Machine, Any], None]] = {
    ev.RunStarted: Machine._run_started,
    ev.StepFailed: Machine._step_failed,
    ev.StepScheduled: Machine._step_scheduled,
    ev.StepStarted: Machine._step_started,
    ev.AttemptFailed: Machine._attempt_failed,
    ev.TimerFired: Machine._timer_fired,
    ev.SignalReceived: Machine._signal_received,
    ev.UpdateCompleted: Machine._update_completed,
    ev.Checkpoint: Machine._checkpoint,
    ev.RunReopened: Machine._reopened,
    ev.Paused: Machine._pause,
    ev.CancelRequested: Machine._cancel_requested,
    ev.RunCompleted: Machine._terminal,
    ev.RunFailed: Machine._terminal,
    ev.RunCancelled: Machine._terminal,
    ev.RunTerminated: Machine._terminal,
    ev.RunTimedOut: Machine._terminal,
}
