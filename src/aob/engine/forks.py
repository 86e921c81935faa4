"""Forks: a new run that shares another one's history up to a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from aob.engine.active import ActiveRun
from aob.engine.asker import HERE, Asker
from aob.engine.history import HistoryGone, Numbered, checkpoint_by, kept
from aob.engine.starts import StartRequest, exists_error, row_of, same_start
from aob.errors import StepNotFound
from aob.kernel import events as ev
from aob.kernel.carry import carry_of
from aob.stores.rows import RunRow

if TYPE_CHECKING:
    from aob.engine.host import Host


class ForkRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a fork changes.

    Args:
        at: step id before whose end the fork leaves its origin; None with `input`, or at the first override.
        overrides: results by step id.
        input: another input: then nothing is shared.
    """

    run_id: str | None = None
    at: str | None = None
    overrides: dict[str, Raw] = {}
    input: Raw = ev.NULL


class Forks:
    """Makes forks."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.under_way = 0
        """Forks that are being made: what they are about to share must not be deleted meanwhile."""

    async def fork(self, tenant: str, run_id: str, request: ForkRequest, asker: Asker = HERE) -> str:
        """A new run that shares this one's history up to a step; returns its id.

        Raises:
            StepNotFound: the run has not finished a step of this id.
            HistoryGone: what the fork would begin with was deleted.
            RunExists: the new id is taken.
        """
        self.under_way += 1
        try:
            origin = await self._host.residents.get(tenant, run_id)
            async with self._host.residents.held(origin):
                return await self._fork(origin.row, request, asker)
        finally:
            self.under_way -= 1

    async def _fork(self, row: RunRow, request: ForkRequest, asker: Asker) -> str:
        host, tenant, run_id = self._host, row.tenant, row.run_id
        new_id = request.run_id or f"{run_id[:180]}.fork-{host.process.new_id(8)}"
        events = [e async for e in host.residents.history.read(row)]
        started = events[0][0]
        assert isinstance(started, ev.RunStarted)
        if request.input != ev.NULL:
            again = _again(started, new_id, request)
            existing = await self._commit(lambda: host.starts.begin(again, row.partition), new_id, asker)
            if existing is not None and not same_start(existing, row_of(again, 0, "", row.partition)):
                raise exists_error(existing)
            return new_id
        cut = _cut(events, request, run_id)
        checkpoint = checkpoint_by(kept([e for e in events if e[1] <= cut]), cut, run_id)
        fork = ActiveRun(
            RunRow(
                partition=row.partition,
                tenant=tenant,
                run_id=new_id,
                workflow=row.workflow,
                status="running",
                created=host.clock.now_us(),
                updated=host.clock.now_us(),
                input_hash=row.input_hash,
                attributes=row.attributes,
                origin=row.key,
                origin_seq=cut,
                checkpoint=checkpoint,
                build=row.build or host.pins.build_in(row.workflow, row.partition),
            ),
            None,
            cut,
        )
        stored = await host.store.events(row.key, cut - 1, 1, cut)
        fork.chain, fork.last_at = stored[0].chain, next(e for e, s in events if s == cut).at
        own = ev.Fork(new_id, host.process.new_id(8), host.process.seed(), request.overrides, row.attributes)

        def begin() -> ActiveRun:
            host.commits.add(fork, ev.RunReopened(0, cut, f"fork of {run_id}", own))
            host.commits.group().starts[id(fork)] = fork
            return fork

        existing = await self._commit(begin, new_id, asker)
        if existing is not None:
            raise exists_error(existing)
        await host.residents.load_or_park(fork.row)
        return new_id

    async def _commit(self, begin: Callable[[], ActiveRun], new_id: str, asker: Asker) -> RunRow | None:
        """Begin a run, and tell who asked for it, in a commit that is refused whole where the id is taken: by the run
        that is returned."""
        host = self._host
        host.commits.cut(atomic=True)
        try:
            run = begin()
            asker.tell(msgspec.json.encode(new_id))
            done = host.commits.ack()
        finally:
            host.commits.cut(atomic=False)
        await done
        existing = host.starts.met(run)
        if existing is not None:
            asker.not_told()
        return existing


def _again(started: ev.RunStarted, run_id: str, request: ForkRequest) -> StartRequest:
    """A fork with another input: a new run of the same workflow, whose overridden steps are answered when called."""
    return StartRequest(
        workflow=started.workflow,
        input=request.input,
        run_id=run_id,
        tenant=started.tenant,
        attributes=started.attributes,
        timeout=(started.deadline - started.at) / 1e6 if started.deadline is not None else None,
        limits=started.limits,
        fidelity=started.fidelity,
        overrides=request.overrides,
        forked_from=started.run_id,
    )


def _cut(events: list[Numbered], request: ForkRequest, run_id: str) -> int:
    """The last `seq` that a fork shares."""
    ends = {e.step: s for e, s in kept(events) if isinstance(e, ev.StepCompleted | ev.StepFailed | ev.TimerFired)}
    wanted = [s for s in (request.at, *request.overrides) if s is not None]
    _refuse_gone([step for step in wanted if step not in ends], events, run_id)
    if request.at is not None and request.at not in ends:
        raise StepNotFound(
            f"run {run_id!r} has not finished a step {request.at!r}; it has: {', '.join(list(ends)[:20]) or 'none'}",
            run_id=run_id,
            step=request.at,
        )
    found = [ends[s] - 1 for s in wanted if s in ends]
    if found:
        return min(found)
    last = events[-1][1]
    terminal = [s for e, s in events if e.KIND in ev.TERMINAL]
    return terminal[-1] - 1 if terminal else last


def _refuse_gone(steps: list[str], events: list[Numbered], run_id: str) -> None:
    """See that none of these steps, which the history does not show, was called before what it shows."""
    gone = max((seq for event, seq in events if isinstance(event, ev.Gap)), default=0)
    first = next((e for e, _ in events if isinstance(e, ev.Checkpoint) and carry_of(e).applied >= gone), None)
    if not gone or first is None:
        return
    called = carry_of(first).counters
    for step in steps:
        name, _, k = step.rpartition("#")
        if k.isdecimal() and int(k) <= called.get(name, 0):
            raise HistoryGone(
                f"step {step!r} of run {run_id!r} stands before event {gone}, up to which the history was deleted "
                "after the retention time: a fork can only begin behind it",
                run_id=run_id,
                step=step,
            )
