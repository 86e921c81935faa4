"""Deleting one ended run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aob.engine.active import ActiveRun
from aob.engine.asker import HERE, Asker
from aob.engine.turns import Turns
from aob.engine.unserved import NotServed
from aob.errors import NotExported, NotFinished
from aob.kernel.states import TERMINAL_STATES
from aob.stores.rows import Lease

if TYPE_CHECKING:
    from aob.engine.host import Host

_PATIENCE = 5.0
_LOOK_AGAIN = 0.01


class Removal:
    """Deletes runs."""

    def __init__(self, host: Host, turns: Turns) -> None:
        self._host = host
        self._turns = turns

    async def delete(self, tenant: str, run_id: str, asker: Asker = HERE) -> None:
        """Delete an ended run; exporters that are at work are waited for a little.

        Raises:
            NotFinished: it is open.
            StillNeeded: it is a child whose parent may ask for its result again.
            NotExported: an exporter has not come past its events.
        """
        try:
            run = await self._host.residents.get(tenant, run_id)
        except NotServed as e:
            raise NotFinished(f"run {run_id!r} is pending: cancel or terminate it first", run_id=run_id) from e
        if run.row.status not in TERMINAL_STATES:
            raise NotFinished(f"run {run_id!r} is {run.row.status}: cancel or terminate it first", run_id=run_id)
        with self._turns.take(run):
            await self._host.commits.ack()
            self._host.residents.drop(run)
            until = self._host.clock.monotonic() + _PATIENCE
            while not await self._deleted(run, asker, until):
                await self._host.clock.sleep(_LOOK_AGAIN)

    async def _deleted(self, run: ActiveRun, asker: Asker, until: float) -> bool:
        try:
            await self._host.commits.alone(run.row.partition, lambda lease: self._delete(lease, run, asker))
        except NotExported:
            if self._host.outbox.unfinished() and self._host.clock.monotonic() < until:
                return False
            raise
        return True

    async def _delete(self, lease: Lease, run: ActiveRun, asker: Asker) -> None:
        if self._host.residents.is_held(run):
            raise NotFinished(f"run {run.run_id!r} is being opened or forked by another call", run_id=run.run_id)
        rows = asker.rows()
        try:
            await self._host.store.delete_run(lease, run.row.key, rows.takes, rows.replies)
        except BaseException:
            asker.not_told()
            raise
