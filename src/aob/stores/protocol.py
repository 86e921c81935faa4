"""What the engine asks of a store. One conformance suite holds every backend to it (`aob.testing.conformance`).

The owner of a partition writes through `append` alone; everybody else through `send`. A store refuses an append whose
epoch is not the partition's, inside the same transaction, so that an owner that was replaced can never write.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from aob.stores.rows import (
    Append,
    Appended,
    BuildRow,
    CursorRow,
    Cut,
    EventRow,
    Lease,
    LogRow,
    Message,
    Move,
    ReplyRow,
    RunFilter,
    RunRow,
    Swept,
    TicketRow,
    WorkerRow,
)


class Store(Protocol):
    """A durable store. Every method may raise an `aob.errors.OperatorError`."""

    url: str

    @property
    def partitions(self) -> int:
        """To how many partitions runs that start are hashed (`partition_of`), as far as this process knows: somebody
        may have raised the number. Runs that exist keep theirs."""
        ...

    skew_us: Callable[[], int] | None
    """The store's clock minus this host's, as last measured, in microseconds; None: it is this host's clock."""

    @property
    def lanes(self) -> Mapping[str, Sequence[int]]:
        """The partitions that are lanes, by the build whose workers alone own them, as was known last; by ""
        those of retired builds, which are anybody's. A store with one partition has none."""
        ...

    async def close(self) -> None:
        """Let go of everything; a second call does nothing."""
        ...

    async def announce(self, owner: str, ttl: float, build: str = "") -> list[WorkerRow]:
        """Say that this worker lives, for `ttl` seconds. Returns all that live, with what they hold."""
        ...

    async def make_lanes(self, build: str, count: int) -> None:
        """Give this build so many lanes, unless it has some already, or is retired."""
        ...

    async def move(self, moves: Sequence[Move], build: str) -> None:
        """Move runs that have not begun into lanes of this build, pinned to it; what waits in the inbox for them comes
        along under new ids, as if it were sent now. Those that are not where the lease is, or have begun, stay.

        Raises:
            LeaseLost: one of the leases' epochs is not the partition's.
        """
        ...

    async def leave(self, owner: str) -> None:
        """This worker is no longer to be counted among those that live."""
        ...

    async def builds(self) -> list[BuildRow]:
        """Builds that are served, that open runs are pinned to, that have lanes, or that are retired; by name."""
        ...

    async def retired(self) -> set[str]:
        """The builds that are retired."""
        ...

    async def retire(self, build: str) -> None:
        """From now on what is pinned to this build may go on with any other, and its lanes are anybody's."""
        ...

    async def drain(self, build: str, on: bool) -> None:
        """From now on workers of this build are to own its lanes alone, or (`on` is False) what others own, too."""
        ...

    async def acquire(self, partition: int, owner: str, ttl: float) -> Lease | None:
        """Take the partition when nobody holds it; None while another owner's lease lasts. `ttl` is in seconds."""
        ...

    async def acquire_some(self, owner: str, ttl: float, most: int, build: str | None = None) -> list[Lease]:
        """Take up to `most` of the partitions that nobody holds: of those that are nobody's lanes, or of this build's
        lanes."""
        ...

    async def renew(self, leases: Sequence[Lease], ttl: float) -> None:
        """Extend the leases of one owner.

        Raises:
            LeaseLost: somebody else has one of them by now; the owner is to let go of all.
        """
        ...

    async def release(self, leases: Sequence[Lease], clean: bool = True) -> None:
        """Hand partitions over: the next `acquire` succeeds at once. A lost lease is no error here.

        Args:
            clean: False: what the owner before left in the middle is still so; the next lease says it.
        """
        ...

    async def append(self, batch: Append) -> Appended:
        """Commit a batch whole, or not at all; durable when it returns.

        When messages wait in these partitions' inbox that are neither in `batch.takes` nor were returned before to
        this epoch, nothing is written and they are returned, oldest first: the owner deals with them first and appends
        again.

        Raises:
            LeaseLost: one of the batch's epochs is not the partition's.
            StoreFull: no space; nothing was written, the same batch may be appended again later.
            StoreFailed: durability is unknown; the store takes no more commits from this process.
        """
        ...

    async def send(self, message: Message, start: RunRow | None = None) -> RunRow | None:
        """Put a message into the inbox of its run's partition (and, with `start`, a pending run beside it) in one
        transaction. The store finds the partition of a message that names none: the run's, or, where no such run
        exists, the one it would have.

        Returns the run that has the id already, if `start` met one; nothing was written then.
        """
        ...

    async def send_many(self, sends: Sequence[tuple[Message, RunRow | None]]) -> list[tuple[RunRow, RunRow]]:
        """`send` for many messages in one transaction, all or nothing.

        Returns the conflicts, (start, the run that has its id already); with any, nothing was written.
        """
        ...

    async def waiting(self, partition: int | None = None) -> list[Message]:
        """Messages that no commit has taken yet, oldest first (None: of all partitions); for whoever looks or exports,
        not for the owner."""
        ...

    async def take_reply(self, reply: str) -> bytes | None:
        """The answer under this id, if it has come; it is deleted when read."""
        ...

    async def wait_changed(self, timeout: float) -> None:
        """Return when another process may have committed something since the last call, or after `timeout` s."""
        ...

    async def wait_messages(self, timeout: float) -> None:
        """Return when another process may have sent a message since the last call, or after `timeout` s; the commits of
        other partitions' owners need not wake anybody here."""
        ...

    async def get_run(self, tenant: str, run_id: str) -> RunRow | None:
        """A run's summary."""
        ...

    async def list_runs(self, where: RunFilter) -> list[RunRow]:
        """Summaries, newest first (by key, descending)."""
        ...

    async def run_by_key(self, key: int) -> RunRow | None:
        """A run's summary."""
        ...

    async def open_runs(self, partitions: Sequence[int], after: int, limit: int) -> list[RunRow]:
        """Summaries of runs that have not ended, and do not merely wait, by key ascending, keys above `after`."""
        ...

    async def dues(self, partitions: Sequence[int], after: int, limit: int) -> list[tuple[int, int | None]]:
        """Keys of waiting runs, ascending and above `after`, and when each must be woken (microseconds since 1970;
        None: only by a message)."""
        ...

    async def events(self, run: int, after: int, limit: int, until: int | None = None) -> list[EventRow]:
        """Events of a run with `after < seq <= until`, in order; a fork's begin with those shared with its origin."""
        ...

    async def last_event(self, run: int) -> EventRow | None:
        """The run's last event; a fork that has none of its own yet: the last that it shares."""
        ...

    async def log(self, after: Mapping[int, int], limit: int) -> list[LogRow]:
        """What was committed in these partitions behind the given positions: up to `limit` events of each, in the order
        of their commits. Whoever goes on behind the last position it was given meets every event that is not deleted,
        however commits overlapped."""
        ...

    async def cursors(self, exporter: str | None = None) -> list[CursorRow]:
        """How far exporters (or one of them) have come, by name and partition."""
        ...

    async def drop_exporter(self, exporter: str) -> int:
        """Forget an exporter's cursors, so that nothing is kept for it any more; how many partitions it had.

        A worker that still serves it begins it anew when it sees that.
        """
        ...

    async def seen(self, run: int) -> set[str]:
        """Ids of the commands that this run has already counted."""
        ...

    async def blob(self, digest: str) -> bytes | None:
        """A large payload by its content hash."""
        ...

    async def tickets(self, tenant: str | None, status: str | None, run_id: str | None, limit: int) -> list[TicketRow]:
        """Tickets, newest first."""
        ...

    async def get_ticket(self, tenant: str, ticket: str) -> TicketRow | None:
        """A ticket by its id."""
        ...

    async def sweep(
        self, lease: Lease, ended_before: int, limit: int, after: tuple[int, int] = (0, 0), keep: Collection[int] = ()
    ) -> Swept:
        """Look at up to `limit` runs of the partition that ended before this time, oldest first, and delete those that
        nobody needs any more, with what only they refer to. Answers that nobody fetched in time go as well.

        A run is needed by an exporter that has not come past its events, and by the run that started it, while that may
        ask for the result again, after a crash or a `retry`: it is open, or has ended so that it can be retried (see
        `aob.stores.needs.may_go_on`), and has passed no checkpoint since.

        Args:
            after: what the look before returned; the first one begins at the beginning.
            keep: keys of runs that stay in any case.

        Raises:
            LeaseLost: the lease's epoch is not the partition's.
        """
        ...

    async def checkpoints(self, partition: int, after: int, limit: int) -> list[EventRow]:
        """Checkpoints of the partition's runs, ended ones too, in the order of commits: those with a position above
        `after` that no exporter has still to come past."""
        ...

    async def trim(self, lease: Lease, cuts: Sequence[Cut], limit: int) -> int:
        """Delete what open runs of the partition did long ago, with the blobs that only this refers to.

        In the place of the deleted events stands one, of kind `gap`, with the `seq` and the chain of the last of them
        (see `aob.stores.chain.gap_data`). A run's first event stays, and so do those that forks share.

        Args:
            cuts: those of other partitions' runs, and of runs that have ended, are left out.
            limit: how many events at most.

        Returns how many it were; when it is the limit, there may be more.

        Raises:
            LeaseLost: the lease's epoch is not the partition's.
        """
        ...

    async def delete_run(
        self, lease: Lease, key: int, takes: Sequence[int] = (), replies: Sequence[ReplyRow] = ()
    ) -> None:
        """Delete one ended run; its id is free afterwards. Events that forks share stay until the forks are gone.

        Args:
            takes, replies: as in `Append`, in the same transaction.

        Raises:
            LeaseLost: the lease's epoch is not the partition's.
            NotFinished: the run is open.
            StillNeeded: an exporter or the run that started it needs it, as `sweep` says.
        """
        ...
