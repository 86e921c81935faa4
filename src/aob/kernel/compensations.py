"""Undo steps, latest first."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

Undo = Callable[[], Any]


async def undo_all(undo: list[Undo]) -> None:
    """Run all, latest first; neither one that fails nor a cancel keeps the others from running.

    Raises:
        The error of the one that failed, or an `ExceptionGroup` of several; `CancelledError` if a cancel came.
    """
    errors: list[Exception] = []
    cancelled = False
    for fn in reversed(undo):
        task = asyncio.create_task(_undo(fn))
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                cancelled = True
        try:
            task.result()
        except Exception as e:
            errors.append(e)
    if errors:
        raise errors[0] if len(errors) == 1 else ExceptionGroup("compensations failed", errors)
    if cancelled:
        raise asyncio.CancelledError


async def _undo(fn: Undo) -> None:
    result = fn()
    if inspect.isawaitable(result):
        await result
