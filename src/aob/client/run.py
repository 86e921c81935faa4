"""A handle of one run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from msgspec import Raw

from aob.client.views import Event, RunSummary, event_view, summary_view
from aob.engine.active import ActiveRun
from aob.engine.forks import ForkRequest
from aob.engine.host import Host
from aob.engine.ids import check_run_id
from aob.engine.inbox import Call, Reason, Signal
from aob.engine.updates import answer_or_raise
from aob.errors import (
    ActivityFailed,
    LeaseLost,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunNotFound,
    RunTerminated,
    RunTimedOut,
    UpdateRefused,
)
from aob.kernel import events as ev
from aob.kernel.codec import codec_for
from aob.kernel.failures import restore
from aob.kernel.states import TERMINAL_STATES
from aob.kernel.texts import check_text
from aob.stores.rows import RunRow
from aob.workflow.definitions import Workflow

if TYPE_CHECKING:
    from aob.client.client import Client

R = TypeVar("R")
_LOOK_AGAIN = 0.25


class Run(Generic[R]):
    """A run of a workflow. Made by `client.start` and `client.get`."""

    def __init__(
        self,
        client: Client,
        tenant: str,
        run_id: str,
        workflow: Workflow[..., R] | None,
        active: ActiveRun | None = None,
    ) -> None:
        self.run_id = run_id
        self.tenant = tenant
        self._client = client
        self._workflow = workflow
        self._active = active

    def __repr__(self) -> str:
        return f"<run {self.run_id}>"

    # --- reading ----------------------------------------------------------------------------------

    async def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the run's end and return its result.

        Args:
            timeout: seconds (or a timedelta) to wait at most.

        Raises:
            RunFailed: it failed; the error that ended it is the `__cause__`.
            RunCancelled, RunTerminated, RunTimedOut: kinds of `RunFailed`.
            TimeoutError: it has not ended in time.
        """
        if timeout is None:
            return self._outcome(await self._end())
        async with asyncio.timeout(timeout.total_seconds() if isinstance(timeout, timedelta) else timeout):
            return self._outcome(await self._end())

    async def _end(self) -> ev.Event:
        active = self._active or self._client.watching.active(self.tenant, self.run_id)
        while active is not None:
            if active.terminal is not None and self._client.watching.final(self.tenant, self.run_id):
                return active.terminal
            if active.gone or active.terminal is not None:
                break
            await active.end()
        while True:
            waiting = self._client.watching.next_commit(self.tenant, self.run_id)
            row = await self._row()
            if row.status in TERMINAL_STATES:
                event = await self._client.history.terminal(row)
                if event is not None:
                    return event
            await self._client.watching.wait(waiting, _LOOK_AGAIN)

    def _outcome(self, event: ev.Event) -> R:
        if isinstance(event, ev.RunCompleted):
            if self._workflow is not None:
                return self._workflow.codec.result.decode(event.result)
            return msgspec.json.decode(event.result)
        raise self._failure(event)

    def _failure(self, event: ev.Event) -> RunFailed:
        details = ev.event_data(event)
        if isinstance(event, ev.RunFailed):
            cause = restore(event.failure)
            error = RunFailed(
                f"the run failed: {event.failure.type.rpartition(':')[2]}: {event.failure.message}",
                details=details, run_id=self.run_id, step=event.step,
            )  # fmt: skip
            error.__cause__ = cause
            return error
        if isinstance(event, ev.RunTimedOut):
            return RunTimedOut(f"the run passed its {event.limit}", details=details, run_id=self.run_id)
        reason = getattr(event, "reason", "")
        if isinstance(event, ev.RunTerminated):
            return RunTerminated(f"the run was terminated: {reason}", details=details, run_id=self.run_id)
        return RunCancelled(f"the run was cancelled: {reason}", details=details, run_id=self.run_id)

    async def status(self) -> str:
        """The run's state."""
        return (await self.summary()).status

    async def summary(self) -> RunSummary:
        """The run as a list shows it.

        Raises:
            RunNotFound: it was deleted.
        """
        host = self._client.host()
        active = host.residents.by_id.get((self.tenant, self.run_id)) if host is not None else None
        row = await self._row()
        machine = active.machine if active is not None and active.busy == active.pending == 0 else None
        if machine is not None and row.status == "running" and machine.waiting():
            row.status, row.due = "waiting", machine.timers.next_due()
        return summary_view(row, self._client.payloads.shown_text)

    async def history(self) -> list[Event]:
        """The events so far, in order."""
        row = await self._row()
        return [event_view(e, seq) async for e, seq in self._client.history.read(row)]

    async def events(self, after: int = 0, live: bool = False) -> AsyncIterator[Event]:
        """Events with `seq > after`: those there are, then each as it is committed, until the run has ended.

        Args:
            live: also yield what attempts emit while they run, with kind `stream` and no `seq`.

        Raises:
            RunNotFound: there is no such run, or it was deleted before all was read.
        """
        row = await self._row()
        with self._client.watching.live(self.tenant, self.run_id, live) as stream:
            while True:
                waiting = self._client.watching.next_commit(self.tenant, self.run_id)
                ended = False
                async for event, seq in self._client.history.read(row, after):
                    after = seq
                    ended = event.KIND in ev.TERMINAL
                    yield event_view(event, seq)
                if ended:
                    return
                row = await self._row(row)
                if row.status in TERMINAL_STATES and not await self._client.store.events(row.key, after, 1):
                    return
                for item in stream.take():
                    yield item
                await self._client.watching.wait(waiting, _LOOK_AGAIN, stream)
                for item in stream.take():
                    yield item

    async def _row(self, before: RunRow | None = None) -> RunRow:
        row = await self._client.store.get_run(self.tenant, self.run_id)
        if row is None:
            raise RunNotFound(f"no run {self.run_id!r} of tenant {self.tenant!r}", run_id=self.run_id)
        if before is not None and row.key != before.key:
            raise RunNotFound(f"run {self.run_id!r} was deleted, and its id is another run's now", run_id=self.run_id)
        return row

    # --- talking to it ----------------------------------------------------------------------------

    async def signal(self, name: str, payload: object = None, id: str | None = None) -> None:
        """Send a signal; durable when it returns.

        Args:
            payload: its type is the value's own; plain JSON, models, dataclasses.
            id: makes a repeated signal count once.

        Raises:
            RunFinished: the run has ended.
        """
        check_text("signal", name, id)
        data = Raw(codec_for(annotation_of(payload), f"signal {name}").encode_checked(payload)[0])
        host = self._client.host()
        if host is not None:
            with suppress(LeaseLost):  # another process owns it now, and nothing was written here
                await host.controls.signals.signal_run(self.tenant, self.run_id, name, data, id)
                return
        row = await self._row()
        if row.status in TERMINAL_STATES:
            raise RunFinished(
                f"run {self.run_id!r} has ended ({row.status}), so it takes no signals", run_id=self.run_id
            )
        await self._client.owner.tell(self.tenant, self.run_id, "signal", Signal(name, data, id))

    async def query(self, name: str, *args: object, **kwargs: object) -> Any:
        """Read the run's state; nothing is written. On an ended run it is answered by replaying it.

        Raises:
            QueryNotFound: the workflow has no such query.
            NoWorker: nobody serves its code.
        """
        payload = _call(args, kwargs)
        body = Call(name, payload)
        answer = await self._ask(
            "query", body, lambda h: h.controls.queries.query(self.tenant, self.run_id, name, payload)
        )
        return msgspec.json.decode(bytes(answer))

    async def update(self, name: str, *args: object, id: str | None = None, **kwargs: object) -> Any:
        """Change the run's state and get an answer.

        Args:
            id: makes a repeated update count once; the repetition gets the same answer.

        Raises:
            QueryNotFound, RunFinished, NoWorker, and what the update or its validator raised; the latter with
                `UpdateRefused` as its cause, or that itself where the error's class is not known here.
        """
        check_text("update", name, id)
        payload = _call(args, kwargs)
        body = Call(name, payload, id or self._client.process.new_id(16))

        async def here(host: Host) -> ev.UpdateCompleted:
            return await host.controls.updates.update(self.tenant, self.run_id, name, payload, body.id)

        try:
            answer = await self._ask("update", body, here)
        except Exception as e:
            refusal = refusal_behind(e)
            if refusal is None:
                raise
            if isinstance(e, ActivityFailed):
                raise refusal from None
            raise e from refusal
        if not isinstance(answer, ev.UpdateCompleted):
            answer = msgspec.json.decode(bytes(answer), type=ev.UpdateCompleted)
        return answer_or_raise(answer)

    # --- control ----------------------------------------------------------------------------------

    async def cancel(self, reason: str = "") -> None:
        """Ask the run to stop: `asyncio.CancelledError` is raised in it; it may clean up for `cancel_grace` seconds."""
        check_text("reason", reason)
        host = self._client.host()
        if host is not None:
            with suppress(LeaseLost):
                await host.controls.stops.cancel(self.tenant, self.run_id, reason)
                return
        await self._row()
        await self._client.owner.tell(self.tenant, self.run_id, "cancel", Reason(reason))

    async def terminate(self, reason: str = "") -> None:
        """End the run at once; none of its code runs.

        Raises:
            RunFinished: it has ended otherwise.
        """
        check_text("reason", reason)
        await self._ask(
            "terminate", Reason(reason), lambda h: h.controls.stops.terminate(self.tenant, self.run_id, reason)
        )

    async def pause(self, reason: str = "") -> None:
        """Dispatch nothing new until `resume`; attempts in flight finish."""
        check_text("reason", reason)
        await self._ask("pause", Reason(reason), lambda h: h.controls.stops.pause(self.tenant, self.run_id, reason))

    async def resume(self) -> None:
        """Go on after `pause`; a parked run is tried again."""
        await self._ask("resume", Reason(), lambda h: h.controls.stops.resume(self.tenant, self.run_id))

    async def retry(self) -> None:
        """Go on from the failed step of a failed run; finished steps are kept.

        Raises:
            NotFinished, RunFinished, AlreadyCompensated.
        """
        await self._ask("retry", Reason(), lambda h: h.controls.retries.retry(self.tenant, self.run_id))
        self._active = None

    async def fork(
        self,
        at: str | None = None,
        overrides: Mapping[str, object] | None = None,
        input: object = None,
        run_id: str | None = None,
    ) -> Run[R]:
        """A new run that shares this one's history up to the step `at` (or to the first overridden step, if earlier).

        Args:
            at: step id (`name#k`) that is to be done again.
            overrides: results by step id, given instead of calling the step.
            input: another input: then nothing is shared, and only `overrides` stand for steps.
            run_id: the new run's id.

        Raises:
            StepNotFound, RunExists, BadRunId.
        """
        new_id = (
            check_run_id(run_id) if run_id is not None else f"{self.run_id[:150]}.fork-{self._client.process.new_id(8)}"
        )
        given = {
            k: Raw(codec_for(annotation_of(v), f"override {k}").encode_checked(v)[0])
            for k, v in (overrides or {}).items()
        }
        other = ev.NULL if input is None else Raw(self._encode_input(input))
        request = ForkRequest(run_id=new_id.replace("~", "."), at=at, overrides=given, input=other)
        await self._ask("fork", request, lambda h: h.controls.forks.fork(self.tenant, self.run_id, request))
        return Run(self._client, self.tenant, request.run_id or new_id, self._workflow)

    def _encode_input(self, value: object) -> bytes:
        if self._workflow is not None and len(self._workflow.codec.names) == 1:
            return self._workflow.codec.encode_input((value,), {})
        return codec_for(annotation_of(value), "input").encode_checked(value)[0]

    async def _ask(self, kind: str, body: Any, here: Callable[[Host], Awaitable[Any]]) -> Any:
        await self._row()
        return await self._client.owner.ask(self.tenant, self.run_id, kind, body, here)


def annotation_of(value: object) -> Any:
    """How to encode a value of which no annotation tells: plain JSON as it is, else by its own type."""
    return Any if value is None or isinstance(value, dict | list | tuple | str | int | float | bool) else type(value)


def refusal_behind(error: BaseException | None) -> UpdateRefused | None:
    """That a validator refused an update, where this is the cause of an error."""
    while error is not None and not isinstance(error, UpdateRefused):
        error = error.__cause__
    return error


def _call(args: tuple[object, ...], kwargs: dict[str, object]) -> Raw:
    items = [bytes(codec_for(annotation_of(a), "argument").encode_checked(a)[0]) for a in args]
    named = {k: Raw(codec_for(annotation_of(v), f"argument {k}").encode_checked(v)[0]) for k, v in kwargs.items()}
    return Raw(msgspec.json.encode([[Raw(i) for i in items], named]))
