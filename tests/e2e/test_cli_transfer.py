"""`aob db export` and `aob db import`: runs move to another store, those in flight too."""

import json
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from tests.e2e.cli_shell import Shell, until

NEW = ["--store", "sqlite:///new.db"]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def moving(shell: Shell) -> None:
    """Two runs have ended, one sleeps with a large payload and an unread signal, one asks, one has not begun."""
    worker = shell.worker()
    start = ["run", "start", "--inputs"]
    shell.good(*start, '"Ada"', "greet", "--id", "done")
    shell.good(*start, '"bad"', "greet", "--id", "failed")
    shell.good(*start, '{"seconds": 0.5, "size": 100000}', "nap", "--id", "asleep")
    shell.good(*start, '"tea"', "talk", "--id", "asks")
    until(lambda: shell.json("approve", "list"))
    until(lambda: "step_completed" in shell.events("asleep"))
    assert worker.stop() == 0
    shell.good(*start, '"Bob"', "flow.py:greet", "--id", "pending", "--attribute", "color=red")
    shell.good("run", "signal", "asleep", "go", '"now"', "--id", "s1")


def test_everything_arrives_and_goes_on(shell: Shell) -> None:
    moving(shell)
    before = {run: shell.json("run", "history", run) for run in ("done", "failed", "asleep", "asks")}
    done = shell.good("db", "export", "--all", "--to", "all.jsonl")
    assert "exported 5 runs, 3 of them in flight" in done.err
    imported = shell.good("db", "import", "all.jsonl", *NEW)
    assert imported.out == "imported 5 runs\n"
    assert "3 in flight" in imported.err
    assert shell.good("db", "check", *NEW).out == "all is as it was written\n"

    for run, events in before.items():
        assert shell.json("run", "history", run, *NEW) == events, run
    assert [r["run_id"] for r in shell.json("run", "list", *NEW)] == ["pending", "asks", "asleep", "failed", "done"]
    assert shell.json("run", "list", "--attribute", "color=red", *NEW)[0]["run_id"] == "pending"
    assert shell.json("run", "result", "done", *NEW)["result"] == "Hello ADA"

    shell.good("run", "signal", "asleep", "go", '"again"', "--id", "s1", *NEW)
    shell.worker(*NEW)
    assert shell.json("run", "result", "pending", *NEW)["result"] == "Hello BOB"
    assert shell.json("run", "result", "asleep", *NEW)["result"] == "100000 now AWAKE"
    (ticket,) = shell.json("approve", "list", *NEW)
    shell.good("approve", ticket["id"], "approve", "--by", "ann", *NEW)
    shell.good("run", "signal", "asks", "paid", "1", *NEW)
    assert shell.json("run", "result", "asks", *NEW)["result"]["by"] == "ann"
    assert shell.effects().count("shout " + "z" * 100_000) == 1
    assert shell.status("asleep") == "waiting"


def test_what_is_there_already_is_refused_before_anything_is_written(shell: Shell) -> None:
    moving(shell)
    shell.good("db", "export", "done", "asks", "--to", "two.jsonl")
    assert shell.json("db", "import", "two.jsonl", *NEW) == {"runs": 2, "imported": 2, "open": 1}
    shell.good("db", "export", "--all", "--to", "all.jsonl")
    error = shell.bad(1, "db", "import", "all.jsonl", *NEW)
    assert "done, asks" in error and "nothing was imported" in error
    assert len(shell.json("run", "list", *NEW)) == 2
    assert shell.good("db", "import", "all.jsonl", "--skip-existing", *NEW).out == "imported 3 runs, 2 were there\n"
    assert len(shell.json("run", "list", *NEW)) == 5
    assert len(shell.json("approve", "list", *NEW)) == 1


def test_a_worker_on_the_store_is_said_and_refused(shell: Shell) -> None:
    shell.worker()
    shell.good("run", "start", "nap", "--inputs", '{"seconds": 60}', "--id", "a")
    until(lambda: "step_completed" in shell.events("a"))
    live = shell.good("db", "export", "a", "--to", "a.jsonl")
    assert "they run twice" in live.err
    assert "[store_served]" in shell.bad(1, "db", "import", "a.jsonl")
    shell.good("db", "import", "a.jsonl", *NEW)
    assert shell.json("run", "history", "a", *NEW) == shell.json("run", "history", "a")


