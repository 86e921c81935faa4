"""The lock file pins every dependency by hash and names no place to get it from."""

import re
import tomllib
from pathlib import Path

import pytest


@pytest.fixture
def lock(repository: Path) -> str:
    return (repository / "requirements.lock").read_text()


@pytest.fixture
def pinned(lock: str) -> dict[str, str]:
    """The block of each pinned package by its name."""
    text = "\n".join(line for line in lock.splitlines() if not line.lstrip().startswith("#"))
    blocks = re.split(r"\n(?=\S)", text.strip())
    return {re.split(r"[=\s;]", block, maxsplit=1)[0]: block for block in blocks}


def name_of(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return name[0].lower().replace("_", "-")


def test_every_package_is_pinned_with_hashes(pinned: dict[str, str]) -> None:
    for name, block in pinned.items():
        assert re.match(rf"{re.escape(name)}==\S+", block), block
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), block


def test_it_names_no_index_host_or_file(lock: str) -> None:
    assert not re.search(r"://|\bfile:|--(extra-)?index|--find-links|--trusted-host|@ ", lock)
    assert not re.search(r"\b[\w-]+\.(org|com|net|io|dev)\b", lock)
    assert "/" not in lock


def test_it_covers_all_that_the_project_asks_for(repository: Path, pinned: dict[str, str]) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in project["project"]["optional-dependencies"].values():
        asked += extra
    assert {name_of(requirement) for requirement in asked} - pinned.keys() == set()
