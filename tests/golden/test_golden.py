"""Histories that released versions recorded replay with today's aob, for ever, to the end that they had.

`python -m tests.golden.record` adds those of a new version. A file here is never changed: if one no longer replays, the
kernel must learn to act as it did, behind a flag of the runs that were started then (see `aob.kernel.flags`).
"""

import hashlib
import json
from pathlib import Path

import pytest

import aob
import aob.testing
from aob.kernel import events as ev
from aob.testing.replays import load, replayed
from tests.golden.record import GOLDEN
from tests.properties.corpus import CASES
from tests.properties.replaying import ended

FILES = sorted(GOLDEN.glob("*/*.jsonl"))
SUMS = GOLDEN / "sums.json"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_a_release_recorded_still_replays(path: Path) -> None:
    aob.testing.replay(CASES[path.stem].workflow, path)
    events = load(path)
    machine = replayed(CASES[path.stem].workflow, events)
    last = next(event for event, _ in reversed(events) if event.KIND in ev.TERMINAL)
    assert ended(machine.ended) == ended(last)
    machine.close()


def test_golden_histories_are_never_changed() -> None:
    found = {str(p.relative_to(GOLDEN)): hashlib.sha256(p.read_bytes()).hexdigest() for p in FILES}
    assert found == json.loads(SUMS.read_text()), "restore what was changed"


def test_every_release_has_its_own() -> None:
    releases = {path.parent.name for path in FILES}
    assert "0.1.0" in releases
    assert {path.stem for path in FILES if path.parent.name == aob.__version__} in (set(), set(CASES))


def test_another_code_does_not_replay_them() -> None:
    refused = 0
    for path in FILES:
        others = [case.workflow for name, case in CASES.items() if name != path.stem]
        try:
            aob.testing.replay(others[0], path)
        except aob.NonDeterministic:
            refused += 1
    assert refused > len(FILES) / 2
