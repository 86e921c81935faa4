"""What every engine test needs: an engine on a fresh store, with workers to kill, and other processes beside it.

Subclass `EngineConformance` (in `aob.testing.conformance.engine`) in a test module and say how a new engine is made::

    class TestMyEngine(EngineConformance):
        async def new_engine(self):
            return EngineUnderTest(make_an_empty_database())
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from shutil import rmtree
from signal import SIGCONT, SIGSTOP
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, Self
from unittest import SkipTest

import msgspec

from aob.client.client import Client
from aob.client.run import Run
from aob.clock import Clock, SystemClock
from aob.engine.exporter import Exporter
from aob.errors import AobError
from aob.kernel import events as ev
from aob.process import spawn_python
from aob.settings import Settings, load
from aob.stores.memory import MemoryState, MemoryStore
from aob.worker.worker import Worker
from aob.workflow.definitions import Workflow

_PROGRAM = "aob.testing.conformance.engine_process"
AnyWorkflow = Workflow[..., Any]


class EngineUnderTest:
    """An engine on one store, an async context manager. Whatever it opened is closed at its end.

    `directory` is for files that activities leave, in whichever process they run; it is deleted at the end.

    Args:
        url: what `aob.connect` takes; another process may open it too when `capabilities` says `processes`.
        connect: makes a client, not entered yet; default: one for `url`.
        capabilities: `processes`: other processes reach the same store; beside what `client.capabilities` says.
        expire: ends the leases of an owner (None: of all), where the store has a clock of its own.
    """

    def __init__(
        self, url: str, *, connect: Callable[[Settings, Clock], Client] | None = None,
        capabilities: frozenset[str] = frozenset({"processes"}), directory: Path | None = None,
        expire: Callable[[str | None], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        self.url = url
        self._expire = expire
        self.capabilities = capabilities
        self.directory = Path(mkdtemp(prefix="aob-engine-"))
        self._connect = connect
        self._clients: list[Client] = []
        self._workers: list[tuple[Client, Worker]] = []
        self._processes: list[OtherProcess] = []
        self._serves: tuple[AnyWorkflow, ...] = ()
        self._settings: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            for process in self._processes:
                await process.kill()
            await self.close()
        finally:
            rmtree(self.directory, ignore_errors=True)

    def needs(self, capability: str) -> None:
        """Leave the test out where the engine cannot do this.

        Raises:
            SkipTest: it cannot.
        """
        if capability not in self.capabilities:
            raise SkipTest(f"{self.url} has no {capability}")

    def trace(self, name: str = "trace") -> Trace:
        """A file that activities write to."""
        return Trace(self.directory / name)

    async def open(self, *workflows: AnyWorkflow, **settings: Any) -> Client:
        """A connected client of its own; with `workflows` its process serves them too.

        Args:
            settings: fields of `aob.Settings` that differ from the defaults; kept by `restart`.
        """
        self._serves, self._settings = workflows, settings
        chosen = load(**{"drain_timeout": 1.0, **settings})
        client = self._client(chosen, SystemClock())
        await client.__aenter__()
        self._clients.append(client)
        if workflows:
            await self.serve(client, *workflows)
        return client

    def _client(self, settings: Settings, clock: Clock) -> Client:
        return self._connect(settings, clock) if self._connect else Client(self.url, settings=settings, clock=clock)

    async def usurp(self, *workflows: AnyWorkflow, exporters: Sequence[Exporter] = ()) -> Client:
        """Serve in place of a worker that still lives, and has not noticed yet: its lease has passed by our clock."""
        client = self._client(load(drain_timeout=1.0), FastClock())
        await client.__aenter__()
        self._clients.append(client)
        if self._expire is not None:
            await self._expire(None)
        await self.serve(client, *workflows, exporters=exporters)
        return client

    async def serve(self, client: Client, *workflows: AnyWorkflow, exporters: Sequence[Exporter] = ()) -> Worker:
        """Serve workflows on a client that is open."""
        worker = client.serve(*workflows, exporters=exporters)
        self._workers.append((client, worker))
        await worker.__aenter__()
        return worker

    async def close(self) -> None:
        """Close every client gracefully."""
        self._workers.clear()
        clients, self._clients = self._clients, []
        for client in reversed(clients):
            await client.__aexit__(None, None, None)

    async def crash(self, client: Client | None = None) -> None:
        """End a client (default: all) as the death of its process would: nothing is finished, nothing handed over."""
        gone = [c for c in self._clients if client is None or c is client]
        self._clients = [c for c in self._clients if c not in gone]
        for each in gone:
            await each.store.close()  # from here on nothing is written, whatever still runs
        for owner, worker in [w for w in self._workers if w[0] in gone]:
            self._workers.remove((owner, worker))
            if worker.host is not None:
                worker.host.commits.poke()
                with suppress(AobError):
                    await worker.ended()
            await worker.stop()
        if self._expire is not None:
            for each in gone:
                await self._expire(each.process.name)

    async def restart(self, *workflows: AnyWorkflow, graceful: bool = False) -> Client:
        """Crash (or close) what is open and open a client on the same store.

        Args:
            workflows: what it serves; default: what was served before.
        """
        if graceful:
            await self.close()
        else:
            await self.crash()
        return await self.open(*(workflows or self._serves), **self._settings)

    async def process(self, *, hash_seed: int | None = None, **settings: Any) -> OtherProcess:
        """Another Python process, with a client of this store if it can reach it; ends with the engine."""
        env = {} if hash_seed is None else {"PYTHONHASHSEED": str(hash_seed)}
        process = OtherProcess(await spawn_python("-m", _PROGRAM, env=env))
        self._processes.append(process)
        if "processes" in self.capabilities:
            await process.ask("open", url=self.url, settings={"drain_timeout": 1.0, **settings})
        return process


class FastClock(SystemClock):
    """A clock by which every lease of now has passed."""

    def monotonic(self) -> float:
        return super().monotonic() + 3_600


class Trace:
    """Lines that activities have left, in the order written, whichever process they ran in."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def lines(self) -> list[str]:
        """What is there by now."""
        return Path(self.path).read_text().splitlines() if Path(self.path).exists() else []

    def write(self, line: str) -> None:
        """Leave a line."""
        with open(self.path, "a") as file:
            file.write(line + "\n")

    async def until(self, count: int) -> list[str]:
        """The lines, once there are `count`."""
        await eventually(lambda: len(self.lines()) >= count, f"{count} lines in {self.path}")
        return self.lines()


