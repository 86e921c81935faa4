"""Bells of processes that were killed, in directories that nobody else would ever remove."""

import os
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp

import pytest

from aob.process import Doorbell, remove_stray_bells


@pytest.fixture
def parent() -> Iterator[Path]:
    """A directory with a path short enough for sockets."""
    path = Path(mkdtemp(prefix="bells"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def killed(directory: Path) -> Path:
    """The bell of a process that took nothing down."""
    directory.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.bind(str(directory / "9-dead"))
    return directory


def received(fd: int) -> bytes:
    with socket.socket(fileno=os.dup(fd)) as bell:
        return bell.recv(16)


def old(*directories: Path) -> None:
    for directory in directories:
        os.utime(directory, (0, 0))


def test_directories_in_which_nobody_can_be_rung_are_removed(parent: Path) -> None:
    dead, empty, young, mixed, foreign = (parent / f"aob-bells-{n}" for n in range(5))
    for directory in (dead, young, mixed):
        killed(directory)
    other = killed(parent / "others-bells")
    for directory in (empty, foreign):
        directory.mkdir()
    (foreign / "notes").write_text("mine")
    living, neighbour = Doorbell(mixed), Doorbell(mixed)
    fd = living.hang()
    assert fd is not None
    old(dead, empty, mixed, foreign, other)
    remove_stray_bells(parent, "aob-bells-")
    assert sorted(path.name for path in parent.iterdir()) == sorted(d.name for d in (young, mixed, foreign, other))
    assert (foreign / "notes").read_text() == "mine"
    assert len(list(mixed.iterdir())) == 1
    with pytest.raises(BlockingIOError):
        received(fd)
    neighbour.ring()
    assert received(fd) == b"!"
    living.close()
    neighbour.close()


def test_a_bell_can_be_hung_while_others_remove_the_directory(parent: Path) -> None:
    directory = parent / "aob-bells-1"

    def hang(_: int) -> bool:
        bell = Doorbell(directory, lent=True)
        there = bell.hang() is not None
        bell.close()
        return there

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(hang, range(300)))
    assert not directory.exists()
