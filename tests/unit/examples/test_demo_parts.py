"""The parts of the demonstration that need no engine: counting, folders, what is shown."""

import io
import os
import signal
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from examples.support.demo import Options, command_line, fresh_folder, hints, load_messages, parse
from examples.support.demo_report import Interruption, Report, finished_steps
from examples.support.demo_view import View, table_of
from examples.support.demo_worker import Delivered, WorkerDied, WorkerProcess
from examples.support.knowledge import DATA
from examples.support.models import Message


@dataclass(frozen=True)
class Event:
    kind: str
    step: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


def history(*finished: str, end: str | None = None) -> list[Event]:
    """A history with these finished steps."""
    steps = [Event("step_completed", step) for step in finished]
    return [Event("run_started"), *steps, *([Event(end)] if end else [])]


DONE = history("f#1", "g#1", end="run_completed")
LEFT = Interruption(pid=7, delivered=1, histories={"a": DONE, "b": history("f#1")})


def report(*delivered: str) -> Report:
    records = [{"message_id": message_id, "outcome": "answered", "category": "refund"} for message_id in delivered]
    return Report(["a", "b", "c"], records, dict.fromkeys("abc", DONE), seconds=2.0, interruption=LEFT)


def test_all_delivered_once_is_good() -> None:
    assert report("a", "c", "b").good


@pytest.mark.parametrize(
    ("delivered", "lost", "duplicates", "strangers"),
    [
        (("a", "b"), 1, 0, 0),
        (("a", "b", "b", "c", "b"), 0, 2, 0),
        (("a", "b", "c", "x"), 0, 0, 1),
        (("a", "a", "b"), 1, 1, 0),
    ],
)
def test_lost_and_double_messages_are_counted(
    delivered: tuple[str, ...], lost: int, duplicates: int, strangers: int
) -> None:
    found = report(*delivered)
    assert (found.lost, found.duplicates, found.strangers) == (lost, duplicates, strangers)
    assert not found.good


@pytest.mark.parametrize(
    "after",
    [
        history("g#1", "f#1", end="run_completed"),
        history(),
        [*DONE, Event("step_completed", "f#1")],
        [*DONE, Event("step_failed", "g#1")],
    ],
)
def test_a_history_that_was_rewritten_or_repeats_a_step_is_seen(after: list[Event]) -> None:
    found = replace(report("a", "b", "c"), histories={"a": DONE, "b": after, "c": DONE})
    assert found.rewritten == 1
    assert not found.good


def test_deliveries_found_done_are_counted() -> None:
    first, again = (Event("step_completed", "deliver_result#1", {"result": fresh}) for fresh in (True, False))
    other = Event("step_completed", "validate_output#1", {"result": False})
    found = replace(report("a", "b", "c"), histories={"a": [first], "b": [other, again], "c": []})
    assert found.found_delivered == 1


def test_steps_are_those_that_finished() -> None:
    kinds = ("run_started", "step_completed", "attempt_failed", "step_failed", "timer_fired")
    assert finished_steps({"a": [Event(kind) for kind in kinds], "b": history("f#1"), "c": []}) == 3


def test_what_a_kill_left_behind_is_the_open_runs_and_their_steps() -> None:
    failed = history("f#1", end="run_failed")
    left = Interruption(7, 1, {"a": DONE, "b": history("f#1", "g#1"), "c": history(), "d": [], "e": failed})
    assert sorted(left.open_runs) == ["b", "c", "d"]
    assert left.recorded_steps == 2
    assert "worker 7 killed" in left.sentence()


def test_the_table_shows_what_was_counted() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(table_of(report("a", "b", "b")))
    shown = console.file.getvalue()
    assert isinstance(shown, str)
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines() if "│" in line]
    assert {tuple(cell) for cell in cells} >= {
        ("messages", "3"), ("answered", "3"), ("refund", "3"), ("steps", "6"), ("lost", "1"), ("duplicates", "1"),
        ("steps per second", "3"),
    }  # fmt: skip


def test_without_a_terminal_progress_is_a_line_for_each_tenth() -> None:
    file = io.StringIO()
    view = View(Console(file=file, width=100), total=20)
    with view.shown():
        for delivered in (0, 1, 2, 3, 10, 20):
            view.update(delivered)
    assert file.getvalue().splitlines() == [f"delivered {n} of 20" for n in (2, 10, 20)]


def test_delivered_counts_finished_lines_as_the_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "outbox.jsonl"
    delivered = Delivered(path)
    counts = [delivered.count()]
    for content in (b"", b"one", b"one\n", b"one\ntwo\nthr", b"one\ntwo\n", b"one\ntwo\nthree\n"):
        path.write_bytes(content)
        counts.append(delivered.count())
    assert counts == [0, 0, 0, 1, 2, 2, 3]


def test_the_folder_is_emptied_only_when_a_demo_made_it(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    fresh_folder(folder)
    (folder / "aob.db").touch()
    fresh_folder(folder)
    assert not (folder / "aob.db").exists()
    assert (folder / ".gitignore").read_text() == "*\n"
    mine = tmp_path / "mine"
    mine.mkdir()
    fresh_folder(mine)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(SystemExit, match="has not made"):
        fresh_folder(tmp_path / "other")
    assert (tmp_path / "other" / "thesis.txt").exists()


def test_messages_come_with_their_ids_or_with_the_number_of_their_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,category\nhello,refund\n,refund\n", "utf-8")
    assert load_messages(path) == [Message("hello", "row-00001"), Message("", "row-00002")]
    ours = load_messages(DATA / "messages.csv")
    assert all(message.id.startswith("msg-") and message.customer_id.startswith("c-") for message in ours)


def test_hints_name_a_run_and_the_store() -> None:
    options = parse(["--folder", "here"])
    assert options == Options(DATA / "messages.csv", Path("here"), 1.0, 55.0)
    assert "aob run history a --store sqlite:///here/aob.db" in hints(options, report("a", "b", "c"))


@pytest.mark.parametrize(("folder", "shown"), [("venv", "venv/bin/aob"), ("../venv", "/venv/bin/aob")])
def test_the_command_is_named_by_its_path_where_its_name_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, shown: str
) -> None:
    here = tmp_path / "here"
    programs = (here / folder / "bin").resolve()
    programs.mkdir(parents=True)
    here.mkdir(exist_ok=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    assert command_line() == "aob"
    (programs / "aob").touch(mode=0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    assert command_line().endswith(shown)
    monkeypatch.setenv("PATH", str(programs))
    assert command_line() == "aob"


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkerProcess:
    """A process that lives until its input ends, in the place of a worker."""
    stand_in = tmp_path / "stand_in"
    stand_in.write_text('#!/bin/sh\necho "$SUPPORT_OUTBOX $SUPPORT_APPROVAL_SECONDS $*" >&2\nread -r line\nexit 3\n')
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    return WorkerProcess("sqlite:///x.db", tmp_path, 0.5)


def test_a_worker_is_killed_for_good(worker: WorkerProcess) -> None:
    worker.check()
    worker.kill()
    with pytest.raises(WorkerDied, match=f"code {-signal.SIGKILL}"):
        worker.check()
    worker.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


def test_a_worker_stops_when_its_input_ends_and_its_log_is_shown(worker: WorkerProcess, tmp_path: Path) -> None:
    worker.stop()
    with pytest.raises(WorkerDied, match="code 3") as caught:
        worker.kill()
    assert f"{tmp_path / 'outbox.jsonl'} 0.5 -m examples.support.worker sqlite:///x.db" in str(caught.value)
