"""Parcels as lines of JSON, and back. The first line says what the file is, the last counts its runs.

A run's lines: `run` (its summary, and what belongs to it), then each `event`, `blob`, `ticket`, `message`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw

from aob.engine.transfer import Parcel
from aob.errors import CallerError, StoreCorrupt
from aob.stores.chain import follow, is_content
from aob.stores.rows import Message, RunRow, TicketRow

FORMAT = 1


class BadExport(CallerError):
    """A file is no export, or not a whole one."""

    code = "bad_export"


class _Head(msgspec.Struct):
    """`run` line: the summary, and how many lines of each kind follow."""

    row: RunRow
    chain: int
    events: int
    blobs: int
    tickets: int
    messages: int
    seen: list[str]


class _Line(msgspec.Struct, omit_defaults=True):
    """A line; one of its fields is there."""

    aob_export: int | None = None
    run: _Head | None = None
    event: tuple[str, int, Raw] | None = None
    blob: tuple[str, bytes] | None = None
    ticket: TicketRow | None = None
    message: Message | None = None
    end: int | None = None


_decode = msgspec.json.Decoder(_Line).decode


def first_line() -> bytes:
    """The line before all runs."""
    return msgspec.json.encode(_Line(aob_export=FORMAT)) + b"\n"


def last_line(runs: int) -> bytes:
    """The line behind all runs."""
    return msgspec.json.encode(_Line(end=runs)) + b"\n"


def lines_of(parcel: Parcel) -> Iterator[bytes]:
    """A run's lines."""
    head = _Head(
        parcel.row, parcel.chain, len(parcel.events), len(parcel.blobs), len(parcel.tickets), len(parcel.messages),
        parcel.seen,
    )  # fmt: skip
    yield _line(run=head)
    for kind, version, data in parcel.events:
        yield _line(event=(kind, version, Raw(data)))
    for digest, data in parcel.blobs:
        yield _line(blob=(digest, data))
    for ticket in parcel.tickets:
        yield _line(ticket=ticket)
    for message in parcel.messages:
        yield _line(message=message)


def read_parcels(lines: Iterable[bytes]) -> Iterator[Parcel]:
    """The runs of a file.

    Raises:
        BadExport: it is no export, a newer aob wrote it, it is damaged, or its end is missing; in which line.
    """
    reader = _Reader(lines)
    reader.first()
    count = 0
    while (line := reader.next()).end is None:
        if line.run is None:
            raise reader.bad("a run should begin here")
        yield _parcel(reader, line.run)
        count += 1
    if line.end != count:
        raise reader.bad(f"it should hold {line.end} runs, and has {count}")


def _parcel(reader: _Reader, head: _Head) -> Parcel:
    parcel = Parcel(row=head.row, chain=head.chain, seen=head.seen)
    seq = chain = 0
    for _ in range(head.events):
        kind, version, raw = reader.one("event")
        data = bytes(raw)
        try:
            seq, chain = follow(seq, chain, kind, data)
        except StoreCorrupt as e:
            raise reader.bad(e.message) from e
        parcel.events.append((kind, version, data))
    if chain != head.chain:
        raise reader.bad(f"the history of run {head.row.run_id!r} is not what was exported")
    for _ in range(head.blobs):
        digest, data = reader.one("blob")
        if not is_content(digest, data):
            raise reader.bad(f"the payload {digest} is not what was exported")
        parcel.blobs.append((digest, data))
    parcel.tickets = [reader.one("ticket") for _ in range(head.tickets)]
    parcel.messages = [reader.one("message") for _ in range(head.messages)]
    return parcel


class _Reader:
    """Lines with their numbers."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self.number = 0

    def first(self) -> None:
        """The line that says what the file is."""
        version = self.next().aob_export
        if version is None:
            raise self.bad("an export begins with its format, and this does not")
        if version > FORMAT:
            raise self.bad(f"a newer aob wrote it (format {version}): upgrade this one")

    def next(self) -> _Line:
        """The next line."""
        self.number += 1
        text = next(self._lines, None)
        if text is None:
            raise self.bad("the file ends here, in the middle: export it again")
        try:
            return _decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise self.bad(f"this is no line of an export ({e})") from e

    def one(self, kind: str) -> Any:
        """What the next line holds, which must be of this kind."""
        value = getattr(self.next(), kind)
        if value is None:
            raise self.bad(f"there should be a line with {kind!r} here")
        return value

    def bad(self, what: str) -> BadExport:
        """What is wrong with the current line."""
        return BadExport(f"line {self.number}: {what}")


def _line(**fields: Any) -> bytes:
    return msgspec.json.encode(_Line(**fields)) + b"\n"