def test_a_fork_is_exported_with_the_history_that_it_shares(shell: Shell) -> None:
    worker = shell.worker()
    shell.good("run", "start", "mend", "--inputs", '"x"', "--id", "a")
    shell.bad(1, "run", "result", "a")
    shell.good("run", "fork", "a", "--at", "needs_file#1", "--id", "b")
    shell.bad(1, "run", "result", "b")
    assert worker.stop() == 0
    shell.good("db", "export", "b", "--to", "b.jsonl")
    shell.good("db", "import", "b.jsonl", *NEW)
    (shell.folder / "x").touch()
    shell.worker(*NEW)
    shell.good("run", "retry", "b", *NEW)
    assert shell.json("run", "result", "b", *NEW)["result"] == "FIRST there"
    assert shell.effects().count("shout first") == 1


def test_what_a_dead_worker_left_can_be_moved_too(shell: Shell) -> None:
    worker = shell.worker()
    shell.good("run", "start", "hold", "--inputs", '"gate"', "--id", "a")
    until(lambda: "held gate" in shell.effects())
    worker.kill()
    shell.good("db", "export", "--all", "--to", "all.jsonl")
    shell.good("db", "import", "all.jsonl", *NEW)
    (shell.folder / "gate").touch()
    shell.worker(*NEW)
    assert shell.json("run", "result", "a", *NEW)["result"] == "BEFORE, gate done, AFTER"
    assert shell.effects().count("shout before") == 1


def test_half_a_file_and_a_changed_one_are_refused(shell: Shell) -> None:
    moving(shell)
    shell.good("db", "export", "--all", "--to", "all.jsonl")
    lines = (shell.folder / "all.jsonl").read_text().splitlines(keepends=True)
    assert json.loads(lines[0]) == {"aob_export": 1} and json.loads(lines[-1]) == {"end": 5}
    changed = [line.replace("WlpaWlpa", "WlpaWlpb", 1) if line.startswith('{"blob"') else line for line in lines]
    damaged = {
        "half": (lines[: len(lines) // 2], "ends here"),
        "endless": (lines[:-1], "ends here"),
        "event": ([line.replace("Ada", "Bob") for line in lines], "run 'done' is not what was exported"),
        "blob": (changed, "payload sha256:"),
        "twice": ([*lines[:-1], *lines[1:-1], '{"end": 10}\n'], "in it twice"),
        "newer": (['{"aob_export": 2}\n', *lines[1:]], "upgrade"),
        "other": (["hello\n"], "line 1"),
        "count": ([*lines[:-1], '{"end": 4}\n'], "should hold 4 runs"),
    }
    for name, (text, said) in damaged.items():
        (shell.folder / name).write_text("".join(text))
        error = shell.bad(1, "db", "import", name, *NEW)
        assert "[bad_export]" in error and said in error, name
    assert not (shell.folder / "new.db").exists()


def test_exports_go_through_pipes(shell: Shell) -> None:
    shell.good("run", "start", "flow.py:greet", "--inputs", '"Ada"', "--id", "a", "--wait")
    piped = shell.good("db", "export", "a")
    (shell.folder / "a.jsonl").write_text(piped.out)
    assert shell.json("db", "import", "a.jsonl", *NEW)["imported"] == 1
    assert "[run_not_found]" in shell.bad(1, "db", "export", "nobody", "--to", "nobody.jsonl")
    assert not list(shell.folder.glob("nobody*"))
    assert "ids of runs" in shell.bad(2, "db", "export")


def test_tenants_are_kept_apart_unless_all_are_asked_for(shell: Shell) -> None:
    for tenant in ("one", "two"):
        shell.good("run", "start", "flow.py:greet", "--inputs", '"Ada"', "--id", "a", "--wait", "--tenant", tenant)
    assert "exported 1 run" in shell.good("db", "export", "--all", "--tenant", "one").err
    assert "exported 2 runs" in shell.good("db", "export", "--all-tenants", "--to", "all.jsonl").err
    shell.good("db", "import", "all.jsonl", *NEW)
    assert shell.json("run", "result", "a", "--tenant", "two", *NEW)["result"] == "Hello ADA"


def test_migrate_makes_a_store(shell: Shell) -> None:
    assert shell.json("db", "migrate")["made"] is True
    assert shell.json("db", "migrate")["made"] is False
    assert shell.json("run", "list") == []


def test_a_damaged_payload_is_found_by_check(shell: Shell) -> None:
    shell.good("run", "start", "flow.py:greet", "--inputs", '"Ada"', "--id", "a", "--wait")
    assert shell.json("db", "check") == {"store": "sqlite:///aob.db", "problems": [], "lacks": []}
    connection = apsw.Connection(str(shell.folder / "aob.db"))
    connection.execute("update event set data = cast('[]' as blob) where seq = 2")
    connection.close()
    assert "1 problem" in shell.bad(1, "db", "check")
    assert "event 2 is not what was written" in shell("db", "check").out
    assert "[store_corrupt]" in shell.bad(1, "run", "history", "a")
