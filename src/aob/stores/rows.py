"""What goes into a store and comes out of it: plain rows, no behaviour."""

from __future__ import annotations

from typing import Protocol
from zlib import crc32

import msgspec

LANES = 1 << 20
"""Partitions from here on are lanes: runs are not hashed to them, and only the workers of one build own them."""


class RunRow(msgspec.Struct, kw_only=True):
    """A run's summary. `key` is the store's short name for the run; 0 until the store has given one.

    Args:
        status: a run state (`aob.kernel.states`).
        created, updated, ended: microseconds since 1970; `ended` is None while the run is open.
        due: when a waiting run must be woken at the latest, microseconds since 1970; None: only by a message.
        input_hash: digest of workflow name and input bytes, to tell an equal start from another one.
        attributes: the user's own labels, for filters.
        parent: `run_id` of the run that started this one.
        reason: one line on why it failed, was cancelled or is parked.
        checkpoint: `seq` of the last checkpoint; 0 without one.
        deaths: workers that died with the run active since it last made progress.
        origin, origin_seq: for a fork: the key of the run whose events up to `origin_seq` it shares.
        build: the build of the code that alone may run it; None: it is not pinned.
    """

    key: int = 0
    partition: int = 0
    tenant: str
    run_id: str
    workflow: str
    status: str
    created: int
    updated: int
    ended: int | None = None
    due: int | None = None
    input_hash: bytes = b""
    attributes: dict[str, str] = {}
    parent: str | None = None
    reason: str | None = None
    checkpoint: int = 0
    deaths: int = 0
    origin: int | None = None
    origin_seq: int = 0
    build: str | None = None


class Keyed(Protocol):
    """Anything that knows its run's partition, and its key once the store has given it: a `RunRow`, say."""

    key: int
    partition: int


LAST_SEQ = 1 << 62
"""Above every `seq`."""

EventRecord = tuple[Keyed, int, str, int, int, bytes]
"""An event on its way in: (run, seq, kind, version, chain, data). `chain` = crc32 over the event and the one before."""


class EventRow(msgspec.Struct, gc=False, array_like=True):
    """An event as stored. `position` is the partition's order of commits; `seq` the run's own, dense from 1."""

    position: int
    run: int
    seq: int
    epoch: int
    kind: str
    version: int
    chain: int
    data: bytes


class LogRow(msgspec.Struct, gc=False, array_like=True):
    """An event as it stands in its partition's log, with whose it is."""

    partition: int
    position: int
    tenant: str
    run_id: str
    workflow: str
    seq: int
    kind: str
    version: int
    data: bytes


class CursorRow(msgspec.Struct, kw_only=True):
    """How far an exporter has come with a partition's log.

    Args:
        position: of the last event that it has.
        last: of the log's last event; where retention took that away, less than `position`.
    """

    exporter: str
    partition: int
    position: int
    last: int = 0


class Swept(msgspec.Struct, kw_only=True):
    """What a look at old runs came to.

    Args:
        runs: how many were deleted.
        after: where to go on looking; None: that was all.
    """

    runs: int
    after: tuple[int, int] | None = None


class Message(msgspec.Struct, kw_only=True, gc=False):
    """Something sent to a run, for the owner of its partition.

    Args:
        partition: -1: the store finds it.
        kind: `start`, `signal`, `cancel`, …: what the engine dispatches on.
        body: JSON; the engine's own business.
        reply: id under which an answer is awaited, or None.
        expires: microseconds since 1970 after which nobody waits for the answer any more.
    """

    id: int = 0
    partition: int = -1
    tenant: str
    run_id: str
    kind: str
    body: bytes
    reply: str | None = None
    expires: int | None = None


class TicketRow(msgspec.Struct, kw_only=True):
    """An approval asked of a person. `status` is `open`, `approved`, `rejected`, `expired` or `withdrawn`."""

    id: str
    tenant: str
    run_id: str
    workflow: str
    step: str
    title: str
    data: bytes
    assignees: list[str] = []
    schema: bytes | None = None
    created: int
    deadline: int | None = None
    status: str = "open"
    by: str | None = None
    reason: str | None = None
    closed: int | None = None


