"""Queries: a run's state, read without a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from aob.engine.active import ActiveRun
from aob.errors import NoWorker
from aob.kernel.codec import codec_for
from aob.kernel.machine import Machine, Program
from aob.stores.rows import RunRow

if TYPE_CHECKING:
    from aob.engine.host import Host

Arguments = tuple[list[Raw], dict[str, Raw]]
"""Of a query or an update, as they stand in its message."""


class Queries:
    """Answers queries."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def query(self, tenant: str, run_id: str, name: str, payload: Raw) -> bytes:
        """The encoded answer of a query; on an ended run by replaying it.

        Raises:
            RunNotFound, QueryNotFound, NoWorker, and what the query raises.
        """
        run = await self._begun(tenant, run_id)
        if run.machine is not None and run.machine.begun and not run.machine.closing:
            return _answer(run.machine, name, payload)
        machine = Machine(program_of(self._host, run.row))
        await self._host.residents.replay(machine, run.row)
        try:
            if machine.seq == 0:
                raise NoWorker(f"run {run_id!r} has not begun, so it answers nothing yet", run_id=run_id)
            return _answer(machine, name, payload)
        finally:
            machine.close()

    async def _begun(self, tenant: str, run_id: str) -> ActiveRun:
        """The run as it is now, its code begun; or one whose code does not run here, not any more, or does not fit."""
        while True:
            run = await self._host.residents.present(tenant, run_id)
            machine = run.machine
            if machine is None or machine.begun or machine.mismatch is not None or run.ended or run.gone:
                return run
            await run.next_commit()


def program_of(host: Host, row: RunRow) -> Program:
    """The code of a run.

    Raises:
        NoWorker: it is not served here.
    """
    if row.ended is None and host.pins.elsewhere(row):
        raise NoWorker(f"run {row.run_id!r} answers nothing here: {host.pins.reason(row)}", run_id=row.run_id)
    program = host.programs.get(row.workflow)
    if program is None:
        raise NoWorker(
            f"no worker serves workflow {row.workflow!r}, whose code is needed to answer: serve it", run_id=row.run_id
        )
    return program


def _answer(machine: Machine, name: str, payload: Raw) -> bytes:
    if machine.mismatch is not None:
        raise machine.mismatch
    args, kwargs = msgspec.json.decode(payload, type=Arguments)
    return codec_for(Any, f"query {name}").encode_checked(machine.query(name, args, kwargs))[0]
