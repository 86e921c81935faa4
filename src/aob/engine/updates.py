"""Updates: validated, recorded, carried out by the run's code, answered; and a repeated one gets the same answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from aob.engine.active import ActiveRun
from aob.engine.history import HistoryGone
from aob.engine.ids import storable_id
from aob.engine.queries import Arguments, program_of
from aob.engine.signals import Signals
from aob.errors import NoWorker, RunFinished
from aob.kernel import events as ev
from aob.kernel.failures import restore

if TYPE_CHECKING:
    from aob.engine.host import Host

Expected = asyncio.Future[ev.UpdateCompleted]


class Updates:
    """Brings updates to runs, and their answers back."""

    def __init__(self, host: Host, signals: Signals) -> None:
        self._host = host
        self._signals = signals
        self._waiting: dict[tuple[str, str, str], list[Expected]] = {}

    async def update(self, tenant: str, run_id: str, name: str, payload: Raw, id: str | None) -> ev.UpdateCompleted:
        """Validate an update, record it, and wait for its answer.

        Raises:
            RunFinished, QueryNotFound, NoWorker, and what the validator raises.
        """
        run = await self.begun(lambda: self._host.inbox.reach(tenant, run_id))
        step, repeated = self.record(run, name, payload, id)
        return await self.answer(run, step, repeated, self.expect(run, step))

    async def begun(self, reach: Callable[[], Awaitable[ActiveRun]]) -> ActiveRun:
        """The run that `reach` brings, once its code has begun; it stays in memory until the caller awaits again."""
        while True:
            run = await reach()
            machine = run.machine
            if machine is None or machine.begun or machine.mismatch is not None or run.ended:
                return run
            await run.next_commit()

    def record(self, run: ActiveRun, name: str, payload: Raw, id: str | None) -> tuple[str, bool]:
        """Validate an update of a run that has `begun` and put it into the next commit; its step, and whether it was
        there before."""
        host = self._host
        step = storable_id(f"update/{name}#{id or host.process.new_id(12)}")
        if id is not None and run.seen is not None and step in run.seen:
            return step, True
        if run.ended:
            raise RunFinished(
                f"run {run.run_id!r} has ended ({run.row.status}), so it takes no updates", run_id=run.run_id
            )
        machine = run.machine
        if machine is None or machine.mismatch is not None:
            program_of(host, run.row)
            raise NoWorker(f"run {run.run_id!r} is parked, so it takes no updates", run_id=run.run_id)
        bound = machine.check_update(name, *msgspec.json.decode(payload, type=Arguments))
        self._signals.counts(run, step if id is not None else None)
        host.record(run, ev.SignalReceived(0, name, bound, id, update=step))
        return step, False

    def expect(self, run: ActiveRun, step: str) -> Expected:
        """From now on an answer is noticed: call it where the update is recorded, with no await between."""
        future: Expected = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((run.tenant, run.run_id, step), []).append(future)
        return future

    async def answer(self, run: ActiveRun, step: str, repeated: bool, expected: Expected) -> ev.UpdateCompleted:
        """Wait for an update's answer.

        Raises:
            RunFinished: the run ended without one.
            HistoryGone: it was answered long ago, and the answer was deleted.
        """
        name = (run.tenant, run.run_id, step)
        try:
            earlier = await self._earlier_answer(run, step) if repeated else None
            return earlier or await self._next_answer(run, expected)
        finally:
            if expected in self._waiting.get(name, ()):
                self._waiting[name].remove(expected)
                if not self._waiting[name]:
                    del self._waiting[name]

    async def _earlier_answer(self, run: ActiveRun, step: str) -> ev.UpdateCompleted | None:
        await self._host.commits.ack()
        gone = False
        async for event, _ in self._host.residents.history.read(run.row):
            if isinstance(event, ev.UpdateCompleted) and event.step == step:
                return event
            if isinstance(event, ev.Gap):
                gone = True
            elif isinstance(event, ev.SignalReceived) and event.update == step:
                gone = False
        if gone:
            raise HistoryGone(
                f"run {run.run_id!r} has answered {step} before; the answer was deleted after the retention time",
                run_id=run.run_id,
            )
        return None

    async def _next_answer(self, run: ActiveRun, future: Expected) -> ev.UpdateCompleted:
        while not future.done():
            changed = self._host.residents.next_commit(run.tenant, run.run_id)
            if await self._has_ended(run) and not future.done():
                raise RunFinished(f"run {run.run_id!r} ended before it answered the update", run_id=run.run_id)
            if self._host.failed is not None:
                raise self._host.failed
            await asyncio.wait([future, changed], return_when=asyncio.FIRST_COMPLETED)
        return future.result()

    async def _has_ended(self, run: ActiveRun) -> bool:
        now = self._host.residents.by_id.get((run.tenant, run.run_id))
        if now is not None:
            return now.terminal is not None
        self._host.refuse_strange(run.row.partition)
        row = await self._host.store.get_run(run.tenant, run.run_id)
        return row is None or row.ended is not None

    def completed(self, run: ActiveRun, event: ev.UpdateCompleted) -> None:
        """An answer is durable."""
        for future in self._waiting.pop((run.tenant, run.run_id, event.step), []):
            if not future.done():
                future.set_result(event)


def answer_or_raise(answer: ev.UpdateCompleted) -> Any:
    """An update's answer as a value, or the error it raised."""
    if answer.failure is not None:
        raise restore(answer.failure)
    return msgspec.json.decode(answer.result)
