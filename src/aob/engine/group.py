"""What one commit will hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from aob.engine.active import ActiveRun
from aob.kernel import events as ev
from aob.stores.rows import Message, TicketRow

UNSET: Any = object()
Record = tuple[ActiveRun, ev.Event, Any]
"""An event of a run on its way to the store, and a step's result as decoded (`UNSET`: it is not at hand)."""


class Group:
    """Fills until it is sent; what comes later goes into the next one."""

    __slots__ = (
        "acks",
        "after",
        "ahead",
        "atomic",
        "blobs",
        "chains",
        "cursors",
        "partitions",
        "records",
        "replies",
        "seen",
        "sends",
        "seqs",
        "starts",
        "summaries",
        "takes",
        "tickets",
    )

    def __init__(self, atomic: bool = False) -> None:
        self.atomic = atomic
        self.ahead = False
        self.records: list[Record] = []
        self.chains: list[int] = []
        self.seqs: list[int] = []
        self.starts: dict[int, ActiveRun] = {}
        self.summaries: dict[int, ActiveRun] = {}
        self.seen: list[tuple[ActiveRun, str]] = []
        self.tickets: list[TicketRow] = []
        self.sends: list[Message] = []
        self.blobs: list[tuple[ActiveRun, str, bytes]] = []
        self.takes: list[int] = []
        self.partitions: set[int] = set()
        self.replies: list[tuple[str, bytes, int]] = []
        self.cursors: list[tuple[str, int, int]] = []
        self.acks: list[asyncio.Future[Any]] = []
        self.after: list[Callable[[], None]] = []

    def extend(self, later: Group) -> None:
        """Take over what another group holds, behind what is here."""
        self.records += later.records
        self.starts |= later.starts
        self.summaries |= later.summaries
        self.seen += later.seen
        self.tickets += later.tickets
        self.sends += later.sends
        self.blobs += later.blobs
        self.takes += later.takes
        self.partitions |= later.partitions
        self.replies += later.replies
        self.cursors += later.cursors
        self.acks += later.acks
        self.after += later.after

    def take(self, messages: Iterable[int], partition: int) -> None:
        """The commit deletes these messages of a partition."""
        self.takes += messages
        self.partitions.add(partition)

    def empty(self) -> bool:
        return not (self.acks or self.after or self.writes())

    def writes(self) -> bool:
        """Whether the store has anything to do."""
        return bool(
            self.records
            or self.summaries
            or self.takes
            or self.replies
            or self.cursors
            or self.tickets
            or self.sends
            or self.seen
        )
