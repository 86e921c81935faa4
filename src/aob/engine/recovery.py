"""Taking a partition over: which runs to load at once, and which of them may have killed their worker.

After an unclean end every run that was at work may be the one to blame, or may only have been there. Deaths are
counted, and reset by progress. From the first on a run is a suspect: that its attempt begins is recorded before it
begins, and the next death counts only if it had begun, or if loading the run was what ended the worker. A run that
is one death from being parked makes its attempts alone. So what kills its worker is parked, and what merely stood
beside it is not.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from aob import telemetry
from aob.engine.active import ActiveRun
from aob.errors import AobError
from aob.kernel import events as ev
from aob.kernel.steps import Step
from aob.stores.rows import Lease, RunRow

if TYPE_CHECKING:
    from aob.engine.host import Host

_PAGE = 1_000


class Recovery:
    """Brings open runs back after a start."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def recover(self, lease: Lease) -> None:
        """Load the runs that were at work; waiting ones come when their time does."""
        host = self._host
        began, count, after = host.clock.monotonic(), 0, 0
        suspects: list[RunRow] = []
        while rows := await host.store.open_runs(lease.partition, after, _PAGE):
            after = rows[-1].key
            count += len(rows)
            suspects += await self._page(rows, lease)
        await self._load_suspects(suspects)
        host.quarantine.open()
        if count:
            telemetry.tell("recovered", runs=count, seconds=round(host.clock.monotonic() - began, 3))

    async def _page(self, rows: list[RunRow], lease: Lease) -> list[RunRow]:
        host = self._host
        load: list[RunRow] = []
        suspects: list[RunRow] = []
        for row in rows:
            if row.status == "waiting":
                if row.due is not None:
                    host.wakeups.set(row.key, row.due)
            elif row.status == "running" and not lease.clean and row.workflow in host.programs:
                if row.deaths:
                    suspects.append(row)
                else:
                    row.deaths = 1
                    self._write(row)
                    load.append(row)
            elif row.status != "pending" and not is_poison(row):
                load.append(row)
        if not lease.clean and load:
            await host.commits.ack()
        for row in load:
            await self._load(row)
        return suspects

    async def _load_suspects(self, rows: list[RunRow]) -> None:
        """One by one: a death is written down before the run is loaded, and taken back when that went well."""
        host = self._host
        for row in rows:
            began = await self._had_begun(row)
            proven = row.deaths + began
            if proven >= host.settings.max_deaths:
                row.status, row.deaths = "parked", proven
                row.reason = (
                    f"poison: its worker died {proven} times with this run at work and no progress between; "
                    "mend the activity and call retry or resume"
                )
                telemetry.tell("run_parked", run_id=row.run_id, code="poison", reason=row.reason)
                self._write(row)
                continue
            row.deaths = proven + (not began)
            self._write(row)
            await host.commits.ack()
            await self._load(row)
            if not began and row.deaths:
                row.deaths -= 1
                self._write(row)

    async def _had_begun(self, row: RunRow) -> bool:
        """Whether an attempt of the run began after its deaths were counted last."""
        last = await self._host.store.last_event(row.key)
        if last is None or last.kind != ev.StepStarted.KIND:
            return False
        return ev.decode_event(last.kind, last.version, last.data).at >= row.updated

    async def _load(self, row: RunRow) -> None:
        try:
            await self._host.residents.load(row)
        except AobError as e:
            telemetry.tell("run_parked", run_id=row.run_id, code=e.code, reason=str(e))
            row.status, row.reason = "parked", f"{e.code}: {e}"[:4000]
            self._write(row)

    def _write(self, row: RunRow) -> None:
        resident = self._host.residents.by_key.get(row.key)
        run = resident if resident is not None and resident.row is row else ActiveRun(row, None)
        self._host.commits.group().summaries[id(run)] = run


def is_poison(row: RunRow) -> bool:
    """Whether the run is parked because its workers died of it; only `retry` or `resume` opens it again."""
    return row.status == "parked" and (row.reason or "").startswith("poison")


class Quarantine:
    """Begins the attempts of suspects: each on record first, and the worst suspects one at a time."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._waiting: deque[tuple[ActiveRun, Step]] = deque()
        self._held: list[tuple[ActiveRun, Step]] | None = []
        self.current: ActiveRun | None = None

    def open(self) -> None:
        """All open runs are loaded: none of them ends the worker by being loaded. Attempts may begin."""
        held, self._held = self._held or [], None
        for run, step in held:
            if self._still_wanted(run, step):
                self.begin(run, step)

    def begin(self, run: ActiveRun, step: Step) -> None:
        """Begin an attempt of a run whose worker died before."""
        if self._held is not None:
            self._held.append((run, step))
            return
        if run.row.deaths + 1 < self._host.settings.max_deaths:
            self._begin(run, step)
            return
        self._waiting.append((run, step))
        self._next()

    def release(self, run: ActiveRun) -> None:
        """The attempt that was alone is over, or has lived long enough: the next one may begin."""
        if self.current is run:
            self.current = None
            self._next()

    def _next(self) -> None:
        while self.current is None and self._waiting:
            run, step = self._waiting.popleft()
            if self._still_wanted(run, step):
                self.current = run
                self._begin(run, step)

    def _begin(self, run: ActiveRun, step: Step) -> None:
        host = self._host
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
