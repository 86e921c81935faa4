"""`aob replay`: histories against code."""

from collections.abc import Iterator

import pytest

from tests.e2e.cli_shell import Shell, until

CHANGED = {"FLOW_CHANGED": "1"}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A store with one run that has ended, and two that sleep; no worker."""
    shell = Shell(tmp_path_factory.mktemp("replay"))
    worker = shell.worker()
    shell.good("run", "start", "greet", "--inputs", '"Ada"', "--id", "ended")
    for name in ("one", "two"):
        shell.good("run", "start", "nap", "--inputs", '{"seconds": 3600}', "--id", name)
        until(lambda name=name: "step_completed" in shell.events(name))
    shell.good("run", "result", "ended")
    assert worker.stop() == 0
    code = (shell.folder / "flow.py").read_text()
    assert "await aob.sleep(seconds)" in code
    (shell.folder / "failing.py").write_text(code.replace("await aob.sleep(seconds)", "raise ValueError('a new bug')"))
    yield shell
    shell.end()


def test_a_frozen_run_is_shown_as_recorded(shell: Shell) -> None:
    before = shell.effects()
    assert len(shell.good("replay", "ended").lines) == 3
    assert [line.split()[2] for line in shell.good("replay", "ended", "--from", "shout#1").lines] == [
        "step_completed", "run_completed"
    ]  # fmt: skip
    assert "[step_not_found]" in shell.bad(1, "replay", "ended", "--from", "shout#2")
    assert shell.effects() == before


def test_code_that_fits_is_told_from_code_that_does_not(shell: Shell) -> None:
    before = shell.effects()
    assert shell.good("replay", "ended", "--code", "flow.py").out == "3 events replayed: the code fits\n"
    assert shell.json("replay", "one", "--code", "flow.py")["code"] == "fits"
    unfit = shell("replay", "one", "--code", "flow.py", **CHANGED)
    assert unfit.code == 1
    assert "does not fit" in unfit.out and "> event 2: step_completed shout#1" in unfit.out
    assert "flaky#1" in unfit.out and "flow.py:" in unfit.out
    for_programs = shell("replay", "one", "--code", "flow.py", "--json", **CHANGED)
    assert (for_programs.code, for_programs.json["code"]) == (1, "non_deterministic")
    assert shell.status("one") == "waiting"
    assert shell.effects() == before


def test_all_open_runs_are_the_gate_before_a_deploy(shell: Shell) -> None:
    assert shell.good("replay", "--all-open", "--code", "flow.py").out == "2 open runs: the code fits\n"
    gate = shell("replay", "--all-open", "--code", "flow.py", **CHANGED)
    assert gate.code == 1
    assert "one (nap)" in gate.out and "two (nap)" in gate.out
    assert "of 2 open runs 2 would not go on" in gate.err
    found = shell("replay", "--all-open", "--code", "flow.py", "--json", **CHANGED)
    assert found.code == 1
    assert (found.json["checked"], found.json["fit"]) == (2, 0)
    assert {run["run_id"] for run in found.json["broken"]} == {"one", "two"}


def test_code_that_would_end_an_open_run_with_an_error_is_no_fit(shell: Shell) -> None:
    found = shell("replay", "--all-open", "--code", "failing.py", "--json")
    assert found.code == 1
    assert {run["code"] for run in found.json["broken"]} == {"would_fail"}
    assert "a new bug" in found.json["broken"][0]["message"]


def test_open_runs_without_code_are_no_fit(shell: Shell) -> None:
    gate = shell("replay", "--all-open", "--code", "flow.py:greet", "--json")
    # a module's other workflows count too: a worker would serve them
    assert gate.code == 0
    (shell.folder / "other.py").write_text("import aob\n\n@aob.workflow\nasync def other() -> None: ...\n")
    gate = shell("replay", "--all-open", "--code", "other.py")
    assert gate.code == 1
    assert "nap: 2 open runs, but the code does not define it" in gate.out
    assert "defines no workflow 'nap'" in shell.bad(2, "replay", "one", "--code", "other.py")


def test_a_fork_runs_from_a_step_on(shell: Shell) -> None:
    done = shell.good("replay", "ended", "--from", "shout#1", "--mode", "fork", "--code", "flow.py")
    assert done.out == '"Hello ADA"\n'
    assert shell.effects().count("shout Ada") == 2
    assert "--from" in shell.bad(2, "replay", "ended", "--mode", "fork")
