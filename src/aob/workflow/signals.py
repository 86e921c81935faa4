"""Queries and updates: functions nested in a workflow that others may call while it runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from aob.errors import BadDefinition
from aob.kernel.codec import SignatureCodec
from aob.workflow.context import current_machine

F = TypeVar("F", bound=Callable[..., Any])


def query(fn: F) -> F:
    """Let others read the run's state with `run.query(name, …)`. The function must be a plain `def` without effects."""
    if inspect.iscoroutinefunction(fn):
        raise BadDefinition(f"query {fn.__name__} must be a plain def: it reads state and awaits nothing")
    machine = current_machine()
    if machine is not None:
        machine.handlers.queries[fn.__name__] = fn
    return fn


class UpdateHandler:
    """An update as declared; `@handler.validator` adds a check."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.check: Callable[..., Any] | None = None
        self._codec: SignatureCodec | None = None

    @property
    def codec(self) -> SignatureCodec:
        """Reads its arguments and writes its answer; made when it is first called."""
        if self._codec is None:
            self._codec = SignatureCodec(self.fn, f"update {self.fn.__name__}")
        return self._codec

    def validator(self, fn: F) -> F:
        """A plain function with the same arguments that may raise: then the update is refused and nothing is
        recorded."""
        if inspect.iscoroutinefunction(fn):
            raise BadDefinition(f"the validator of update {self.fn.__name__} must be a plain def")
        self.check = fn
        return fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)


def update(fn: Callable[..., Any]) -> UpdateHandler:
    """Let others change the run's state and get an answer with `run.update(name, …)`; it may await steps."""
    handler = UpdateHandler(fn)
    machine = current_machine()
    if machine is not None:
        machine.handlers.updates[fn.__name__] = handler
    return handler