class OtherProcess:
    """A Python process that does what it is asked to, with a client of its own. Values come back as plain JSON."""

    def __init__(self, process: Any) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ask(self, what: str, **how: Any) -> Any:
        """Have it do something and wait for the answer; see `aob.testing.conformance.engine_process`.

        Raises:
            OtherError: it raised.
        """
        self._process.stdin.write(msgspec.json.encode([what, how]) + b"\n")
        await self._process.stdin.drain()
        line = await self._process.stdout.readline()
        if not line:
            raise ProcessLookupError(f"the other process ended while it did {what}")
        answer = msgspec.json.decode(line)
        if "error" in answer:
            raise OtherError(answer["error"], answer["message"])
        return answer["value"]

    async def serve(self, *workflows: AnyWorkflow) -> None:
        """Become a worker for workflows of importable modules (at module level)."""
        await self.ask("serve", workflows=[where(w) for w in workflows])

    async def start(self, workflow: AnyWorkflow, *args: Any, **kwargs: Any) -> str:
        """`client.start`; the run's id."""
        return await self.ask("start", workflow=where(workflow), args=args, kwargs=kwargs)

    async def client(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of its client."""
        return await self.ask("client", method=method, args=args, kwargs=kwargs)

    async def run(self, run_id: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of a run's handle."""
        return await self.ask("run", run_id=run_id, method=method, args=args, kwargs=kwargs)

    async def call(self, module: str, function: str, *args: Any, **kwargs: Any) -> Any:
        """Call an importable function with plain JSON; if it is async it is awaited."""
        return await self.ask("call", module=module, function=function, args=args, kwargs=kwargs)

    async def replay(self, workflow: AnyWorkflow, history: list[Exported]) -> Replayed:
        """Replay an exported history there."""
        return msgspec.convert(await self.ask("replay", workflow=where(workflow), history=history), Replayed)

    def freeze(self) -> None:
        """Stop it where it stands, as a suspended machine would be."""
        self._process.send_signal(SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(SIGCONT)

    async def ended(self) -> None:
        """Wait until it has died by itself."""
        await self._process.wait()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is dead. A second call does nothing."""
        if self._process.returncode is None:
            self._process.kill()
        self._process.stdin.close()
        await self._process.stdout.read()
        await self._process.wait()


class OtherError(Exception):
    """What another process raised: the name of the type, and its text."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(f"{type}: {message}")
        self.type = type
        self.message = message


Exported = tuple[int, str, int, str]
"""An event as it is exported: seq, kind, version and its JSON."""


class Replayed(msgspec.Struct):
    """What a replay came to.

    Args:
        mismatch: the message and diff, if the code does not fit.
        end: kind and JSON of the event that today's code ends with, or None while it waits.
        open: ids of the steps that it waits for, in the order asked.
        commands: what it would do now, in order: step ids, and kinds of events.
    """

    mismatch: str | None
    end: tuple[str, str] | None
    open: list[str]
    commands: list[str]

    def result(self) -> Any:
        """The result with which it completed, as plain JSON."""
        assert self.end is not None and self.end[0] == "run_completed", self.end
        return msgspec.json.decode(self.end[1])[1]


async def export(run: Run[Any]) -> list[Exported]:
    """A run's whole history, payloads opened, fit for another process."""
    row = await run._row()  # pyright: ignore[reportPrivateUsage]
    events = [e async for e in run._client.history.read(row)]  # pyright: ignore[reportPrivateUsage]
    return [(seq, e.KIND, e.VERSION, ev.encode_event(e).decode()) for e, seq in events]


def where(workflow: AnyWorkflow) -> str:
    """`module:name`, where another process finds a workflow."""
    return f"{workflow.fn.__module__}:{workflow.fn.__qualname__}"


def memory_engine(partitions: int = 1) -> EngineUnderTest:
    """The engine in memory. Its store survives a restart of the client, though not of the process."""
    state = MemoryState(partitions)

    def connect(settings: Settings, clock: Clock) -> Client:
        return OwnStoreClient("sqlite://", settings=settings, clock=clock, store=MemoryStore(clock, state))

    return EngineUnderTest("sqlite://", connect=connect, capabilities=frozenset())


class OwnStoreClient(Client):
    """A client that closes the store it was given."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, at)
        await self.store.close()


class EngineSetting(ABC):
    """Where the tests get their engines from."""

    @abstractmethod
    async def new_engine(self) -> EngineUnderTest:
        """An engine on a new, empty store."""

    @asynccontextmanager
    async def engine(self) -> AsyncGenerator[EngineUnderTest, None]:
        """One engine for the length of a block."""
        async with await self.new_engine() as engine:
            yield engine

    @asynccontextmanager
    async def serving(self, *workflows: AnyWorkflow, **settings: Any) -> AsyncGenerator[Client, None]:
        """A client that serves these workflows on a new store."""
        async with self.engine() as engine:
            yield await engine.open(*workflows, **settings)


async def refused(call: Awaitable[object], kind: type[BaseException]) -> str:
    """The message with which a call is refused."""
    try:
        await call
    except kind as e:
        return str(e)
    raise AssertionError(f"the call was not refused with {kind.__name__}")


async def eventually(holds: Callable[[], bool | Awaitable[bool]], what: str, timeout: float = 20.0) -> None:
    """Wait until something is true.

    Raises:
        TimeoutError: it did not become true.
    """
    clock = SystemClock()
    deadline = clock.monotonic() + timeout
    while True:
        held = holds()
        if held if isinstance(held, bool) else await held:
            return
        if clock.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s in vain for {what}")
        await clock.sleep(0.01)


async def reaches(run: Run[Any], status: str) -> None:
    """Wait until a run has a status."""

    async def there() -> bool:
        return await run.status() == status

    await eventually(there, f"run {run.run_id} to be {status}")


async def outcome(run: Run[Any], timeout: float = 30.0) -> Any:
    """A run's result."""
    return await run.result(timeout=timeout)


async def kinds(run: Run[Any]) -> list[str]:
    """The kinds of a run's events, in order, with the step: `step_completed fetch#1`."""
    return [f"{e.kind} {e.step}" if e.step else e.kind for e in await run.history()]
