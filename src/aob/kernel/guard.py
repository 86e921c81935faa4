"""What keeps workflow code from doing I/O behind its loop's back, and what tells that a turn never ends.

Python raises an audit event (PEP 578) before it opens a file or socket or starts a process. The hook refuses those that
come from a thread whose running loop is a run's. Imports and tracebacks read files too; these are let through.
"""

from __future__ import annotations

import sys
from asyncio import events as asyncio_events
from collections.abc import Callable
from types import FrameType
from typing import Any

from aob.errors import IoInWorkflow
from aob.kernel.loop import WorkflowLoop, caller_line

_get_running_loop = asyncio_events._get_running_loop  # pyright: ignore
_REFUSED = frozenset(
    {
        "open", "socket.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname",
        "subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.listdir",
        "os.scandir", "os.remove", "os.rename", "os.mkdir", "_thread.start_new_thread", "_thread.start_joinable_thread",
        "time.sleep", "sqlite3.connect", "urllib.Request", "shutil.copyfile", "tempfile.mkstemp", "tempfile.mkdtemp",
    }
)  # fmt: skip
_READERS = ("importlib", "_frozen_importlib", "linecache", "traceback", "tokenize", "inspect", "zipimport", "pkgutil")
_installed: list[bool] = []


class Turn:
    """Which run's code is running just now. Written by the thread that runs it, read by the watchdog's."""

    __slots__ = ("count", "machine")

    def __init__(self) -> None:
        self.count = 0
        self.machine: Any = None


TURN = Turn()


def install(watch_blocking: Callable[[Callable[[str, object], None]], None]) -> None:
    """Refuse I/O in workflow code from now on, in this process. A second call does nothing.

    Args:
        watch_blocking: has `refuse` called before what Python has no audit event for.
    """
    if not _installed:
        _installed.append(True)
        sys.addaudithook(_audit)
        watch_blocking(refuse)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event in _REFUSED and type(_get_running_loop()) is WorkflowLoop:
        # a temporary file has a random name, and the error must read the same on replay
        refuse(event, *(() if event.startswith("tempfile.") else args[:1]))


def refuse(event: str, detail: object = None) -> None:
    """Refuse a call if it comes from workflow code.

    Raises:
        IoInWorkflow: it does.
    """
    if type(_get_running_loop()) is not WorkflowLoop:
        return
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    if _reads_code(frame):
        return
    what = f"{event} {detail!r}"[:100] if isinstance(detail, str | bytes | float | int) else event
    raise IoInWorkflow(
        f"{what} in a workflow, at {caller_line(frame)}: workflow code must not do I/O, block, start threads or "
        "processes. Make it an activity: put the call into a function with @aob.activity and await that"
    )


def _reads_code(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_READERS):
            return True
        frame = frame.f_back
    return False
