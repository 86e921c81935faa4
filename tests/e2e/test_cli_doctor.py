"""`aob doctor` and `aob workflow list`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli_shell import Shell, until


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def findings(shell: Shell, code: int = 0, **env: str) -> dict[str, dict[str, Any]]:
    done = shell("doctor", "--json", **env)
    assert done.code == code, done
    return {finding["what"]: finding for finding in done.json}


def test_nothing_there_yet(shell: Shell) -> None:
    found = findings(shell)
    assert found["store"]["state"] == "warn" and "start a run" in found["store"]["todo"]
    assert "Python 3." in found["aob"]["found"]
    assert not (shell.folder / "aob.db").exists()


def test_a_store_in_use(shell: Shell) -> None:
    shell.worker()
    shell.good("run", "start", "talk", "--inputs", '"tea"', "--id", "a")
    until(lambda: shell.json("approve", "list"))
    found = findings(shell, AOB_THREADS="3")
    assert {finding["state"] for finding in found.values()} == {"ok"}
    assert "SQLite 3." in found["engine"]["found"]
    assert "owns the store" in found["worker"]["found"]
    assert found["settings"]["found"] == "threads=3"
    assert found["runs"]["found"] == "1 waiting"
    assert found["approvals"]["found"] == "1 ticket open"
    assert found["schema"]["found"].endswith(", the newest this aob knows is " + found["schema"]["found"].split(",")[0])
    shown = shell.good("doctor").lines
    assert all(line.startswith(("ok ", "     ")) for line in shown), shown


def test_a_dead_worker_and_a_parked_run(shell: Shell) -> None:
    worker = shell.worker()
    shell.good("run", "start", "nap", "--inputs", '{"seconds": 0.01}', "--id", "a")
    until(lambda: "timer_fired" in shell.events("a"))
    worker.kill()
    found = findings(shell)
    assert found["worker"]["state"] == "warn" and "died" in found["worker"]["found"]
    assert "start a worker" in found["worker"]["todo"]
    changed = shell.worker(FLOW_CHANGED="1")
    shell.good("run", "signal", "a", "go", "1")
    changed.wait_for("parked a")
    assert changed.stop() == 0
    found = findings(shell)
    assert found["parked"]["state"] == "warn" and "1 run: a" in found["parked"]["found"]
    assert "start one for 1 open run" in found["worker"]["todo"]


def test_a_damaged_store(shell: Shell) -> None:
    (shell.folder / "aob.db").write_bytes(b"this is no database" * 1000)
    found = findings(shell, 1)
    assert found["store"]["state"] == "fail" and "restore a backup" in found["store"]["todo"]
    assert shell("doctor").out.count("fail") == 1


def test_workflows_of_a_module_and_of_a_store(shell: Shell) -> None:
    listed = {row["name"]: row for row in shell.json("workflow", "list", "flow.py")}
    assert set(listed) == {"greet", "ship", "brief", "hold", "mend", "talk", "nap", "rounds"}
    assert listed["nap"]["parameters"] == {"seconds": "float", "size": "int"}
    assert listed["ship"]["input_schema"]["$defs"]["Order"]["properties"]["count"]["type"] == "integer"
    assert "order: Order" in shell.good("workflow", "list", "flow").out
    assert shell.json("workflow", "list") == []
    shell.good("run", "start", "flow.py:greet", "--inputs", '"Ada"', "--wait")
    assert shell.json("workflow", "list") == [{"name": "greet", "runs": 1, "statuses": {"completed": 1}}]
