"""Events in a file: each once, in order, whatever the process that wrote them came to."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import aob
from aob import JsonLines, LogEvent
from aob.process import FileLock
from aob.worker import jsonlines


def events(*positions: int, partition: int = 0, text: str = "hello") -> list[LogEvent]:
    return [
        LogEvent(
            id=f"{partition}:{n}", partition=partition, position=n, tenant="t", run_id=f"r{n % 3}", workflow="w", seq=n,
            at=datetime(2025, 1, 1, 12, tzinfo=UTC), kind="emitted", step=None, data={"name": text, "data": n},
        )
        for n in positions
    ]  # fmt: skip


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_bytes().splitlines()]


def numbered(*positions: int) -> list[str]:
    return [f"0:{n}" for n in positions]


def export(exporter: JsonLines, batch: list[LogEvent]) -> None:
    asyncio.run(exporter.export(batch))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def test_a_line_is_the_event(path: Path) -> None:
    export(JsonLines(path), events(7, text="zeile\n"))
    assert path.read_bytes().endswith(b"}\n")
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {
            "id": "0:7", "partition": 0, "position": 7, "tenant": "t", "run_id": "r1", "workflow": "w", "seq": 7,
            "at": "2025-01-01T12:00:00Z", "kind": "emitted", "step": None, "data": {"name": "zeile\n", "data": 7},
        }
    ]  # fmt: skip


def test_batches_are_added_and_what_comes_again_is_left_out(path: Path) -> None:
    exporter = JsonLines(path)
    export(exporter, events(1, 2, 3))
    export(exporter, events(2, 3, 4))
    assert ids(path) == numbered(1, 2, 3, 4)
    later = JsonLines(str(path))
    export(later, events(3, 4, 5))
    export(exporter, events(3, 4, 5, 6))  # somebody else has written meanwhile
    assert ids(path) == numbered(1, 2, 3, 4, 5, 6)


def test_another_stores_events_are_not_taken_for_those_of_this_one(path: Path) -> None:
    export(JsonLines(path), events(1, 2))
    export(JsonLines(path), events(1, 2, text="other"))
    assert ids(path) == numbered(1, 2, 1, 2)


def test_at_every_length_that_a_crash_may_leave_nothing_is_lost_or_doubled(path: Path) -> None:
    export(JsonLines(path), events(1, 2))
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        export(JsonLines(path), events(1, 2))
        assert path.read_bytes() == whole


def test_a_failed_write_leaves_no_trace_and_is_made_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = JsonLines(path)
    export(exporter, events(1))
    original = jsonlines._write

    def full(file: Any, data: bytes) -> None:
        file.write(data[:50])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jsonlines, "_write", full)
    with pytest.raises(OSError, match="No space"):
        export(exporter, events(2, 3))
    assert ids(path) == numbered(1)
    monkeypatch.setattr(jsonlines, "_write", original)
    export(exporter, events(2, 3))
    assert ids(path) == numbered(1, 2, 3)


def test_what_was_written_but_not_synced_is_written_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = JsonLines(path)
    export(exporter, events(1))
    original, fails = jsonlines.os.fsync, [True]

    def fsync(number: int) -> None:
        if fails.pop():
            raise OSError(5, "Input/output error")
        original(number)

    monkeypatch.setattr(jsonlines.os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"):
        export(exporter, events(2))
    assert ids(path) == numbered(1)
    monkeypatch.undo()
    export(exporter, events(2))
    assert ids(path) == numbered(1, 2)


def test_the_last_batch_is_found_behind_many_lines_and_large_ones(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonlines, "_BLOCK", 512)
    exporter = JsonLines(path)
    export(exporter, events(*range(1, 1_000)))
    export(exporter, events(1_000, text="x" * 10_000))
    export(JsonLines(path), events(*range(2, 1_001)))
    assert ids(path) == numbered(*range(1, 1_001), 1_000)  # the last one holds something else
    export(JsonLines(path), events(*range(2, 1_001)))
    assert len(ids(path)) == 1_001


def test_a_file_that_is_something_else_is_left_alone(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0 and so on, without an end of line")
    with pytest.raises(FileExistsError, match="another path"):
        export(JsonLines(path), events(1))
    assert path.read_bytes() == b"SQLite format 3\0 and so on, without an end of line"


def test_a_file_that_was_moved_away_is_begun_anew(path: Path) -> None:
    exporter = JsonLines(path)
    export(exporter, events(1, 2))
    path.rename(path.with_suffix(".old"))
    export(exporter, events(3))
    assert (ids(path.with_suffix(".old")), ids(path)) == (numbered(1, 2), numbered(3))


async def test_processes_that_share_a_file_wait_for_each_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.gather(
        *(JsonLines(path).export(events(n, partition=p)) for n in range(1, 6) for p in range(4))
    )  # fmt: skip
    assert sorted(ids(path)) == sorted(f"{p}:{n}" for n in range(1, 6) for p in range(4))
    other = FileLock(str(path))
    assert other.take()
    monkeypatch.setattr(jsonlines, "_LOCK_TRIES", 3)
    with pytest.raises(BlockingIOError, match="another process"):
        await JsonLines(path).export(events(9))
    other.drop()
    await JsonLines(path).export(events(9))
    assert "0:9" in ids(path)


def test_it_is_an_exporter() -> None:
    exporter: aob.Exporter = JsonLines("x", name="mine")
    assert exporter.name == "mine"
    assert aob.JsonLines("x").name == "jsonl"
