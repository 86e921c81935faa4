"""Pinned runs: each stays with the build of the code that began it.

Where there are many partitions it lives in a lane, a partition that only workers of its build own; one that was sent to
an ordinary partition moves before it begins. Where there is one partition, its owner keeps what is pinned to another
build without its code, like a run whose code is not served at all, until that build is back or is retired.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING
from zlib import crc32

from aob.engine.partitions import Moved, NotOwner
from aob.errors import OperatorError
from aob.stores.rows import LANES, RunRow, partition_of

if TYPE_CHECKING:
    from aob.engine.host import Host

PINNED = "it is pinned to build "
LANES_OF_A_BUILD = 16


class Pins:
    """Which runs are this build's to run, and where they live."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._retired: set[str] = set()
        self._moves: list[_Move] = []
        self._moving = False

    # --- this build's -----------------------------------------------------------------------------

    def pins(self, workflow: str) -> bool:
        """Whether a run of this workflow is pinned when it begins here."""
        build = self._host.settings.build
        program = self._host.programs.get(workflow)
        return bool(build) and build not in self._retired and getattr(program, "pinned", False)

    def build_in(self, workflow: str, partition: int) -> str | None:
        """The build that a run of this workflow is pinned to when it begins here in this partition, or None."""
        if not self.pins(workflow):
            return None
        store, build = self._host.store, self._host.settings.build
        return build if store.partitions == 1 or partition in store.lanes.get(build, ()) else None

    def elsewhere(self, row: RunRow) -> bool:
        """Whether only workers of another build may run this."""
        build = row.build
        return build is not None and build != self._host.settings.build and build not in self._retired

    def reason(self, row: RunRow) -> str:
        """Why a run that is another build's does not go on, for its summary."""
        here = self._host.settings.build
        return f"{PINNED}{row.build}, which no worker here runs" + (f"; this is build {here}" if here else "")

    async def look(self) -> None:
        """Learn which builds are retired."""
        self._retired = await self._host.store.retired()

    async def look_again(self) -> None:
        """Let runs in memory go on whose build was retired meanwhile."""
        residents = self._host.residents
        kept = [run for run in residents.all() if run.machine is None and not run.ended and self.elsewhere(run.row)]
        if not kept:
            return
        with suppress(OperatorError):  # there is another time
            await self.look()
        for run in kept:
            if not self.elsewhere(run.row):
                self._host.spawn(residents.bring_in_again(run))

    # --- lanes ------------------------------------------------------------------------------------

    def lane(self, workflow: str, tenant: str, run_id: str) -> int | None:
        """The lane in which a run is to live that begins here, one of this host's if it has any; None: an ordinary
        partition."""
        host = self._host
        lanes = host.store.lanes.get(host.settings.build) if self.pins(workflow) else None
        if not lanes:
            return None
        own = [lane for lane in lanes if host.owns(lane)]
        chosen = own or lanes
        return chosen[crc32(f"{tenant}/{run_id}".encode()) % len(chosen)]

    def place(self, workflow: str, tenant: str, run_id: str) -> int:
        """The partition of a run that begins here.

        Raises:
            NotOwner: another process owns that.
        """
        host = self._host
        lane = self.lane(workflow, tenant, run_id)
        partition = partition_of(tenant, run_id, host.store.partitions) if lane is None else lane
        host.refuse_strange(partition)
        return partition

    def beside(self, parent: RunRow, workflow: str, run_id: str, detached: bool) -> int:
        """The partition of a child: its parent's, unless one of them is pinned and the other is to go its own way."""
        here = parent.partition
        lane = self.lane(workflow, parent.tenant, run_id)
        if lane is not None:
            return here if here in self._host.store.lanes[self._host.settings.build] else lane
        if detached and here >= LANES:
            return partition_of(parent.tenant, run_id, self._host.store.partitions)
        return here

    async def see_to_lane(self, row: RunRow, workflow: str) -> None:
        """See that a run that is about to begin is where it is to live.

        Raises:
            Moved: it moved, and its messages come again there.
        """
        host = self._host
        lane = self.lane(workflow, row.tenant, row.run_id)
        if lane is None or row.partition in host.store.lanes[host.settings.build]:
            return
        move = _Move(row, lane)
        self._moves.append(move)
        if not self._moving:
            self._moving = True
            host.spawn(self._move_all())
        await move.done
        raise Moved(f"run {row.run_id!r} moved to a lane of its build", run_id=row.run_id)

    async def _move_all(self) -> None:
        """As many as ask at a time, in one transaction."""
        try:
            while self._moves and self._host.failed is None:
                moves, self._moves = self._moves, []
                error: OperatorError | None = None
                try:
                    await self._move(moves)
                except OperatorError as e:
                    error = e
                for move in moves:
                    if error is not None:
                        move.done.set_exception(error)
                        move.done.exception()
                    elif not move.done.done():
                        move.done.set_result(None)
        finally:
            self._moving = False

    async def _move(self, moves: list[_Move]) -> None:
        host = self._host
        async with host.commits.quiet():
            for move in moves:
                if not host.owns(move.row.partition):
                    move.done.set_exception(NotOwner("another process owns its partition", run_id=move.row.run_id))
            mine, leases = [move for move in moves if not move.done.done()], host.commits.leases
            rows = [(leases[move.row.partition], move.row.key, move.lane) for move in mine]
            if rows:
                await host.store.move(rows, host.settings.build)
            for move in mine:  # before the next commit, which may be told of them in their lane
                host.inbox.moved(move.row.tenant, move.row.run_id)


class _Move:
    """A run on its way to a lane."""

    __slots__ = ("done", "lane", "row")

    def __init__(self, row: RunRow, lane: int) -> None:
        self.row = row
        self.lane = lane
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
