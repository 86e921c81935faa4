"""A workflow turn that blocks or never ends is reported from another thread, with its stack, once."""

import sys
import time
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest

import aob
from aob import telemetry

Seen = list[Mapping[str, Any]]


@pytest.fixture
def told() -> Iterator[Seen]:
    seen: Seen = []
    stop = telemetry.subscribe(lambda name, fields: seen.append(fields) if name == "turn_blocked" else None)
    yield seen
    stop()


def _spins_for(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@aob.workflow
async def spins(seconds: float) -> str:
    _spins_for(seconds)
    return "done"


async def _run(blocked_after: float, seconds: float) -> str:
    settings = aob.Settings(blocked_after=blocked_after)
    async with aob.connect("sqlite://", settings=settings) as client, client.serve(spins):
        return await (await client.start(spins, seconds, run_id="spinner")).result()


async def test_a_turn_that_does_not_end_is_reported_once_with_its_stack(told: Seen) -> None:
    assert await _run(0.1, 1.5) == "done"
    (report,) = told
    assert report["run_id"] == "spinner"
    assert "in _spins_for" in report["stack"] and "in spins" in report["stack"]


async def test_turns_that_end_are_not_reported(told: Seen) -> None:
    assert await _run(30.0, 0.2) == "done"
    assert told == []


async def test_it_can_be_turned_off(told: Seen) -> None:
    assert await _run(0.0, 0.5) == "done"
    assert told == []


async def test_it_is_off_while_a_debugger_is_attached(told: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "debugpy", ModuleType("debugpy"))
    assert await _run(0.1, 1.0) == "done"
    assert told == []
