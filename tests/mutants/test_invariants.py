"""The tests of the invariants can fail: each sees the bug that is planted for it. `make mutants` plants them all."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.mutants.plants import PLANTS, Plant

INVARIANTS = {"I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I15", "I19", "I21", "I22"}
CHEAP = [name for name, plant in PLANTS.items() if plant.cheap]
DEAR = [name for name, plant in PLANTS.items() if not plant.cheap]


def planted(plant: Plant, directory: Path) -> Path:
    """A copy of the source with the bug in it."""
    copy = directory / "src"
    shutil.copytree(REPOSITORY / "src" / "aob", copy / "aob", ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in plant.edits:
        path = copy / "aob" / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file} no longer holds what the plant replaces"
        path.write_text(text.replace(old, new))
    return copy


def outcome(plant: Plant, source: Path) -> tuple[int, str]:
    """How pytest ends with that source, and what it says."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "--timeout",
            "120",
            *shlex.split(plant.test),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    return done.returncode, done.stdout[-3000:] + done.stderr[-1000:]


def see(name: str, directory: Path) -> None:
    plant = PLANTS[name]
    code, said = outcome(plant, planted(plant, directory))
    assert code == pytest.ExitCode.TESTS_FAILED, f"{plant.test} does not see it:\n{said}"
    assert "error" not in said.splitlines()[-1], said


@pytest.mark.parametrize("name", CHEAP)
def test_a_planted_bug_is_seen(name: str, tmp_path: Path) -> None:
    see(name, tmp_path)


@pytest.mark.mutants
@pytest.mark.needs("mutants")
@pytest.mark.parametrize("name", DEAR)
def test_a_planted_bug_is_seen_in_time(name: str, tmp_path: Path) -> None:
    see(name, tmp_path)


def test_every_invariant_has_its_bug_and_every_plant_applies() -> None:
    assert {plant.invariant for plant in PLANTS.values()} == INVARIANTS
    source = REPOSITORY / "src" / "aob"
    edits = [(name, edit) for name, plant in PLANTS.items() for edit in plant.edits]
    gone = [name for name, (file, old, _) in edits if (source / file).read_text().count(old) != 1]
    assert gone == [], "plant these anew where the code has gone"


def test_a_copy_without_a_bug_passes(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "src" / "aob", tmp_path / "aob", ignore=shutil.ignore_patterns("__pycache__"))
    plant = PLANTS["the idempotency key has the attempt in it"]
    code, said = outcome(plant, tmp_path)
    assert code == pytest.ExitCode.OK, said
