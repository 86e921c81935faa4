"""Who asked, and how they are told: in the commit that has the effect, so that no owner can die between the two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from aob.kernel.events import NULL
from aob.kernel.failures import Failure, capture
from aob.stores.rows import Message

if TYPE_CHECKING:
    from aob.engine.host import Host

_KEPT_US = 600 * 1_000_000


class Reply(msgspec.Struct, omit_defaults=True):
    """What the owner answers."""

    result: Raw = NULL
    failure: Failure | None = None


class Rows(msgspec.Struct):
    """What a commit holds of an answer: the messages it deletes, and the replies."""

    takes: list[int] = []
    replies: list[tuple[str, bytes, int]] = []


class Asker:
    """Somebody of this process, who awaits the call itself."""

    told = False

    def rows(self, result: bytes = b"null") -> Rows:
        """What the commit must hold that makes true what was asked."""
        return Rows()

    def tell(self, result: bytes = b"null") -> None:
        """Put the answer into the commit that is being filled: beside the effect, with no await between."""

    def not_told(self) -> None:
        """The commit that held the answer was refused as a whole."""


HERE = Asker()


class Sender(Asker):
    """Who sent a message. The commit that has its effect deletes it, and holds the reply, if one is awaited."""

    def __init__(self, host: Host, message: Message) -> None:
        self._host = host
        self._message = message

    def rows(self, result: bytes = b"null") -> Rows:
        """See `Asker`."""
        return self._rows(Reply(Raw(result)))

    def tell(self, result: bytes = b"null") -> None:
        """See `Asker`."""
        self._put(Reply(Raw(result)))

    def tell_error(self, error: Exception) -> None:
        """What was asked cannot be done."""
        self._put(Reply(failure=capture(error)))

    def not_told(self) -> None:
        """See `Asker`."""
        self.told = False

    def _put(self, reply: Reply) -> None:
        rows, group = self._rows(reply), self._host.commits.group()
        group.take(rows.takes, self._message.partition)
        group.replies += rows.replies

    def _rows(self, reply: Reply) -> Rows:
        self.told = True
        message, until = self._message, self._host.clock.now_us() + _KEPT_US
        replies = [] if message.reply is None else [(message.reply, self._host.payloads.seal_message(reply), until)]
        return Rows([message.id], replies)
