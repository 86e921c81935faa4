"""A run's query and update handlers, and the updates that are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Protocol

from msgspec import Raw

from aob.errors import AobError, QueryNotFound, UpdateRefused
from aob.kernel import events as ev
from aob.kernel.codec import SignatureCodec
from aob.kernel.failures import capture


@contextmanager
def refused(update: str) -> Generator[None]:
    """What a validator raises in this block has `UpdateRefused` as its cause."""
    try:
        yield
    except AobError:
        raise
    except Exception as e:
        refusal = UpdateRefused(f"update {update!r} was refused: {type(e).__name__}: {e}")
        refusal.__cause__ = e.__cause__
        raise e from refusal


class Update(Protocol):
    """What the kernel needs of an update handler."""

    fn: Callable[..., Any]
    check: Callable[..., Any] | None

    @property
    def codec(self) -> SignatureCodec: ...


class Handlers:
    """Made when a workflow declares its first handler.

    Args (attributes):
        running: accepted updates without an answer, by step id.
        answers: answers that are not in the history yet, by step id.
    """

    __slots__ = ("answers", "codecs", "queries", "running", "updates")

    def __init__(self) -> None:
        self.codecs: dict[str, SignatureCodec] = {}
        self.queries: dict[str, Callable[..., Any]] = {}
        self.updates: dict[str, Update] = {}
        self.running: dict[str, ev.SignalReceived] = {}
        self.answers: dict[str, ev.UpdateCompleted] = {}

    def query(self, name: str) -> Callable[..., Any]:
        """The handler of a query.

        Raises:
            QueryNotFound: there is none.
        """
        fn = self.queries.get(name)
        if fn is None:
            known = ", ".join(sorted(self.queries)) or "none"
            raise QueryNotFound(f"the run has no query {name!r}; it has: {known}")
        return fn

    def query_args(self, name: str, args: list[Raw], kwargs: dict[str, Raw]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of a query that came as JSON, by its annotations.

        Raises:
            QueryNotFound, BadInput, BadPayload.
        """
        codec = self.codecs.get(name)
        if codec is None:
            codec = self.codecs[name] = SignatureCodec(self.query(name), f"query {name}")
        return codec.decode_args(codec.bind_wire(args, kwargs))

    def update(self, name: str) -> Update:
        """The handler of an update.

        Raises:
            QueryNotFound: there is none.
        """
        update = self.updates.get(name)
        if update is None:
            known = ", ".join(sorted(self.updates)) or "none"
            raise QueryNotFound(f"the run has no update {name!r}; it has: {known}")
        return update

    async def answer(self, event: ev.SignalReceived, answered: Callable[[ev.UpdateCompleted], None]) -> None:
        """Run an accepted update and hand its answer to `answered`."""
        assert event.update is not None
        self.running[event.update] = event
        try:
            update = self.updates[event.name]
            args, kwargs = update.codec.decode_args(event.payload)
            result = update.fn(*args, **kwargs)
            if asyncio.iscoroutine(result):
                result = await result
            encoded, _ = update.codec.result.encode_checked(result)
            answer = ev.UpdateCompleted(0, event.update, event.name, Raw(encoded))
        except Exception as e:
            answer = ev.UpdateCompleted(0, event.update, event.name, failure=capture(e))
        self.running.pop(event.update, None)
        self.answers[event.update] = answer
        answered(answer)

    def forget_pass(self) -> None:
        """The function starts again, and declares its handlers anew."""
        self.codecs.clear()
        self.queries.clear()
        self.updates.clear()
