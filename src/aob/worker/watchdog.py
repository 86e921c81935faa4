"""Tells when a workflow turn does not end. It looks from a thread of its own, since the loop that is blocked cannot."""

from __future__ import annotations

import sys
import traceback
from types import FrameType

from aob import telemetry
from aob.kernel.guard import TURN
from aob.process import Ticker, thread_id

_DEBUGGERS = ("pydevd", "debugpy", "pdb", "bdb")


class Watchdog:
    """Reports turns of the calling thread that last longer than `blocked_after` seconds, once each, with their stack.

    Nothing is reported while a debugger is attached.
    """

    def __init__(self, blocked_after: float) -> None:
        self._limit = blocked_after
        self._thread = thread_id()
        self._turn = -1
        self._looks = 0
        self._ticker = Ticker(max(blocked_after / 4, 0.01), self._look, "aob-watchdog") if blocked_after > 0 else None

    def stop(self) -> None:
        """Look no more."""
        if self._ticker is not None:
            self._ticker.stop()

    def _look(self) -> None:
        machine, count = TURN.machine, TURN.count
        if machine is None or count != self._turn:
            self._turn, self._looks = count, 0
            return
        self._looks += 1
        if self._looks != 4:
            return
        frame = sys._current_frames().get(self._thread)  # pyright: ignore[reportPrivateUsage]
        if frame is None or _debugged(frame):
            return
        stack = "".join(traceback.format_stack(frame)[-12:])
        telemetry.tell("turn_blocked", run_id=machine.started.run_id, seconds=self._limit, stack=stack)


def _debugged(frame: FrameType | None) -> bool:
    if any(name in sys.modules for name in _DEBUGGERS[:2]):
        return True
    while frame is not None:
        if frame.f_trace is not None or frame.f_globals.get("__name__") in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False
