"""Deleting one ended run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aob.engine.turns import Turns
from aob.errors import NotFinished
from aob.kernel.states import TERMINAL_STATES

if TYPE_CHECKING:
    from aob.engine.host import Host


class Removal:
    """Deletes runs."""

    def __init__(self, host: Host, turns: Turns) -> None:
        self._host = host
        self._turns = turns

    async def delete(self, tenant: str, run_id: str) -> None:
        """Delete an ended run.

        Raises:
            NotFinished: it is open.
        """
        run = await self._host.residents.get(tenant, run_id)
        if run.row.status not in TERMINAL_STATES:
            raise NotFinished(f"run {run_id!r} is {run.row.status}: cancel or terminate it first", run_id=run_id)
        with self._turns.take(run):
            await self._host.commits.ack()
            self._host.residents.drop(run)
            await self._host.commits.alone(
                run.row.partition, lambda lease: self._host.store.delete_run(lease, run.row.key)
            )
