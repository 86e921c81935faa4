"""The outbox in one process: one line for each key, whatever the file looked like before."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from examples.support.outbox import Outbox, OutboxBroken, read_records


def keys(path: Path) -> list[str]:
    return [record["key"] for record in read_records(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.jsonl"


def test_a_record_is_written_under_its_key_once(path: Path) -> None:
    outbox = Outbox(path)
    assert outbox.deliver("a", {"text": "grüß dich\nzweite Zeile"})
    assert not outbox.deliver("a", {"text": "again"})
    assert read_records(path) == [{"key": "a", "text": "grüß dich\nzweite Zeile"}]


def test_a_new_process_knows_what_is_there(path: Path) -> None:
    assert Outbox(path).deliver("a", {})
    assert not Outbox(path).deliver("a", {})


def test_writers_see_each_others_keys(path: Path) -> None:
    one, other = Outbox(path), Outbox(path)
    assert one.deliver("a", {})
    assert other.deliver("b", {})
    assert not other.deliver("a", {})
    assert not one.deliver("b", {})
    assert keys(path) == ["a", "b"]


def test_threads_that_race_for_a_key_write_it_once(path: Path) -> None:
    outboxes = [Outbox(path) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        fresh = list(threads.map(lambda n: outboxes[n % 4].deliver(f"key-{n % 25}", {"n": n}), range(200)))
    assert sum(fresh) == 25
    assert sorted(keys(path)) == sorted(f"key-{n}" for n in range(25))


def test_every_torn_tail_is_cut_off_and_its_record_written_once(path: Path) -> None:
    Outbox(path).deliver("a", {"text": "first"})
    whole = path.read_bytes()
    Outbox(path).deliver("b", {"text": "zweiter, größer"})
    line = path.read_bytes().removeprefix(whole)
    for written in range(len(line)):
        path.write_bytes(whole + line[:written])
        assert keys(path) == ["a"]
        assert Outbox(path).deliver("b", {"text": "zweiter, größer"}), f"after {written} bytes"
        assert path.read_bytes() == whole + line


def test_a_tail_that_another_writer_left_is_cut_off_by_one_that_was_there_before(path: Path) -> None:
    outbox = Outbox(path)
    outbox.deliver("a", {})
    with path.open("ab") as file:
        file.write(b'{"key": "b", "te')
    assert outbox.deliver("c", {})
    assert outbox.deliver("b", {})
    assert keys(path) == ["a", "c", "b"]


def test_lines_that_are_no_record_are_passed_over(path: Path) -> None:
    path.write_bytes(b'\0\0\0\0\n{"key": "a"}\n[1]\n{"no": "key"}\n\xff\n')
    assert keys(path) == ["a"]
    assert not Outbox(path).deliver("a", {})
    assert Outbox(path).deliver("b", {})
    assert keys(path) == ["a", "b"]


def test_lines_longer_than_a_read_are_read_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.support.outbox.CHUNK_BYTES", 7)
    for n in range(5):
        Outbox(path).deliver(f"k{n}", {"text": "é" * n})
    path.write_bytes(path.read_bytes() + b'{"key": "torn')
    assert not Outbox(path).deliver("k4", {})
    assert Outbox(path).deliver("k5", {})
    assert keys(path) == [f"k{n}" for n in range(6)]


def test_a_file_that_was_replaced_is_read_anew(path: Path) -> None:
    outbox = Outbox(path)
    outbox.deliver("a", {})
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"key": "b"}) + "\n")
    fresh.replace(path)
    assert outbox.deliver("a", {})
    assert not outbox.deliver("b", {})


def test_after_a_failed_sync_nothing_is_acknowledged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox(path)
    outbox.deliver("a", {})

    def fails(_: int) -> None:
        raise OSError(errno.EIO, "disk error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OutboxBroken, match="disk error"):
            outbox.deliver("b", {})
    with pytest.raises(OutboxBroken, match="restart"):
        outbox.deliver("b", {})


def test_a_full_disk_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox(path)
    outbox.deliver("a", {})
    write = os.write

    def half(file: int, data: bytes) -> int:
        if len(data) < 5:
            raise OSError(errno.ENOSPC, "no space left")
        return write(file, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="no space left"):
            outbox.deliver("b", {})
    assert keys(path) == ["a"]
    assert outbox.deliver("b", {})
    assert keys(path) == ["a", "b"]


def test_no_file_means_no_records(path: Path) -> None:
    assert read_records(path) == []
