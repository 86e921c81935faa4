"""A pool of processes that replay runs with the code of today; nothing else that a run's code does can end the command.
`child` is one of them: it reads rows of runs, a line of JSON each, and answers each with a verdict."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from typing import BinaryIO

import msgspec

from aob.cli.loading import AnyWorkflow, load_codec, workflows_of
from aob.cli.session import CommandFailed, Session
from aob.client.client import Client
from aob.engine.rehearse import Verdict, rehearse, verdict
from aob.kernel.states import TERMINAL_STATES
from aob.process import ChildProcess, end_when_orphaned, private_stdout, spawn_python
from aob.stores.rows import RunRow
from aob.worker.worker import collect

_CHILD = "from aob.cli.rehearsals import child; child()"
_CHUNK = 50
_READY = b"ready\n"
_LAST_WORDS = 1.0


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What a process of the pool is told: the store, and the code to replay with."""

    store: str
    codec: str | None
    code: tuple[str, ...]


def programs_of(code: tuple[str, ...]) -> dict[str, AnyWorkflow]:
    """Workflows by name, as a worker of these modules would serve them.

    Raises:
        Misuse, CommandFailed: as `workflows_of`.
        DuplicateDefinition: two have one name.
    """
    return collect(tuple(dict.fromkeys(w for reference in code for w in workflows_of(reference))), ()) if code else {}


class Pool:
    """Replays runs in so many processes.

    Args:
        limit: seconds after which the code of a run is taken to be endless, and its process is replaced.
    """

    def __init__(self, spec: Spec, processes: int, limit: float) -> None:
        self._spec = spec
        self._processes = processes
        self._limit = limit
        self._children: set[ChildProcess] = set()

    async def verdicts(self, rows: AsyncIterator[RunRow]) -> AsyncGenerator[Verdict]:
        """A verdict for each row, as they come; so many rows as the processes have at hand are in memory at once.

        Raises:
            CommandFailed: a process does not begin.
        """
        chunks: asyncio.Queue[list[RunRow] | None] = asyncio.Queue(self._processes)
        found: asyncio.Queue[Verdict | None] = asyncio.Queue(_CHUNK * self._processes)
        tasks = [asyncio.ensure_future(self._feed(rows, chunks))]
        tasks += [asyncio.ensure_future(self._work(chunks, found)) for _ in range(self._processes)]
        ended = asyncio.ensure_future(self._end(tasks, found))
        try:
            while (one := await found.get()) is not None:
                yield one
            await ended
        finally:
            for task in (*tasks, ended):
                task.cancel()
            await asyncio.gather(*tasks, ended, return_exceptions=True)
            await self._close()

    async def _feed(self, rows: AsyncIterator[RunRow], chunks: asyncio.Queue[list[RunRow] | None]) -> None:
        chunk: list[RunRow] = []
        async for row in rows:
            chunk.append(row)
            if len(chunk) == _CHUNK:
                await chunks.put(chunk)
                chunk = []
        if chunk:
            await chunks.put(chunk)
        for _ in range(self._processes):
            await chunks.put(None)

    async def _end(self, tasks: Sequence[asyncio.Future[None]], found: asyncio.Queue[Verdict | None]) -> None:
        try:
            await asyncio.gather(*tasks)
        finally:
            await found.put(None)

    async def _work(self, chunks: asyncio.Queue[list[RunRow] | None], found: asyncio.Queue[Verdict | None]) -> None:
        child: ChildProcess | None = None
        while (chunk := await chunks.get()) is not None:
            left = deque(chunk)
            while left:
                child = child or await self._start()
                assert child.stdin is not None
                child.stdin.write(b"".join(msgspec.json.encode(row) + b"\n" for row in left))
                while left and child is not None:
                    answer = await self._answer(child, left.popleft())
                    child = child if child in self._children else None
                    await found.put(answer)

    async def _answer(self, child: ChildProcess, row: RunRow) -> Verdict:
        """What the process says of a run; or what there is to say when it says nothing, and so was ended."""
        assert child.stdout is not None
        try:
            line = await asyncio.wait_for(child.stdout.readline(), self._limit)
        except TimeoutError:
            await self._kill(child)
            message = f"today's code did not come to the end of its replay within {self._limit:g} s"
            return verdict(row, "endless", message=message)
        if line.endswith(b"\n"):
            return msgspec.json.decode(line, type=Verdict)
        return verdict(row, "died", message=f"the process that replayed it {_how(await self._ended(child))}")

    async def _start(self) -> ChildProcess:
        child = await spawn_python("-P", "-c", _CHILD, msgspec.json.encode(self._spec).decode(), own_session=True)
        self._children.add(child)
        assert child.stdout is not None
        if await child.stdout.readline() != _READY:
            raise CommandFailed(f"a process that was to replay runs {_how(await self._ended(child))} before it began")
        return child

    async def _ended(self, child: ChildProcess) -> int:
        """The exit code of a process that says nothing any more."""
        with suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), _LAST_WORDS)
        return await self._kill(child)

    async def _kill(self, child: ChildProcess) -> int:
        with suppress(ProcessLookupError):
            child.kill()
        self._children.discard(child)
        return await child.wait()

    async def _close(self) -> None:
        for child in list(self._children):
            await self._kill(child)


def _how(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"died of {signal.Signals(-code).name}"


# --- in each process ------------------------------------------------------------------------------------


def child() -> None:
    """Replay the runs that are read from stdin. What the code prints goes to stderr."""
    answers = private_stdout()
    end_when_orphaned()
    spec = msgspec.json.decode(sys.argv[1], type=Spec)
    asyncio.run(_serve(spec, answers))


async def _serve(spec: Spec, answers: BinaryIO) -> None:
    programs = programs_of(spec.code)
    session = Session(store=spec.store, codec=load_codec(spec.codec) if spec.codec else None)
    async with session.connect() as client:
        answers.write(_READY)
        answers.flush()
        async for line in await _stdin():
            row = msgspec.json.decode(line, type=RunRow)
            answers.write(msgspec.json.encode(await _judge(client, programs[row.workflow], row)) + b"\n")
            answers.flush()


async def _judge(client: Client, program: AnyWorkflow, row: RunRow) -> Verdict:
    """A run that is at work meanwhile may have changed, or ended, since its row was read."""
    found = await rehearse(client.history, program, row)
    if not found.fits:
        now = await client.store.get_run(row.tenant, row.run_id)
        if now is None or now.status in TERMINAL_STATES:
            return verdict(row, "fits")
        if now != row:
            return await rehearse(client.history, program, now)
    return found


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader
