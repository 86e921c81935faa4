"""Undo steps, latest first."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

Undo = Callable[[], Any]


async def undo_all(undo: list[Undo]) -> None:
    """Run all, latest first; one that fails does not keep the others from running.

    Raises:
        The error of the one that failed, or an `ExceptionGroup` of several.
    """
    errors: list[Exception] = []
    for fn in reversed(undo):
        try:
            result = fn()
            if inspect.isawaitable(result):
                await result
        except Exception as e:
            errors.append(e)
    if errors:
        raise errors[0] if len(errors) == 1 else ExceptionGroup("compensations failed", errors)
