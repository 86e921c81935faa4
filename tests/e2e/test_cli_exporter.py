"""`aob worker --export-jsonl` and `aob exporter`: every event in a file, and how far each exporter has come."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_shell import Shell, until


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def exported(shell: Shell) -> list[tuple[str, int, str]]:
    """Run, number and kind of each line."""
    path = shell.folder / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(event["run_id"], event["seq"], event["kind"]) for event in map(json.loads, lines)]


def greet(shell: Shell, run: str) -> list[tuple[str, int, str]]:
    """A run to its end; its events."""
    shell.good("run", "start", "greet", "--inputs", '"Ada"', "--id", run, "--wait")
    return [(run, event["seq"], event["kind"]) for event in shell.json("run", "history", run)]


def test_every_event_is_in_the_file_once_though_the_worker_was_killed(shell: Shell) -> None:
    worker = shell.worker("--export-jsonl", "events.jsonl")
    events = greet(shell, "a")
    until(lambda: exported(shell) == events)
    worker.kill()
    worker = shell.worker(AOB_EXPORT_JSONL="events.jsonl")
    events += greet(shell, "b")
    assert worker.stop() == 0
    assert exported(shell) == events
    assert shell.json("exporter", "list") == [{"exporter": "jsonl", "partitions": 1, "behind": 0}]
    assert shell.good("exporter", "list").lines[1].split() == ["jsonl", "1", "0"]


def test_what_is_not_exported_stays_until_its_exporter_is_dropped(shell: Shell) -> None:
    assert shell.worker("--export-jsonl", "events.jsonl").stop() == 0
    worker = shell.worker()
    greet(shell, "a")
    assert "not_exported" in shell.bad(1, "run", "delete", "a")
    (exporter,) = shell.json("exporter", "list")
    assert exporter["behind"] > 0
    findings = {f["what"]: f for f in shell.json("doctor")}
    assert findings["exporter"]["found"] == f"jsonl: {exporter['behind']} events behind"
    assert shell.json("exporter", "drop", "jsonl") == {"exporter": "jsonl", "partitions": 1}
    assert "no exporter" in shell.bad(1, "exporter", "drop", "jsonl")
    assert "nobody exports" in shell.good("exporter", "list").err
    assert shell.json("exporter", "list") == []
    shell.good("run", "delete", "a")
    assert worker.stop() == 0


def test_an_exporter_that_fails_is_told_of_and_tried_again(shell: Shell) -> None:
    (shell.folder / "events.jsonl").write_text("something else\n")
    worker = shell.worker("--export-jsonl", "events.jsonl")
    shell.good("run", "start", "greet", "--inputs", '"Ada"', "--wait")
    assert "give another path" in worker.wait_for("exporter jsonl failed")
    (shell.folder / "events.jsonl").unlink()
    until(lambda: exported(shell)[-1:] and exported(shell)[-1][2] == "run_completed")
    assert worker.stop() == 0


def test_a_folder_that_is_not_there_is_a_mistake(shell: Shell) -> None:
    assert "no such folder" in shell.bad(2, "worker", "flow.py", "--export-jsonl", "none/events.jsonl")


FAMILY = """
import aob

@aob.workflow
async def child() -> None:
    raise ValueError("no")

@aob.workflow
async def parent() -> None:
    await child.options(run_id="child")()
"""


def test_a_child_that_a_retry_may_need_goes_with_its_parent(shell: Shell) -> None:
    (shell.folder / "family.py").write_text(FAMILY)
    assert shell("run", "start", "family.py:parent", "--id", "parent", "--wait").code == 1
    assert "still_needed" in shell.bad(1, "run", "delete", "child")
    assert shell.json("run", "delete", "--filter", "status=failed", "--yes") == {"deleted": 2, "failed": []}
