"""The demo's worker, as its parent sees it: a real process that can be killed, and a count of what it has delivered."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from examples.support import settings

STOP_SECONDS = 5


class WorkerDied(Exception):
    """The worker ended by itself."""


class WorkerProcess:
    """A process of its own that works on the runs of a store.

    Args:
        store: the store's URL.
        folder: where the outbox and the worker's log are.
        approval_seconds: how long a refund waits for a person.
    """

    def __init__(self, store: str, folder: Path, approval_seconds: float) -> None:
        self.log = folder / "worker.log"
        environment = os.environ | {
            settings.OUTBOX: str(folder / "outbox.jsonl"),
            settings.APPROVAL_SECONDS: str(approval_seconds),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "examples.support.worker", store],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the demo, which then stops its worker.
                start_new_session=True,
            )
        self.pid = self._process.pid

    def check(self) -> None:
        """Raise WorkerDied, with the end of its log, when it is not running any more."""
        code = self._process.poll()
        if code is not None:
            raise WorkerDied(f"the worker ended with code {code}:\n{self._last_words()}")

    def kill(self) -> None:
        """SIGKILL: it cannot be caught, and nothing is flushed or handed over."""
        self.check()
        os.kill(self.pid, signal.SIGKILL)
        code = self._process.wait()
        if code != -signal.SIGKILL:
            raise WorkerDied(f"the worker ended with code {code} before it could be killed:\n{self._last_words()}")

    def stop(self) -> None:
        """End it in good order, or by force when that takes too long."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        return self.log.read_text("utf-8", "replace")[-2000:]


class Delivered:
    """How many finished lines a growing file has; each look reads only what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_to = 0
        self._lines = 0

    def count(self) -> int:
        """The number of lines now."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read_to)
                whole, newline, _unfinished = file.read().rpartition(b"\n")
            self._read_to += len(whole) + len(newline)
            self._lines += whole.count(b"\n") + len(newline)
        return self._lines
