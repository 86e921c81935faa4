"""An open run whose old history was deleted: what the commands show of it, and that it can be moved."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import aob.testing
from tests.e2e import cli_flow
from tests.e2e.cli_shell import Shell, until

NEW = ["--store", "sqlite:///new.db"]
SOON = {"AOB_RETENTION_DAYS": "0.000001", "AOB_SWEEP_EVERY": "0.05"}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A run that waits in its third pass, and has events 1, a gap, the last checkpoint and a step."""
    shell = Shell(tmp_path)
    worker = shell.worker(**SOON)
    shell.good("run", "start", "rounds", "--inputs", "2", "--id", "r")
    until(lambda: shell.events("r") == ["run_started", "gap", "checkpoint", "step_completed"])
    assert worker.stop() == 0
    yield shell
    shell.end()


def test_every_command_that_reads_a_history_shows_the_gap(shell: Shell) -> None:
    said = "events 2 to 4 were deleted after the retention time"
    assert said in shell.good("run", "history", "r").lines[1]
    (gap,) = shell.json("run", "history", "r", "--kind", "gap")
    assert (gap["seq"], gap["data"]) == (4, {"from": 2, "to": 4})
    assert [e["seq"] for e in shell.json("run", "history", "r", "--after", "4")] == [5, 6]
    drawn = shell.good("run", "timeline", "r")
    assert "shout#3" in drawn.out
    assert "shout#2" not in drawn.out
    assert said in drawn.err
    assert shell.json("run", "get", "r")["input"] == 2
    assert "the code fits" in shell.good("replay", "r", "--code", "flow.py").out
    assert said in shell.bad(1, "replay", "r", "--from", "shout#1")
    shell.good("replay", "--all-open", "--code", "flow.py")
    assert shell.good("db", "check").out == "all is as it was written\n"


def test_what_is_gone_is_no_place_to_begin(shell: Shell) -> None:
    shell.worker()
    assert "[history_gone]" in shell.bad(1, "run", "fork", "r", "--at", "shout#2")
    assert "[history_gone]" in shell.bad(1, "run", "fork", "r", "--override", 'shout#1="x"')
    shell.good("run", "fork", "r", "--at", "shout#3", "--id", "f")
    for run in ("r", "f"):
        shell.good("run", "signal", run, "go", '"now"')
        assert shell.json("run", "result", run)["result"] == "2 now"
        stream = shell.good("logs", "stream", run, "--after", "2")
        assert "events 2 to 4 were deleted" in stream.lines[0]


def test_it_moves_to_another_store_with_its_gap_and_goes_on(shell: Shell) -> None:
    before = shell.json("run", "history", "r")
    shell.good("db", "export", "r", "--to", "r.jsonl")
    assert shell.good("db", "import", "r.jsonl", *NEW).out == "imported 1 run\n"
    assert shell.json("run", "history", "r", *NEW) == before
    assert shell.good("db", "check", *NEW).out == "all is as it was written\n"
    shell.worker(*NEW)
    shell.good("run", "signal", "r", "go", '"there"', *NEW)
    assert shell.json("run", "result", "r", *NEW)["result"] == "2 there"

    lines = (shell.folder / "r.jsonl").read_text().splitlines()
    (place,) = (n for n, line in enumerate(lines) if '"gap"' in line)
    for broken in (lines[place].replace(",2,4,", ",2,5,"), '{"event":["gap",1,{}]}'):
        (shell.folder / "bad.jsonl").write_text("\n".join([*lines[:place], broken, *lines[place + 1 :], ""]))
        assert "[bad_export]" in shell.bad(1, "db", "import", "bad.jsonl", "--store", "sqlite:///other.db")


def test_a_saved_history_with_a_gap_replays(shell: Shell, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps(shell.json("run", "history", "r")))
    aob.testing.replay(cli_flow.rounds, saved)
