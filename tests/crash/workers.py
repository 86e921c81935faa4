"""Worker processes as seen from a test: started, stopped, woken, killed, and listened to."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.conftest import REPOSITORY


class WorkerProcess:
    """A process of `tests.crash.worker`; `told` counts what it has said, `epoch` is of its last lease."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.told: Counter[str] = Counter()
        self.epoch = 0
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            word, number = line.decode().split()
            async with self._news:
                self.told[word] += 1
                self.epoch = int(number) if word == "lease_taken" else self.epoch
                self._news.notify_all()
        async with self._news:
            self.told["ended"] += 1
            self._news.notify_all()

    async def says(self, word: str, times: int = 1) -> None:
        """Wait until it has said a word so often."""
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(lambda: self.told[word] >= times or self.told["ended"])
        assert self.told[word] >= times, self.told

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL, whatever it was doing."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def finish(self) -> None:
        """Let it end in order."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert await self._process.wait() == 0
        await self._reading


async def start_worker(directory: Path, lease_ttl: float = 5.0) -> WorkerProcess:
    """A worker on `aob.db` in a directory; it may not serve yet."""
    paths = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH", ""))))
    pipe = asyncio.subprocess.PIPE
    return WorkerProcess(
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.crash.worker", url_of(directory), str(directory / "effects.jsonl"),
            str(lease_ttl), cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": paths}, stdin=pipe, stdout=pipe,
        )
    )  # fmt: skip


@asynccontextmanager
async def working(directory: Path, lease_ttl: float = 5.0) -> AsyncIterator[WorkerProcess]:
    """A worker that serves; killed at the end if it has not ended."""
    worker = await start_worker(directory, lease_ttl)
    try:
        await worker.says("serving")
        yield worker
    finally:
        await worker.kill()


def url_of(directory: Path) -> str:
    """The store in a directory."""
    return f"sqlite:///{directory}/aob.db"
