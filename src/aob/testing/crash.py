"""`crash_everywhere`: kill the worker at every write, take over, and compare."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from operator import eq
from typing import Any, NamedTuple, TypeVar, cast

from aob.client.client import Client
from aob.client.opening import open_store
from aob.client.run import Run
from aob.clock import Clock
from aob.engine.active import ActiveRun
from aob.engine.executor import Outcomes
from aob.errors import RunFailed, RunFinished, StoreFailed
from aob.kernel.steps import Step
from aob.process import Process
from aob.settings import Settings, load
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.protocol import Store
from aob.testing.environment import NEW_YEAR, still
from aob.testing.lives import HOWS, Died, How, Lives, MortalStore
from aob.testing.oracle import Seen, look, problems
from aob.testing.seeded import SeededProcess
from aob.testing.virtual import VirtualTime
from aob.worker.executor import LiveAttempt, LocalExecutor
from aob.workflow.definitions import Activity, Workflow

R = TypeVar("R")
_RUN = "crash"


class Crashes(NamedTuple):
    """What `crash_everywhere` did.

    Args:
        points: writes of the run that nothing disturbed.
        kills: deaths, each followed by a worker that took over.
        attempts: attempts that were made in all lives.
    """

    points: int
    kills: int
    attempts: int


class CrashFailed(AssertionError):
    """After a death the run did not go on as it should have."""


async def crash_everywhere(
    workflow: Workflow[..., R], *args: Any, drive: Callable[[Run[R]], Awaitable[None]] | None = None,
    same: Callable[[Any, Any], bool] = eq, at_most: int | None = None, hows: Iterable[How] = HOWS, seed: int = 0,
    directory: str | None = None, activities: Iterable[Activity[..., Any]] = (), settings: Settings | None = None,
    **kwargs: Any,
) -> Crashes:  # fmt: skip
    """Run a workflow once undisturbed, then once for each of its writes with the worker killed there, in virtual time.

    Each time a new worker takes over, and then: the outcome is the same; nothing that was written is lost or changed;
    every step's result is recorded once; all attempts of a step had one idempotency key, shared with no other step.

    Args:
        args, kwargs: the workflow's input.
        drive: what the outside does to the run, such as signals; called anew in each life, so give signals an `id`.
        same: compares two results (or texts of errors).
        at_most: kill at this many writes only, spread evenly.
        hows: which deaths: `before` the write, `after` it, and `unknown`: written, but reported as failed.
        seed: of ids, random numbers and jitter.
        directory: an empty one, to keep runs in SQLite files there; default: in memory.
        activities: those that are not in the workflow's own module.

    Raises:
        CrashFailed: which death, and what was wrong after it.
    """
    tale = _Tale(workflow, args, kwargs, drive, tuple(activities), seed, still(settings or load()), directory)
    try:
        calm = tale.told()
        if calm.problems:
            raise CrashFailed(f"though nothing disturbed it: {'; '.join(calm.problems)}")
        points = range(1, len(calm.writes) + 1)
        if at_most is not None and at_most < len(points):
            points = [points[i * len(points) // at_most] for i in range(at_most)]
        kills: list[tuple[int, How]] = [(point, how) for point in points for how in hows]
        for point, how in kills:
            _judge(calm, tale.told(point, how), same, f"killed {_words(how)} write {point} ({calm.writes[point - 1]})")
        return Crashes(len(calm.writes), len(kills), tale.attempts)
    finally:
        tale.bury()


class _Story(NamedTuple):
    """What came of a run: how it ended, the result or error, the writes of its first life, what does not hold."""

    end: str
    value: Any
    writes: list[str]
    problems: list[str]


class _Tale:
    """One workflow with its input, told again and again."""

    def __init__(
        self, workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        drive: Callable[[Run[Any]], Awaitable[None]] | None, activities: tuple[Activity[..., Any], ...], seed: int,
        settings: Settings, directory: str | None,
    ) -> None:  # fmt: skip
        self._workflow = workflow
        self._input = (args, kwargs)
        self._drive = drive
        self._activities = activities
        self._seed = seed
        self._settings = settings
        self._directory = directory
        self._lives: list[Lives] = []
        self.attempts = 0

    def bury(self) -> None:
        """Close what the dead left."""
        for lives in self._lives:
            lives.bury()

    def told(self, point: int | None = None, how: How = "before") -> _Story:
        """Run it from its start to its end; with a `point`, its first worker is killed there."""
        lives = Lives(NEW_YEAR)
        self._lives.append(lives)
        opened = self._opener(lives.time)
        watched = _Watched()
        store = MortalStore(lives.live(opened()), point, how)
        found: list[str] = []
        earlier: list[Seen] = []
        try:
            end, value = lives.live(self._life(store, lives.time, 0, watched))
        except (Died, StoreFailed) as e:
            if not store.over:
                why = "; ".join([str(e), *lives.errors])
                raise CrashFailed(f"the run does not end, though nothing disturbs it: {why}") from e
            end, value = "unknown", e
        lives.live(store.inner.close())
        if store.over:
            found += [f"{what} after the store had failed" for what in store.after_failure if what.startswith("append")]
            earlier.append(self._seen(lives, opened))
            successor = MortalStore(lives.live(opened()))
            end, value = self._taken_over(lives, successor, watched)
            lives.live(successor.inner.close())
        elif point is not None:
            found.append(f"write {point} was not reached: without a kill the writes are not always the same")
        found += problems(self._seen(lives, opened), watched.keys, earlier)
        self.attempts += watched.attempts
        return _Story(end, value, store.writes, found + lives.errors)

    def _seen(self, lives: Lives, opened: Callable[[], Coroutine[Any, Any, Store]]) -> Seen:
        store = lives.live(opened())
        seen = lives.live(look(store))
        lives.live(store.close())
        return seen

    def _taken_over(self, lives: Lives, store: MortalStore, watched: _Watched) -> tuple[str, Any]:
        try:
            return lives.live(self._life(store, lives.time, 1, watched))
        except Died:
            return "stuck", "nothing is left that could happen"

    def _opener(self, clock: VirtualTime) -> Callable[[], Coroutine[Any, Any, Store]]:
        process = SeededProcess(self._seed)
        if self._directory is not None:
            count = len(self._lives)
            url = f"sqlite:///{self._directory}/{count}.db"
            return lambda: open_store(url, clock, process, self._settings)
        state = MemoryState()

        async def opened() -> Store:
            return MemoryStore(clock, state)

        return opened

    async def _life(self, store: MortalStore, clock: Clock, number: int, watched: _Watched) -> tuple[str, Any]:
        process = SeededProcess(self._seed, number)
        client = Client("sqlite://", settings=self._settings, clock=clock, process=process, store=cast("Store", store))
        async with client:
            worker = client.serve(self._workflow, activities=self._activities)
            worker.make_executor = watched.executor
            async with worker:
                outcome = asyncio.create_task(self._outcome(client))
                ended = asyncio.create_task(worker.ended())
                try:
                    await asyncio.wait((outcome, ended), return_when=asyncio.FIRST_COMPLETED)
                    if ended.done():
                        ended.result()
                    return await outcome
                finally:
                    outcome.cancel()
                    ended.cancel()
                    await asyncio.gather(outcome, ended, return_exceptions=True)

    async def _outcome(self, client: Client) -> tuple[str, Any]:
        args, kwargs = self._input
        run = await client.start(self._workflow, *args, run_id=_RUN, **kwargs)
        if self._drive is not None:
            with suppress(RunFinished):
                await self._drive(run)
        try:
            return "completed", await run.result()
        except RunFailed as e:
            return e.code, _text(e.__cause__ or e)


class _Watched:
    """What attempts were made, in all lives of a run."""

    def __init__(self) -> None:
        self.keys: dict[tuple[str, str, str], set[str]] = {}
        self.attempts = 0

    def executor(self, clock: Clock, process: Process, settings: Settings) -> LocalExecutor:
        """One that tells of each attempt."""
        return _WatchedExecutor(self, clock, process, settings)

    def note(self, attempt: LiveAttempt) -> None:
        info = attempt.info()
        self.attempts += 1
        self.keys.setdefault((info.tenant, info.run_id, info.step), set()).add(info.idempotency_key)


class _WatchedExecutor(LocalExecutor):
    def __init__(self, watched: _Watched, clock: Clock, process: Process, settings: Settings) -> None:
        super().__init__(clock, process, settings)
        self._watched = watched

    def start(self, run: ActiveRun, step: Step, outcomes: Outcomes) -> LiveAttempt:
        attempt = super().start(run, step, outcomes)
        self._watched.note(attempt)
        return attempt


def _judge(calm: _Story, story: _Story, same: Callable[[Any, Any], bool], when: str) -> None:
    found = list(story.problems)
    if story.end != calm.end or not same(calm.value, story.value):
        found.append(f"it ended as {story.end} with {story.value!r} instead of {calm.end} with {calm.value!r}")
    if found:
        raise CrashFailed(f"{when}: {'; '.join(found)}")


def _words(how: How) -> str:
    return "at an unknown outcome of" if how == "unknown" else how


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
