"""Time and randomness for workflow functions called as plain functions, outside an engine."""

from __future__ import annotations

from datetime import datetime
from random import Random

from aob.clock import SystemClock, to_datetime
from aob.process import SystemProcess
from aob.workflow.context import use_plain


class Present:
    """The host's clock, and a random stream of this process."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._random: Random | None = None

    def now(self) -> datetime:
        return to_datetime(self._clock.now_us())

    def random(self) -> Random:
        if self._random is None:
            self._random = Random(SystemProcess().seed())
        return self._random


def use_present() -> None:
    """From now on, what is called outside an engine sees the present."""
    use_plain(Present())
