"""The one seam to the process: fresh ids, randomness, threads, process identity. Nothing else in aob makes these."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import gc
import os
import random
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar
from weakref import WeakSet

T = TypeVar("T")
Threads = ThreadPoolExecutor
"""A pool of threads, as a type for those who may not make one."""


class Process(Protocol):
    """Where new ids and random numbers come from, and where blocking code runs."""

    name: str

    def new_id(self, length: int) -> str:
        """A fresh random id of `length` hexadecimal characters. Unique, but no secret."""
        ...

    def seed(self) -> int:
        """A fresh random 63-bit number."""
        ...

    def uniform(self) -> float:
        """A random number in [0, 1); for jitter."""
        ...

    def threads(self, count: int, name: str) -> ThreadPoolExecutor:
        """A pool of `count` threads for blocking code."""
        ...


class SystemProcess:
    """This process of this host."""

    def __init__(self) -> None:
        self._random = random.Random(secrets.randbits(256))
        self.name = f"{socket.gethostname()}:{os.getpid()}:{self.new_id(8)}"

    def new_id(self, length: int) -> str:
        return f"{self._random.getrandbits(4 * length):0{length}x}"

    def seed(self) -> int:
        return self._random.getrandbits(63)

    def uniform(self) -> float:
        return self._random.random()

    def threads(self, count: int, name: str) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(count, thread_name_prefix=name)


def start_thread(fn: Callable[[], None], name: str) -> threading.Thread:
    """Run `fn` in a daemon thread of its own."""
    thread = threading.Thread(target=fn, name=name, daemon=True)
    thread.start()
    return thread


def pause(seconds: float) -> None:
    """Block this thread; for code that runs outside the event loop."""
    time.sleep(seconds)


async def in_thread(fn: Callable[[], T]) -> T:
    """What `fn()` returns, which blocks: it runs in a thread, and other tasks go on."""
    return await asyncio.to_thread(fn)


ChildProcess = asyncio.subprocess.Process
"""A process that this one started, as a type for those who may not start one."""


async def spawn_python(
    *args: str, env: Mapping[str, str] | None = None, own_session: bool = False, read_stderr: bool = False
) -> ChildProcess:
    """Start another process of this Python, with pipes to its stdin and stdout.

    Args:
        env: variables that differ from this process's.
        own_session: Ctrl-C on the terminal does not reach it; whoever started it is to end it (and `end_with_parent`
            or `end_when_orphaned` there, should that be too late).
        read_stderr: a pipe to its stderr too.
    """
    pipe, variables = asyncio.subprocess.PIPE, {**os.environ, **(env or {})}
    return await asyncio.create_subprocess_exec(
        sys.executable, *args, stdin=pipe, stdout=pipe, stderr=pipe if read_stderr else None, env=variables,
        limit=1 << 26, start_new_session=own_session,
    )  # fmt: skip


def end_with_parent(grace: float) -> None:
    """Stop this process, as SIGTERM would, when its stdin ends: whoever started it is gone then, and nobody reads what
    it says. If it still lives `grace` seconds later, it ends at once."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(grace)
        os._exit(1)

    start_thread(watch, "aob-parent")


def end_when_orphaned() -> None:
    """End this process at once, whatever it does, soon after the one that started it has ended."""
    parent = os.getppid()

    def look() -> None:
        if os.getppid() != parent:
            os._exit(1)

    Ticker(1.0, look, "aob-parent")


class FileLock:
    """An advisory lock on a file, which the kernel drops when this process ends, however it ends.

    Two locks on one path exclude each other within a process too. A forked child does not inherit it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    @property
    def held(self) -> bool:
        """Whether this object holds it."""
        return self._fd >= 0

    def take(self) -> bool:
        """Lock it; False when another process (or another object) holds it. A second call changes nothing."""
        if self.held:
            return True
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._fd = fd
        _held_locks.add(self)
        return True

    def drop(self) -> None:
        """Unlock it; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


_held_locks: WeakSet[FileLock] = WeakSet()


def _drop_in_child() -> None:
    for lock in list(_held_locks):
        lock.drop()


os.register_at_fork(after_in_child=_drop_in_child)


_BIND_TRIES = 100
_STRAY_S = 60.0


