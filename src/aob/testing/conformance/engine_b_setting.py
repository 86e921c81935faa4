"""What the second half of the engine suite shares: an engine with a second process beside it, and looks at runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from aob.client.client import Client
from aob.client.run import Run
from aob.client.views import Event
from aob.errors import RunFailed
from aob.testing.conformance.engine_harness import AnyWorkflow, EngineSetting, EngineUnderTest, eventually

PATIENCE = 30.0


class BesideSetting(EngineSetting):
    """Engines with a client beside the one that serves."""

    @asynccontextmanager
    async def beside(
        self, *workflows: AnyWorkflow, **settings: Any
    ) -> AsyncGenerator[tuple[EngineUnderTest, Client, Client], None]:
        """A new engine, a client that serves these workflows, and one that reaches it only through the store."""
        async with self.engine() as engine:
            other = await engine.open()
            yield engine, await engine.open(*workflows, **settings), other


async def failure(run: Run[Any], kind: type[RunFailed] = RunFailed) -> RunFailed:
    """The error with which a run ended."""
    try:
        result = await run.result(timeout=PATIENCE)
    except RunFailed as e:
        assert type(e) is kind, f"the run ended with {e!r}"
        return e
    raise AssertionError(f"run {run.run_id} returned {result!r}, and was to end with {kind.__name__}")


async def of_kind(run: Run[Any], kind: str) -> list[Event]:
    """The events of one kind."""
    return [e for e in await run.history() if e.kind == kind]


async def has(run: Run[Any], kind: str, count: int = 1, step: str | None = None) -> list[Event]:
    """The events of one kind (and step), once there are so many."""
    found: list[Event] = []

    async def there() -> bool:
        found[:] = [e for e in await of_kind(run, kind) if step is None or e.step == step]
        return len(found) >= count

    await eventually(there, f"{count} {kind} {step or ''} in {run.run_id}")
    return found


async def sound(run: Run[Any]) -> list[Event]:
    """A run's history, once it has what each has: dense numbers, one end, nothing but late facts behind it."""
    events = await run.history()
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert [e.at for e in events] == sorted(e.at for e in events)
    ended = False
    for event in events:
        if event.kind == "run_reopened":
            ended = False
        assert not ended or event.kind == "late", f"{event.kind} {event.step} stands behind the end of {run.run_id}"
        ended = ended or event.kind in ENDS
    finished: set[str] = set()
    for event in events:
        if event.kind == "run_reopened":
            finished.clear()
        if event.kind in ("step_completed", "step_failed"):
            assert event.step not in finished, f"{event.step} ended twice in {run.run_id}"
            finished.add(event.step or "")
    return events


async def so_far(gathered: list[Any], count: int) -> None:
    """Wait until a list that activities or workflows fill has so many items."""
    await eventually(lambda: len(gathered) >= count, f"{count} items in {gathered}")


async def a_while(seconds: float = 0.2) -> None:
    """Let something happen that must not."""
    await asyncio.sleep(seconds)


ENDS = frozenset({"run_completed", "run_failed", "run_cancelled", "run_terminated", "run_timed_out"})
