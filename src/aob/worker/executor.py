"""Runs attempts of activities in this process.

A task for each attempt would cost more than the rest of a short step, so tasks are kept and reused: a runner takes
attempts
from one queue, and wakes the next runner before it begins one that may have to wait. A runner whose attempt left a
trace (a changed context variable, a pending cancel) is not used again.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from contextvars import Context, copy_context
from typing import Any

from aob.clock import Clock
from aob.engine.active import ActiveRun
from aob.engine.executor import Outcomes
from aob.engine.ids import idempotency_key
from aob.errors import HeartbeatTimeout, StepTimeout
from aob.kernel.codec import codec_for
from aob.kernel.steps import Step
from aob.process import Process
from aob.settings import Settings
from aob.worker.deadlines import Deadlines
from aob.workflow.attempt import Info, current_attempt
from aob.workflow.definitions import ActivityPlan

_BURST = 200


class LiveAttempt:
    """One try at a step; see `aob.engine.executor.Attempt` and `aob.workflow.attempt.AttemptContext`."""

    __slots__ = (
        "beat_due",
        "due",
        "executor",
        "number",
        "outcomes",
        "plan",
        "run",
        "runner",
        "started_us",
        "step",
        "stopped",
        "stopping",
        "timed_out",
    )

    def __init__(
        self, executor: LocalExecutor, run: ActiveRun, step: Step, outcomes: Outcomes, started_us: int
    ) -> None:
        self.executor = executor
        self.run = run
        self.step = step
        self.plan: ActivityPlan = step.plan
        self.number = step.attempt
        self.outcomes = outcomes
        self.started_us = started_us
        self.stopping = False
        self.stopped: list[bool] = []
        self.timed_out: str | None = None
        self.runner: asyncio.Task[None] | None = None
        self.due: float | None = None
        self.beat_due: float | None = None

    def info(self) -> Info:
        run, step = self.run, self.step
        machine = run.machine
        assert machine is not None
        started = machine.started
        return Info(
            run_id=run.run_id,
            tenant=run.tenant,
            workflow=run.row.workflow,
            step=step.id,
            attempt=self.number,
            idempotency_key=idempotency_key(run.tenant, run.run_id, started.birth, step.id),
            heartbeat=step.heartbeat,
            _cancelled=self.stopped,
        )

    def heartbeat(self, details: Any) -> None:
        copy = codec_for(Any, f"heartbeat of {self.step.id}").encode_checked(details)[1]
        self.executor.call(self._beat, copy)

    def _beat(self, details: Any) -> None:
        if self.stopped:
            return  # the next attempt may be running
        self.step.heartbeat = details
        if self.plan.heartbeat_timeout is not None and self.beat_due is not None:
            self.executor.watch_beat(self)

    def emit(self, name: str, data: Any) -> None:
        body = codec_for(Any, f"emit {name}").encode_checked(data)[0]
        self.executor.call(self.executor.streamed, self, name, body)


class LocalExecutor:
    """See `aob.engine.executor.Executor`.

    Args:
        streamed: called with (attempt, name, JSON) for what activities emit.
    """

    def __init__(self, clock: Clock, process: Process, settings: Settings) -> None:
        self._clock = clock
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._queue: deque[LiveAttempt] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._waking = False
        self._runners: set[asyncio.Task[None]] = set()
        self._live: dict[LiveAttempt, None] = {}
        self._threads = process.threads(settings.threads, "aob-activity")
        self._deadlines = Deadlines(clock, self._passed)
        self._scan: Any = None
        self._draining = False
        self._closing = False
        self.listeners: list[Any] = []

    # --- Executor ---------------------------------------------------------------------------------

    def start(self, run: ActiveRun, step: Step, outcomes: Outcomes) -> LiveAttempt:
        """See `Executor.start`."""
        attempt = LiveAttempt(self, run, step, outcomes, self._clock.now_us())
        if self._draining:
            return attempt  # the next owner makes it
        self._queue.append(attempt)
        if not self._waking:
            self._wake()
        return attempt

    def stop(self, attempt: Any) -> None:
        """See `Executor.stop`."""
        if attempt.stopping:
            return
        attempt.stopping = True
        attempt.stopped.append(True)
        if attempt.runner is not None:
            attempt.runner.cancel()
        elif attempt in self._queue:
            self._queue.remove(attempt)
            self._loop.call_soon(attempt.outcomes.attempt_stopped, attempt)

    # --- runners ----------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._waking = True
        while self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
                return
        if len(self._runners) < self._settings.max_attempts_in_flight:
            task = self._loop.create_task(self._runner(), context=Context())
            self._runners.add(task)
            task.add_done_callback(self._runner_ended)
        else:
            self._waking = False

    def _runner_ended(self, task: asyncio.Task[None]) -> None:
        self._runners.discard(task)
        if self._queue and not self._waking and not self._closing:
            self._wake()

    async def _runner(self) -> None:
        queue, me = self._queue, asyncio.current_task()
        assert me is not None
        clean = copy_context()
        while not self._closing:
            self._waking = False
            burst = 0
            while queue:
                attempt = queue.popleft()
                if queue and not self._waking:
                    self._wake()
                attempt.runner = me
                await self._run(attempt)
                attempt.runner = None
                if me.cancelling() or copy_context() != clean:
                    if queue and not self._waking:
                        self._wake()
                    return
                burst += 1
                if burst >= _BURST:
                    burst = 0
                    await asyncio.sleep(0)
            waiter = self._loop.create_future()
            self._idle.append(waiter)
            await waiter

    async def _run(self, attempt: LiveAttempt) -> None:
        plan, step = attempt.plan, attempt.step
        if plan.timeout is not None or plan.total_timeout is not None or plan.heartbeat_timeout is not None:
            self._watch(attempt)
        self._live[attempt] = None
        if self._scan is None:
            self._scan = self._clock.call_later(self._settings.long_step_after / 2, self._look_for_long)
        token = current_attempt.set(attempt)
        try:
            args, kwargs = plan.codec.decode_args(step.input)
            if plan.is_async:
                result = await plan.fn(*args, **kwargs)
            else:
                result = await self._in_thread(attempt, args, kwargs)
            data, value = plan.codec.result.encode_checked(result)
        except asyncio.CancelledError as e:
            self._live.pop(attempt, None)
            self._cancelled(attempt, e)
        except Exception as e:
            self._live.pop(attempt, None)
            attempt.outcomes.attempt_failed(attempt, e)
        except SystemExit as e:
            self._live.pop(attempt, None)
            attempt.outcomes.attempt_failed(attempt, RuntimeError(f"activity {plan.name} called sys.exit({e.code!r})"))
        else:
            self._live.pop(attempt, None)
            if attempt.timed_out is not None:
                attempt.outcomes.attempt_failed(attempt, _time_out(attempt))
            else:
                attempt.outcomes.attempt_succeeded(attempt, data, value)
        finally:
            current_attempt.reset(token)
            if attempt.due is not None or attempt.beat_due is not None:
                self._deadlines.forget(attempt)

    async def _in_thread(self, attempt: LiveAttempt, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A thread is only told to stop: a cancelled attempt lasts until it ends, one that timed out does not."""
        context, fn = copy_context(), attempt.plan.fn
        thread = self._loop.run_in_executor(self._threads, lambda: context.run(fn, *args, **kwargs))
        while not thread.done():
            try:
                await asyncio.wait([thread])
            except asyncio.CancelledError:
                if not attempt.stopping or attempt.timed_out is not None or self._closing:
                    raise
        result = thread.result()
        return await result if inspect.isawaitable(result) else result

    def _cancelled(self, attempt: LiveAttempt, error: asyncio.CancelledError) -> None:
        task = attempt.runner
        if attempt.timed_out is not None:
            if task is not None:
                task.uncancel()
            attempt.outcomes.attempt_failed(attempt, _time_out(attempt))
        elif attempt.stopping:
            if task is not None:
                task.uncancel()
            attempt.outcomes.attempt_stopped(attempt)
        elif self._closing:
            raise error
        else:
            failed = RuntimeError(f"activity {attempt.plan.name} raised CancelledError though nobody had cancelled it")
            attempt.outcomes.attempt_failed(attempt, failed)

    # --- deadlines --------------------------------------------------------------------------------

    def _watch(self, attempt: LiveAttempt) -> None:
        plan, now = attempt.plan, self._clock.monotonic()
        left = [] if plan.timeout is None else [plan.timeout]
        if plan.total_timeout is not None:
            first = attempt.step.first_start or attempt.started_us
            left.append(plan.total_timeout - (self._clock.now_us() - first) / 1e6)
        if left:
            attempt.due = now + max(min(left), 0)
            self._deadlines.add(attempt.due, attempt)
        if plan.heartbeat_timeout is not None:
            attempt.beat_due = 0.0
            self.watch_beat(attempt)

    def watch_beat(self, attempt: LiveAttempt) -> None:
        """The attempt is alive: its next heartbeat is due anew."""
        assert attempt.plan.heartbeat_timeout is not None
        attempt.beat_due = self._clock.monotonic() + attempt.plan.heartbeat_timeout
        self._deadlines.add(attempt.beat_due, attempt)

    def _passed(self, attempt: LiveAttempt, now: float) -> None:
        if attempt.runner is None or attempt.stopping or attempt.timed_out is not None:
            return
        if attempt.due is not None and attempt.due <= now:
            attempt.timed_out = "timeout"
        elif attempt.beat_due is not None and attempt.beat_due <= now:
            attempt.timed_out = "heartbeat"
        else:
            return
        attempt.stopped.append(True)
        attempt.runner.cancel()

    def _look_for_long(self) -> None:
        self._scan = None
        if not self._live or self._closing:
            return
        before = self._clock.now_us() - round(self._settings.long_step_after * 1e6)
        for attempt in list(self._live):
            if attempt.started_us <= before and not attempt.step.started:
                attempt.outcomes.attempt_is_long(attempt)
        self._scan = self._clock.call_later(self._settings.long_step_after / 2, self._look_for_long)

    # --- the rest ---------------------------------------------------------------------------------

    def call(self, fn: Any, *args: Any) -> None:
        """Call in the worker's loop, from whichever thread the activity runs in."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._loop:
            fn(*args)
        else:
            self._loop.call_soon_threadsafe(fn, *args)

    def streamed(self, attempt: LiveAttempt, name: str, body: bytes) -> None:
        """Hand live progress to whoever listens."""
        for listener in list(self.listeners):
            listener(attempt, name, body)

    async def close(self, drain: float) -> None:
        """Begin nothing new, wait up to `drain` seconds for the attempts in flight, then stop them.

        The next owner tries again what did not finish.
        """
        self._draining = True
        self._queue.clear()
        deadline = self._clock.monotonic() + drain
        while (self._live or self._queue) and self._clock.monotonic() < deadline:
            await self._clock.sleep(0.01)
        self._closing = True
        self._deadlines.stop()
        if self._scan is not None:
            self._scan.cancel()
        for attempt in self._live:
            attempt.stopped.append(True)
        runners = list(self._runners)
        for task in runners:
            task.cancel()
        await asyncio.gather(*runners, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)


def _time_out(attempt: LiveAttempt) -> Exception:
    plan = attempt.plan
    if attempt.timed_out == "heartbeat":
        return HeartbeatTimeout(f"activity {plan.name} did not heartbeat within {plan.heartbeat_timeout:g} s")
    limit = plan.timeout if plan.timeout is not None else plan.total_timeout
    return StepTimeout(f"activity {plan.name} ran longer than its timeout of {limit:g} s")
