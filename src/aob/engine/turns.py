"""One call at a time that opens or deletes an ended run."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from aob.engine.active import ActiveRun
from aob.errors import NotFinished


class Turns:
    """Whose turn it is, by run."""

    def __init__(self) -> None:
        self._taken: set[tuple[str, str]] = set()

    @contextmanager
    def take(self, run: ActiveRun) -> Generator[None]:
        """Have the run to oneself in this block.

        Raises:
            NotFinished: another call has it.
        """
        name = (run.tenant, run.run_id)
        if name in self._taken:
            raise NotFinished(f"run {run.run_id!r} is being opened or deleted by another call", run_id=run.run_id)
        self._taken.add(name)
        try:
            yield
        finally:
            self._taken.discard(name)
