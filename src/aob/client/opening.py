"""From a URL to a store, through the entry points of `aob.stores`."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from aob.clock import Clock
from aob.errors import BadUrl, StoreUnavailable
from aob.process import Process
from aob.settings import Settings
from aob.stores.protocol import Store
from aob.stores.urls import without_password


async def open_store(url: str, clock: Clock, process: Process, settings: Settings) -> Store:
    """Open the store that a URL names. `sqlite://` without a path is in memory.

    Raises:
        BadUrl: no installed backend knows its scheme.
        OperatorError: the store cannot be used; why, and what to do.
    """
    scheme, separator, rest = url.partition("://")
    name = "memory" if scheme == "sqlite" and rest in ("", "/") else scheme
    found = entry_points(group="aob.stores", name=name)
    if not separator or not found:
        known = ", ".join(sorted({f"{e.name}://" for e in entry_points(group="aob.stores") if e.name != "memory"}))
        shown = without_password(url)
        raise BadUrl(f"{shown!r} names no store: use one of {known}, such as sqlite:///aob.db, or sqlite:// in memory")
    try:
        opener: Any = next(iter(found)).load()
    except ModuleNotFoundError as e:
        raise StoreUnavailable(f"{scheme}:// needs a package that is missing here: pip install {e.name}") from e
    return await opener(url, clock=clock, process=process, settings=settings)
