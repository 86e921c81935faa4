"""I15: whatever was recorded replays to the same decisions, at every prefix, in any process and any Python."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aob.kernel import events as ev
from tests.conftest import REPOSITORY, other_pythons
from tests.properties.corpus import CASES
from tests.properties.recording import recorded
from tests.properties.replaying import Lines, all_of, ended

SEEDS = (3,)
HASH_SEEDS = ("0", "1", "4242")


@pytest.fixture(scope="module")
def histories() -> dict[str, Lines]:
    return {name: asyncio.run(recorded(case, SEEDS[0])) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def here(histories: dict[str, Lines]) -> dict[str, Any]:
    return all_of(histories)


def elsewhere(histories: dict[str, Lines], path: Path, python: str, hash_seed: str) -> dict[str, Any]:
    """The same in a fresh process."""
    path.write_text(json.dumps(histories))
    paths = os.pathsep.join(filter(None, (str(REPOSITORY / "src"), str(REPOSITORY), os.environ.get("PYTHONPATH", ""))))
    done = subprocess.run(
        [python, "-m", "tests.properties.replaying", str(path)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_a_restart_after_any_event_changes_nothing(
    name: str, histories: dict[str, Lines], here: dict[str, Any]
) -> None:
    last = histories[name][-1]
    said = here[name]
    assert last[1] in ev.TERMINAL, "the case does not end"
    for length, (then, _, end) in enumerate(said["resumed"], start=1):
        assert then["mismatch"] is None
        assert then == said["live"][length - 1], f"after {length} events"
        assert end == said["live"][-1], f"after {length} events"
    assert said["live"][-1]["ended"] == ended(ev.decode_event(last[1], last[2], json.dumps(last[3]).encode()))


@pytest.mark.parametrize("hash_seed", HASH_SEEDS)
def test_a_fresh_process_decides_the_same(
    hash_seed: str, histories: dict[str, Lines], here: dict[str, Any], tmp_path: Path
) -> None:
    assert elsewhere(histories, tmp_path / "histories.json", sys.executable, hash_seed) == json.loads(json.dumps(here))


@pytest.mark.needs("other-pythons")
def test_other_pythons_decide_the_same(histories: dict[str, Lines], here: dict[str, Any], tmp_path: Path) -> None:
    for python in other_pythons():
        assert elsewhere(histories, tmp_path / "histories.json", python, "7") == json.loads(json.dumps(here)), python


async def test_the_same_seed_records_the_same_and_a_restart_in_between_too() -> None:
    for name in ("task_group_aborts", "drawn", "with_anyio", "saga"):
        assert await recorded(CASES[name], 5) == await recorded(CASES[name], 5)
        assert await recorded(CASES[name], 5) != await recorded(CASES[name], 6)