class Doorbell:
    """Wakes processes of this host that wait: each has a datagram socket in one directory.

    A bell carries no news, only that there is some; one that is lost costs its listener the time to its next look.

    Args:
        lent: the directory is removed with the last bell in it.
    """

    _RACY_NS = 50_000_000

    def __init__(self, directory: Path, lent: bool = False) -> None:
        self.directory = directory
        self._lent = lent
        self._bell: socket.socket | None = None
        self._name = ""
        self._ringer: socket.socket | None = None
        self._others: list[str] = []
        self._seen: tuple[int, int] = (0, 0)

    def hang(self) -> int | None:
        """Bind this process's bell; its file descriptor becomes readable when it rings. None where that cannot be."""
        if self._bell is None:
            bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            name = f"{os.getpid()}-{secrets.token_hex(4)}"
            if not self._bind(bell, name):
                bell.close()
                return None
            bell.setblocking(False)
            self._bell, self._name, self._seen = bell, name, (0, 0)
        return self._bell.fileno()

    def _bind(self, bell: socket.socket, name: str) -> bool:
        for _ in range(_BIND_TRIES):
            try:
                self.directory.mkdir(exist_ok=True)
                bell.bind(str(self.directory / name))
            except (FileNotFoundError, FileExistsError):
                continue  # another process removed the empty directory in between
            except OSError:
                return False
            return True
        return False

    def silence(self) -> None:
        """Forget the rings so far."""
        with contextlib.suppress(OSError):
            while self._bell is not None and self._bell.recv(16):
                pass

    def ring(self) -> None:
        """Wake every other process that has a bell here; bells whose process is gone are taken down."""
        for name in self._neighbours():
            path = str(self.directory / name)
            if self._ringer is None:
                self._ringer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._ringer.setblocking(False)
            try:
                self._ringer.sendto(b"!", path)
            except ConnectionRefusedError:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            except OSError:
                pass

    def close(self) -> None:
        """Take this process's bell down."""
        if self._bell is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.directory / self._name)
            self._bell.close()
            self._bell = None
            if self._lent:
                with contextlib.suppress(OSError):
                    self.directory.rmdir()
        if self._ringer is not None:
            self._ringer.close()
            self._ringer = None

    def _neighbours(self) -> list[str]:
        # One stat where nothing changed. A listing made within a clock tick of the change it saw may have missed
        # another one in the same tick, so it is not trusted.
        try:
            changed = os.stat(self.directory).st_mtime_ns
        except OSError:
            return []
        listed_for, listed_at = self._seen
        if changed != listed_for or listed_at - changed < self._RACY_NS:
            self._seen = (changed, time.time_ns())
            try:
                self._others = [name for name in os.listdir(self.directory) if name != self._name]
            except OSError:
                self._others = []
        return self._others


def remove_stray_bells(parent: Path, prefix: str) -> None:
    """Remove the directories of bells, under `parent` and named so, whose processes were killed.

    Several processes may do so at once. What changed within a minute is left alone, and so is a directory in which one
    bell can still be rung.
    """
    before = time.time() - _STRAY_S
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        _remove_stray(Path(entry.path))


def _remove_stray(directory: Path) -> None:
    for bell in directory.iterdir():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ringer:
            try:
                ringer.connect(str(bell))  # which does not ring it
            except ConnectionRefusedError:
                if bell.is_socket():
                    bell.unlink(missing_ok=True)
    directory.rmdir()


_YOUNG = 20_000


def settle_memory() -> None:
    """Tell the garbage collector that what is loaded now stays: its full passes then look at the work in hand alone.

    A full pass over the modules of a common application takes tens of milliseconds, in which nothing else happens. And
    it looks less often: what a few hundred runs hold goes by itself when they end, so looking in between finds nothing.
    """
    gc.collect()
    gc.freeze()
    young, middle, old = gc.get_threshold()
    if 0 < young < _YOUNG:
        gc.set_threshold(_YOUNG, middle, old)


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def private_stdout() -> BinaryIO:
    """What this process's stdout is, for the caller alone: from now on whatever else is printed goes to stderr."""
    kept = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return kept


def thread_id() -> int:
    """The calling thread's identity."""
    return threading.get_ident()


class Ticker:
    """Calls `fn()` every `seconds` from a daemon thread of its own."""

    def __init__(self, seconds: float, fn: Callable[[], None], name: str) -> None:
        self._ended = threading.Event()
        self._seconds = seconds
        self._fn = fn
        start_thread(self._run, name)

    def stop(self) -> None:
        """Call it no more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._fn()


def watch_blocking(check: Callable[[str, object], None]) -> None:
    """Call `check(name, detail)` before a thread is started or the process sleeps: Python itself has no audit event for
    them before 3.13. What `check` raises prevents the call."""
    start, sleep = threading.Thread.start, time.sleep

    @functools.wraps(start)
    def checked_start(self: threading.Thread) -> None:
        check("threading.Thread.start", None)  # its name counts threads, and is another on replay
        start(self)

    @functools.wraps(sleep)
    def checked_sleep(seconds: float) -> None:
        check("time.sleep", seconds)
        sleep(seconds)

    threading.Thread.start = checked_start
    time.sleep = checked_sleep
