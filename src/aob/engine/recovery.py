"""Taking a partition over: which runs to load at once, and which of them may have killed their worker.

After an unclean end every run that was at work may be the one to blame, or may only have been there. Deaths are
counted, and reset by progress. From the first on a run is a suspect: that its attempt begins is recorded before it
begins, and the next death counts only if it had begun, or if loading the run was what ended the worker. A run that
is one death from being parked makes its attempts alone. So what kills its worker is parked, and what merely stood
beside it is not.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from aob import telemetry
from aob.engine.active import ActiveRun
from aob.kernel import events as ev
from aob.kernel.steps import Step
from aob.stores.rows import Lease, RunRow

if TYPE_CHECKING:
    from aob.engine.host import Host

_PAGE = 1_000
_DUES = 20_000
_SUSPECTS = 200


class Recovery:
    """Brings open runs back after a start."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def recover(self, leases: list[Lease]) -> None:
        """Load the runs that were at work; waiting ones come when their time does."""
        host = self._host
        with host.residents.recovering(lease.partition for lease in leases):
            await self._recover(leases)

    async def _recover(self, leases: list[Lease]) -> None:
        host = self._host
        partitions = [lease.partition for lease in leases]
        unclean = {lease.partition for lease in leases if not lease.clean}
        began, count, after = host.clock.monotonic(), 0, 0
        suspects: list[RunRow] = []
        host.quarantine.close()
        try:
            while dues := await host.store.dues(partitions, after, _DUES):
                after = dues[-1][0]
                count += len(dues)
                host.wakeups.set_many(dues)
            after = 0
            while rows := await host.store.open_runs(partitions, after, _PAGE):
                after = rows[-1].key
                count += len(rows)
                suspects += await self._page(rows, unclean)
            await self._load_suspects(suspects)
        finally:
            host.quarantine.open()
        if count:
            telemetry.tell("recovered", runs=count, seconds=round(host.clock.monotonic() - began, 3))

    async def _page(self, rows: list[RunRow], unclean: set[int]) -> list[RunRow]:
        host = self._host
        load: list[RunRow] = []
        suspects: list[RunRow] = []
        died = False
        begun = host.residents.admitted or ()
        for row in rows:
            if row.key in begun:  # what was recovered has started it
                continue
            if row.status == "running" and row.partition in unclean and host.unserved.has_code(row):
                died = True
                if row.deaths:
                    suspects.append(row)
                else:
                    row.deaths = 1
                    self._write(row)
                    load.append(row)
            elif row.status != "pending" and not is_poison(row):
                load.append(row)
        for row in (*load, *suspects):  # no message may change what is about to be loaded, or written
            host.residents.reserve(row)
        if died and load:
            await host.commits.ack()
        for row in load:
            await self._load(row)
        return suspects

    async def _load_suspects(self, rows: list[RunRow]) -> None:
        """A death is written down before a suspect is loaded, and taken back when that went well: many at a time, and
        those that are one death from being parked alone."""
        for row in rows:
            row.deaths += await self._had_begun(row)
        worst = self._host.settings.max_deaths - 1
        wide = [row for row in rows if row.deaths < worst]
        for start in range(0, len(wide), _SUSPECTS):
            await self._load_some(wide[start : start + _SUSPECTS])
        for row in rows:
            if row.deaths > worst:
                self._park(row)
            elif row.deaths == worst:
                await self._load_some([row])

    async def _load_some(self, rows: list[RunRow]) -> None:
        for row in rows:
            row.deaths += 1
            self._write(row)
        await self._host.commits.ack()
        for row in rows:
            row.deaths -= 1
            await self._load(row)
            self._write(row)
        await self._host.commits.ack()

    def _park(self, row: RunRow) -> None:
        row.status = "parked"
        row.reason = (
            f"poison: its worker died {row.deaths} times with this run at work and no progress between; "
            "mend the activity and call retry or resume"
        )
        telemetry.tell("run_parked", run_id=row.run_id, code="poison", reason=row.reason)
        self._write(row)
        self._host.commits.group().after.append(partial(self._host.residents.release, row))

    async def _had_begun(self, row: RunRow) -> bool:
        """Whether an attempt of the run began after its deaths were counted last."""
        last = await self._host.store.last_event(row.key)
        if last is None or last.kind != ev.StepStarted.KIND:
            return False
        return ev.decode_event(last.kind, last.version, last.data).at >= row.updated

    async def _load(self, row: RunRow) -> None:
        try:
            await self._host.residents.load_or_park(row)
        finally:
            self._host.residents.release(row)

    def _write(self, row: RunRow) -> None:
        resident = self._host.residents.by_key.get(row.key)
        run = resident if resident is not None and resident.row is row else ActiveRun(row, None)
        self._host.commits.group().summaries[id(run)] = run


def is_poison(row: RunRow) -> bool:
    """Whether the run is parked because its workers died of it; only `retry` or `resume` opens it again."""
    return row.status == "parked" and (row.reason or "").startswith("poison")


class Quarantine:
    """Begins the attempts of suspects: each on record first, some at a time, and the worst suspects alone."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._opened = False
        self._wide: deque[tuple[ActiveRun, Step]] = deque()
        self._narrow: deque[tuple[ActiveRun, Step]] = deque()
        self.active: dict[int, ActiveRun] = {}
        self._alone: ActiveRun | None = None

    def close(self) -> None:
        """Open runs are about to be loaded, one of which may end the worker by that: attempts wait."""
        self._opened = False

    def open(self) -> None:
        """All open runs are loaded: none of them ends the worker by being loaded. Attempts may begin."""
        self._opened = True
        self._next()

    def begin(self, run: ActiveRun, step: Step) -> None:
        """Begin an attempt of a run whose worker died before, when its turn comes."""
        worst = run.row.deaths + 1 >= self._host.settings.max_deaths
        (self._narrow if worst else self._wide).append((run, step))
        self._next()

    def release(self, run: ActiveRun) -> None:
        """An attempt is over, or has lived long enough: the next one may begin."""
        if self.active.pop(id(run), None) is not None:
            if self._alone is run:
                self._alone = None
            self._next()

    def _next(self) -> None:
        while self._opened and self._wide and self._alone is None and len(self.active) < _SUSPECTS:
            self._begin(*self._wide.popleft())
        while self._opened and self._narrow and not self.active:
            run, step = self._narrow.popleft()
            self._alone = run
            self._begin(run, step)

    def _begin(self, run: ActiveRun, step: Step) -> None:
        host = self._host
        if not self._still_wanted(run, step):
            self._alone = None if self._alone is run else self._alone
            return
        self.active[id(run)] = run
        step.started = True
        host.record(run, ev.StepStarted(0, step.id, step.attempt, host.process.name))
        host.commits.group().after.append(lambda: self._recorded(run, step))

    def _recorded(self, run: ActiveRun, step: Step) -> None:
        if self._still_wanted(run, step):
            self._host.dispatch.begin(run, step)
        else:
            self.release(run)

    def _still_wanted(self, run: ActiveRun, step: Step) -> bool:
        return self._host.failed is None and not (run.gone or run.ended or step.done() or step.live is not None)
