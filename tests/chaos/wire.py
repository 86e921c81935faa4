"""As much of Postgres' protocol as it takes to cut a connection at a chosen moment: where a message ends, which
statement a client sends, and when the server has answered it."""

from __future__ import annotations

from enum import Enum, auto

_SSL_REQUEST = b"\x04\xd2\x16\x2f"
COMMITTING = ("append_", "send_")
"""Names of the schema's functions that write what callers are told of."""


class Client:
    """What a client says, message by message."""

    def __init__(self) -> None:
        self._rest = b""
        self._greeted = False
        self._committing: set[bytes] = set()
        self.asked_for_ssl = False

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete by now."""
        self._rest += data
        found: list[bytes] = []
        while (size := self._size()) and len(self._rest) >= size:
            message, self._rest = self._rest[:size], self._rest[size:]
            if not self._greeted:
                self.asked_for_ssl = message[4:8] == _SSL_REQUEST
                self._greeted = not self.asked_for_ssl
            found.append(message)
        return found

    def _size(self) -> int:
        typed = 1 if self._greeted else 0
        length = self._rest[typed : typed + 4]
        return typed + int.from_bytes(length, "big") if len(length) == 4 else 0

    def commits(self, message: bytes) -> bool:
        """Whether this is the call of a function that writes."""
        if message[:1] == b"P":
            name, query = message[5:].split(b"\0", 2)[:2]
            if any(f".{function}".encode() in query.replace(b'"', b"") for function in COMMITTING):
                self._committing.add(name)
            else:
                self._committing.discard(name)
        return message[:1] == b"B" and message[5:].split(b"\0", 2)[1] in self._committing


class Server:
    """What a server says."""

    def __init__(self) -> None:
        self._rest = b""

    def is_ready(self, data: bytes) -> bool:
        """Whether it has done what it was told to: `ReadyForQuery` is in here."""
        self._rest += data
        ready = False
        while len(self._rest) >= 5:
            size = 1 + int.from_bytes(self._rest[1:5], "big")
            if len(self._rest) < size:
                break
            ready = ready or self._rest[:1] == b"Z"
            self._rest = self._rest[size:]
        return ready


class Moment(Enum):
    """When a connection is cut that carries a commit."""

    UNSENT = auto()
    """Before the call reaches the server."""
    SENT = auto()
    """As soon as it is on its way there."""
    ANSWERED = auto()
    """When it is done, and the answer has not reached the client."""
