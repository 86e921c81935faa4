"""`aob worker --build` and `aob build`: pinned runs wait for their build, until it is back or retired."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli_shell import Shell, until

ORDERS = """
import aob

@aob.workflow(pinned=True)
async def order() -> list[str]:
    return [await aob.wait_signal("paid"), "BUILD"]
"""
WHY = "it is pinned to build b1, which no worker here runs; this is build b2"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def serve(shell: Shell, build: str, *options: str, store: str | None = None, until: str = "ready") -> Any:
    (shell.folder / "orders.py").write_text(ORDERS.replace("BUILD", build))
    at = ("--store", store) if store else ()
    return shell.worker(*options, *at, module="orders.py", until=until)


def build_lines(shell: Shell, *at: str) -> list[str]:
    return [re.sub(" +", " ", line).strip() for line in shell.good("build", "list", *at).lines[1:]]


def doctor(shell: Shell, *at: str) -> dict[str, dict[str, Any]]:
    return {f["found"].split(":")[0]: f for f in shell.json("doctor", *at) if f["what"] == "build"}


def status(shell: Shell, run: str, *at: str) -> str:
    return shell.json("run", "get", run, *at)["status"]


def test_a_pinned_run_waits_for_its_build(shell: Shell) -> None:
    assert "no worker serves a build" in shell.good("build", "list").err
    worker = serve(shell, "b1", "--build", "b1")
    shell.good("run", "start", "order", "--id", "a")
    shell.good("run", "start", "order", "--id", "b")
    until(lambda: status(shell, "a") == status(shell, "b") == "waiting")
    assert build_lines(shell) == ["b1 1 2"]
    assert doctor(shell)["b1"]["state"] == "ok"
    assert "build b1" in re.sub(" +", " ", shell.good("run", "get", "a").out)
    assert [run["build"] for run in shell.json("run", "list")] == ["b1", "b1"]
    assert worker.stop() == 0
    assert build_lines(shell) == ["b1 0 2 its runs wait: no worker of it lives"]
    found = doctor(shell)["b1"]
    assert found["state"] == "warn"
    assert found["found"] == "b1: no worker, 2 pinned runs: b, a"
    assert "aob build retire b1" in found["todo"]
    worker = serve(shell, "b2", "--build", "b2")
    shell.good("run", "signal", "a", "paid", '"yes"')
    until(lambda: shell.json("run", "get", "a")["reason"] == WHY)
    assert WHY in shell.good("run", "get", "a").out
    assert worker.stop() == 0
    worker = serve(shell, "b1", "--build", "b1")
    assert shell.json("run", "result", "a")["result"] == ["yes", "b1"]
    assert worker.stop() == 0
    worker = serve(shell, "b2", "--build", "b2")
    shell.good("run", "signal", "b", "paid", '"no"')
    gate = ["replay", "--all-open", "--code", "orders.py"]
    assert shell.good(*gate).lines[0] == "left out: 1 run pinned to their builds (--pinned: replay them, too)"
    assert [shell.json(*gate, *more)["checked"] for more in ([], ["--pinned"])] == [0, 1]
    assert "--pinned go with" in shell.bad(2, "replay", "b", "--pinned")
    assert "let 1 pinned run of build b1 go on with any build: say --yes" in shell.bad(2, "build", "retire", "b1")
    assert "no worker serves build 'b7'" in shell.bad(1, "build", "retire", "b7", "--yes")
    assert "1 run may go on" in shell.good("build", "retire", "b1", "--yes").out
    assert shell.json("run", "result", "b")["result"] == ["no", "b2"]
    assert shell.json("build", "retire", "b1") == {"build": "b1", "runs": 0}
    assert build_lines(shell) == ["b1 0 0 retired: its runs go on with any build", "b2 1 0"]
    assert "only on Postgres" in shell.bad(1, "build", "drain", "b2")
    assert worker.stop() == 0


def test_a_worker_says_that_nothing_is_pinned(shell: Shell) -> None:
    worker = serve(shell, "none", until="runs of order are not pinned, for no build is declared")
    worker.wait_for("ready")
    assert worker.stop() == 0
    worker = serve(shell, "b1", "--build", "b1")
    shell.good("build", "retire", "b1", "--yes")
    assert worker.stop() == 0
    worker = serve(shell, "b1", "--build", "b1", until="for build b1 is retired")
    worker.wait_for("ready")
    shell.good("run", "start", "order", "--id", "a")
    until(lambda: status(shell, "a") == "waiting")
    assert shell.json("run", "get", "a")["build"] is None
    assert worker.stop() == 0


@pytest.mark.needs("postgres")
def test_old_workers_drain_on_postgres(shell: Shell, postgres_url: str) -> None:
    at = ("--store", postgres_url)
    old = serve(shell, "b1", "--build", "b1", store=postgres_url)
    for run in ("a", "b"):
        shell.good("run", "start", "order", "--id", run, *at)
    until(lambda: status(shell, "a", *at) == status(shell, "b", *at) == "waiting")
    new = serve(shell, "b2", "--build", "b2", store=postgres_url)
    shell.good("build", "drain", "b1", *at)
    assert build_lines(shell, *at) == ["b1 1 2 drains", "b2 1 0"]
    old.wait_for("owns 16\n")
    shell.good("run", "start", "order", "--id", "c", *at)
    for run, build in (("c", "b2"), ("a", "b1")):
        shell.good("run", "signal", run, "paid", '"yes"', *at)
        assert shell.json("run", "result", run, *at)["result"] == ["yes", build]
    assert old.stop() == 0
    shell.good("run", "signal", "b", "paid", '"late"', *at)
    assert doctor(shell, *at)["b1"]["found"] == "b1: no worker, 1 pinned run: b"
    shell.good("build", "retire", "b1", "--yes", *at)
    assert shell.json("run", "result", "b", *at)["result"] == ["late", "b2"]
    assert new.stop() == 0
    assert build_lines(shell, *at) == [
        "b1 0 0 retired: its runs go on with any build",
        "b2 0 0 nobody serves it: retire it when its code is gone",
    ]
    assert "if its code is gone: aob build retire b2" in doctor(shell, *at)["b2"]["todo"]
