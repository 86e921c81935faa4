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
    assert "2 runs of nap would break at shout#1, " in gate.out and gate.out.count("> event 2:") == 1
    assert "[non_deterministic]: two, one" in gate.out and "flow.py:" in gate.lines[0]
    assert "of 2 open runs 2 would not go on" in gate.err
    found = shell("replay", "--all-open", "--code", "flow.py", "--json", **CHANGED)
    assert found.code == 1
    assert (found.json["checked"], found.json["fit"]) == (2, 0)
    (broken,) = found.json["broken"]
    assert (broken["workflow"], broken["step"], broken["count"]) == ("nap", "shout#1", 2)
    assert broken["runs"] == [{"tenant": "default", "run_id": name} for name in ("two", "one")]
    assert (shell.folder / "flow.py").read_text().splitlines()[int(broken["where"].rpartition(":")[2]) - 1].strip() == (
        'await flaky("new step")'
    )


def test_code_that_would_end_an_open_run_with_an_error_is_no_fit(shell: Shell) -> None:
    found = shell("replay", "--all-open", "--code", "failing.py", "--json")
    assert found.code == 1
    (broken,) = found.json["broken"]
    assert (broken["code"], broken["count"]) == ("would_fail", 2)
    assert "a new bug" in broken["message"] and "failing.py:" in broken["where"]


def test_code_that_ends_its_process_or_never_ends_breaks_its_runs_alone(shell: Shell) -> None:
    code = (shell.folder / "flow.py").read_text()
    (shell.folder / "ends.py").write_text(code.replace("await aob.sleep(seconds)", "os._exit(7)"))
    found = shell("replay", "--all-open", "--code", "ends.py", "--jobs", "1", "--json")
    assert [(b["code"], b["count"]) for b in found.json["broken"]] == [("died", 2)]
    assert "exit code 7" in found.json["broken"][0]["message"]
    (shell.folder / "endless.py").write_text(code.replace("await aob.sleep(seconds)", "while True: pass"))
    found = shell("replay", "--all-open", "--code", "endless.py", "--time-limit", "0.5", "--json")
    assert [(b["code"], b["count"]) for b in found.json["broken"]] == [("endless", 2)]


def test_what_the_code_prints_is_no_answer(shell: Shell) -> None:
    code = (shell.folder / "flow.py").read_text()
    (shell.folder / "prints.py").write_text(
        "print('at import')\n" + code.replace("await aob.sleep", "print('x'); await aob.sleep")
    )
    gate = shell("replay", "--all-open", "--code", "prints.py")
    assert gate.code == 0, gate
    assert gate.lines[-1] == "2 open runs: the code fits"


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