class Lease(msgspec.Struct, kw_only=True):
    """The right to append to a partition.

    Args:
        epoch: higher than every earlier owner's.
        clean: the owner before released it (nothing was cut off in the middle).
    """

    partition: int
    owner: str
    epoch: int
    clean: bool = True


Move = tuple[Lease, int, int]
"""A run that moves: (the lease of its partition, its key, the lane)."""


class WorkerRow(msgspec.Struct, kw_only=True):
    """A worker that lives: it announced itself, and has not left or gone silent since.

    Args:
        name: the owner's name, as in its leases.
        build: the build of the code that it serves.
        draining: its build is to own lanes alone.
        partitions: how many it holds that are nobody's lanes.
        lanes: how many lanes of its build it holds.
    """

    name: str
    build: str = ""
    draining: bool = False
    partitions: int = 0
    lanes: int = 0


class BuildRow(msgspec.Struct, kw_only=True):
    """A build of the code that is of interest: it is served, runs are pinned to it, or it is retired.

    Args:
        workers: how many live.
        runs: open ones that are pinned to it.
        draining: its workers are to own its lanes alone.
        retired: what is pinned to it may go on with any build.
    """

    name: str
    workers: int = 0
    runs: int = 0
    draining: bool = False
    retired: bool = False


class RunFilter(msgspec.Struct, kw_only=True):
    """Which runs to list, newest first. `before` is the `key` the previous page ended with."""

    tenant: str | None = None
    status: tuple[str, ...] = ()
    workflow: str | None = None
    attributes: dict[str, str] = {}
    parent: str | None = None
    before: int | None = None
    limit: int = 100


class Cut(msgspec.Struct, kw_only=True):
    """What may be deleted of a run's history.

    Args:
        run: its key.
        checkpoint: `seq` of a checkpoint; nothing is deleted when the run goes on from an earlier one.
        until: up to which `seq` that checkpoint contains what was before it.
    """

    run: int
    checkpoint: int
    until: int


ReplyRow = tuple[str, bytes, int]
"""An answer to a message: (reply id, body, microseconds since 1970 after which it may go)."""


class Append(msgspec.Struct, kw_only=True):
    """One atomic commit of a partition's owner.

    Args:
        epochs: the owner's partitions, and its epoch in each; whatever the commit holds is of one of these.
        starts: new runs; the store sets `key` on each. One whose (tenant, run_id) is taken is a conflict: its row
            keeps key 0 and its events are left out, unless `all_or_nothing`, where one conflict refuses the commit.
        events: in commit order; `run.key` is read after the starts were given theirs.
        summaries: rows whose mutable columns changed (status, updated, ended, due, reason, checkpoint, deaths,
            attributes; and the build of a run that was pending).
        blobs: (run, content hash `sha256:…`, bytes): large payloads that the events refer to.
        seen: (run, id) of commands that count once.
        tickets: opened or changed tickets, whole rows.
        sends: messages to runs (of any partition), such as a child's result to its parent.
        takes: ids of inbox messages that this commit deals with.
        replies: answers to messages.
        cursors: (exporter, partition, position): how far exporters have come. 0 begins a cursor that is not there, any
            other moves one; where it was dropped meanwhile, it stays so.
    """

    epochs: dict[int, int]
    starts: list[RunRow] = []
    events: list[EventRecord] = []
    summaries: list[RunRow] = []
    blobs: list[tuple[Keyed, str, bytes]] = []
    seen: list[tuple[Keyed, str]] = []
    tickets: list[TicketRow] = []
    sends: list[Message] = []
    takes: list[int] = []
    replies: list[ReplyRow] = []
    cursors: list[tuple[str, int, int]] = []
    all_or_nothing: bool = False


class Appended(msgspec.Struct, kw_only=True):
    """What became of a commit.

    Args:
        committed: False: nothing was written; `inbox` or `conflicts` says why.
        inbox: messages that came before this commit and must be dealt with first (they are not in `takes`).
        conflicts: (start, the run that has its id already).
    """

    committed: bool
    inbox: list[Message] = []
    conflicts: list[tuple[RunRow, RunRow]] = []


def partition_of(tenant: str, run_id: str, partitions: int) -> int:
    """The partition of a run that starts: the same in every process. Children and forks live with their origin."""
    return crc32(f"{tenant}/{run_id}".encode()) % partitions if partitions > 1 else 0
