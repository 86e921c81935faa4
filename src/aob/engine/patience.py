"""Going on with what was begun when a store that did not answer answers again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from aob.errors import StoreFull, StoreLocked, StoreUnavailable

if TYPE_CHECKING:
    from aob.engine.host import Host

T = TypeVar("T")
PASSING = (StoreUnavailable, StoreLocked, StoreFull)
"""What a store complains of that may pass by itself: nobody ends for it as long as there is time to wait."""
_AGAIN = 0.5


async def patiently(host: Host, call: Callable[[], Awaitable[T]]) -> T:
    """What `call` returns; while the store does not answer, it is made again.

    For what nobody would ask for again: it is the engine's own to finish.

    Raises:
        AobError: the host has ended; and what `call` raises otherwise.
    """
    while True:
        try:
            return await call()
        except PASSING:
            if host.failed is not None:
                raise
        await host.clock.sleep(_AGAIN)
        if host.failed is not None:
            raise host.failed
