"""Starting runs and reading their results."""

import json
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aob.cli.main import run
from tests.e2e.cli_shell import Shell, until


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def test_a_first_try_just_works(shell: Shell) -> None:
    done = shell.good("run", "start", "flow.py:greet", "--inputs", '"Ada"', "--wait")
    assert done.out == '"Hello ADA"\n'
    assert "this process serves greet" in done.err
    assert shell.effects() == ["shout Ada"]


def test_without_a_worker_a_run_waits_and_the_command_that_is_shown_starts_one(shell: Shell) -> None:
    done = shell.good("run", "start", "flow:greet", "--inputs", '"Ada"', "--id", "a", "--store", "sqlite:///other.db")
    assert done.out == "a\n"
    assert shell.json("run", "get", "a", "--store", "sqlite:///other.db")["status"] == "pending"
    _, _, command = done.err.partition("start one: ")
    _, *arguments = shlex.split(command)
    shell.popen(*arguments)
    assert shell.good("run", "result", "a", "--store", "sqlite:///other.db").out == '"Hello ADA"\n'


def test_the_same_id_and_input_mean_the_same_run(shell: Shell) -> None:
    start = ["run", "start", "flow.py:greet", "--id", "a", "--wait", "--inputs"]
    assert shell.good(*start, '"Ada"').out == shell.good(*start, '"Ada"').out
    assert shell.effects() == ["shout Ada"]
    assert "[run_exists]" in shell.bad(1, *start, '"Bob"')


def test_a_run_that_fails_says_why_in_one_line(shell: Shell) -> None:
    error = shell.bad(1, "run", "start", "flow.py:greet", "--inputs", '"bad"', "--id", "a", "--wait")
    assert "ValueError: bad text" in error
    assert "shout#1" in error
    assert "ValueError: bad text" in shell.bad(1, "run", "result", "a")
    for_programs = shell("run", "result", "a", "--json")
    assert for_programs.code == 1
    assert for_programs.json["status"] == "failed"
    assert for_programs.json["error"]["code"] == "run_failed"
    assert "ValueError: bad text" in shell.good("run", "get", "a").out


def test_inputs_come_from_a_file_and_from_standard_input_too(shell: Shell) -> None:
    (shell.folder / "order.json").write_text('{"item": "pen", "count": 2}')
    start = ["run", "start", "flow:ship", "--wait", "--json", "--inputs"]
    assert shell.good(*start, "order.json").json["result"] == {"item": "pen", "count": 2, "gift": False}
    assert shell.good(*start, "-", input='{"item": "cup", "gift": true}').json["result"]["gift"] is True


def test_events_can_be_followed(shell: Shell) -> None:
    done = shell.good("run", "start", "flow:greet", "--inputs", '"Ada"', "--follow")
    assert [line.split()[2] for line in done.lines[:-1]] == ["run_started", "step_completed", "run_completed"]
    assert done.lines[-1] == '"Hello ADA"'
    *events, end = shell.good("run", "start", "flow:greet", "--inputs", '"Ada"', "--follow", "--json").lines
    assert [json.loads(event)["seq"] for event in events] == [1, 2, 3]
    assert json.loads(end)["result"] == "Hello ADA"


def test_attributes_and_lists(shell: Shell) -> None:
    worker = shell.worker()
    for name, color in (("Ada", "red"), ("Bob", "blue"), ("bad", "red")):
        shell.good("run", "start", "greet", "--inputs", json.dumps(name), "--id", name, "--attribute", f"color={color}")
    until(lambda: not shell.json("run", "list", "--status", "running", "--status", "pending"))
    assert worker.stop() == 0
    assert [run["run_id"] for run in shell.json("run", "list")] == ["bad", "Bob", "Ada"]
    assert [run["run_id"] for run in shell.json("run", "list", "--attribute", "color=red")] == ["bad", "Ada"]
    failed = shell.json("run", "list", "--status", "failed", "--workflow", "greet")
    assert [(run["run_id"], run["reason"]) for run in failed] == [("bad", "ValueError: bad text")]
    first = shell.good("run", "list", "--limit", "2")
    assert [line.split()[0] for line in first.lines] == ["run", "bad", "Bob"]
    more = shlex.split(first.err.partition(": ")[2])
    assert [line.split()[0] for line in shell.good("run", "list", *more).lines] == ["run", "Ada"]
    names = [row["name"] for row in shell.json("workflow", "list")]
    assert names == ["greet"]


def test_a_name_that_is_not_known_here_is_left_to_the_worker(shell: Shell) -> None:
    shell.worker()
    done = shell.good("run", "start", "ship", "--inputs", '{"item": "pen"}', "--wait", "--json")
    assert done.json["result"] == {"item": "pen", "count": 1, "gift": False}


def test_waiting_for_a_worker_says_so(shell: Shell) -> None:
    waiting = shell.popen("run", "start", "greet", "--inputs", '"Ada"', "--wait")
    assert waiting.stderr is not None
    assert "no worker serves this store" in waiting.stderr.readline()
    shell.worker()
    assert waiting.communicate()[0] == '"Hello ADA"\n'


def test_a_worker_that_does_not_serve_the_workflow_is_suspected(shell: Shell) -> None:
    shell.worker(module="flow.py:greet")
    (shell.folder / "other.py").write_text("import aob\n\n@aob.workflow\nasync def other() -> int:\n    return 7\n")
    waiting = shell.popen("run", "start", "other", "--id", "a", "--wait")
    assert waiting.stderr is not None
    assert any("does the running worker serve 'other'?" in line for line in waiting.stderr)


def test_interrupting_a_wait_loses_nothing(shell: Shell) -> None:
    waiting = shell.popen("run", "start", "flow.py:hold", "--inputs", '"gate"', "--id", "a", "--wait")
    until(lambda: "held gate" in shell.effects())
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate()
    assert waiting.returncode == 130
    assert "not lost" in err and "Traceback" not in err
    (shell.folder / "gate").touch()
    shell.worker()
    assert shell.good("run", "result", "a").out == '"BEFORE, gate done, AFTER"\n'
    assert shell.effects().count("shout before") == 1


def test_a_result_that_is_not_there_yet_can_be_asked_for(shell: Shell) -> None:
    shell.good("run", "start", "flow.py:greet", "--inputs", '"Ada"', "--id", "a")
    assert "pending" in shell.bad(1, "run", "result", "a", "--wait", "0")


MISTAKES: list[tuple[int, list[str], list[str]]] = [
    (2, ["run", "start", "flow.py:greet", "--inputs", "{bad"], ["--inputs", "neither JSON", "nor a file"]),
    (2, ["run", "start", "flow.py:greet", "--inputs", "Ada"], ["For a text, quote it: '\"Ada\"'"]),
    (2, ["run", "start", "flow.py:greet", "--inputs", "NaN"], ["NaN"]),
    (2, ["run", "start", "flow.py:greet", "--inputs", "3"], ["greet", "Expected `str`, got `int`", "[bad_input]"]),
    (2, ["run", "start", "flow.py:ship", "--inputs", '{"item": 1}'], ["`$.item`"]),
    (2, ["run", "start", "flow.py:ship", "--inputs", "{}"], ["item"]),
    (2, ["run", "start", "flow.py:ship"], ["ship"]),
    (2, ["run", "start", "flow.py:great", "--inputs", "1"], ["did you mean 'greet'?"]),
    (2, ["run", "start", "flow.py:shout", "--inputs", "1"], ["flow:shout is not a workflow"]),
    (2, ["run", "start", "flow.py", "--inputs", "1"], ["several workflows", ":greet"]),
    (2, ["run", "start", "flaw:greet"], ["no module 'flaw'"]),
    (2, ["run", "start", "flaw.py:greet"], ["no file flaw.py"]),
    (2, ["run", "start", "graph.json"], ["graph.json"]),
    (1, ["run", "start", "broken.py:greet"], ["importing 'broken' fails", "ZeroDivisionError", "broken.py:1"]),
    (1, ["run", "start", "typo.py:greet"], ["SyntaxError", "typo.py:1"]),
    (2, ["run", "start", "flow.py:greet", "--inputs", '"a"', "--id", "a b"], ["bad run id", "[bad_run_id]"]),
    (2, ["run", "start", "greet", "--inputs", "1", "--attribute", "color"], ["--attribute", "key=value"]),
    (2, ["run", "start", "flow.py:greet", "--await"], ["--await", "aob run start --help"]),
    (2, ["run", "start"], ["WORKFLOW"]),
    (2, ["run", "strat"], ["strat"]),
    (2, ["rum"], ["rum"]),
    (2, ["run", "list", "--status", "done"], ["no state 'done'", "completed"]),
    (2, ["run", "list", "--limit", "many"], ["--limit", "many"]),
    (2, ["run", "list", "--store", "mysql://x"], ["mysql://x", "sqlite:///"]),
    (1, ["run", "list", "--store", "sqlite:///flow.py"], ["store_corrupt"]),
    (1, ["run", "start", "greet", "--store", "sqlite:///no/such.db"], ["[store_unavailable]"]),
    (1, ["run", "get", "nobody"], ["no run 'nobody'", "[run_not_found]"]),
    (1, ["run", "history", "nobody"], ["[run_not_found]"]),
    (1, ["run", "cancel", "nobody"], ["[run_not_found]"]),
    (1, ["run", "get", "a", "--store", "sqlite:///none.db"], ["no store at none.db"]),
    (1, ["run", "get", "a", "--tenant", "other"], ["tenant 'other'"]),
    (2, ["worker", "empty.py"], ["empty.py defines no workflow"]),
    (2, ["worker"], ["MODULE"]),
    (2, ["run", "query", "a", "progress", "{"], ["argument 1"]),
    (2, ["run", "fork", "a"], ["--at STEP"]),
    (2, ["run", "delete"], ["--filter"]),
    (2, ["run", "history", "a", "--kind", "nothing"], ["no kind 'nothing'"]),
    (2, ["approve", "a~approval#1", "maybe"], ["maybe"]),
    (1, ["approve", "a~approval#1", "approve"], ["[ticket_not_found]"]),
    (2, ["replay"], ["--all-open"]),
    (2, ["replay", "--all-open"], ["--code"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("mistakes"))
    (shell.folder / "broken.py").write_text("1 / 0\n")
    (shell.folder / "typo.py").write_text("def greet(:\n")
    (shell.folder / "empty.py").write_text("import aob\n")
    shell.good("run", "start", "flow.py:greet", "--inputs", '"Ada"', "--id", "a", "--wait")
    yield shell
    shell.end()


@pytest.mark.parametrize(("code", "arguments", "parts"), MISTAKES, ids=[" ".join(m[1]) for m in MISTAKES])
def test_a_mistake_is_answered_in_one_clear_line(
    started: Shell, code: int, arguments: list[str], parts: list[str]
) -> None:
    error = started.bad(code, *arguments)
    assert [part for part in parts if part not in error] == [], error
    assert [run["run_id"] for run in started.json("run", "list")] == ["a"]


def test_debug_shows_the_traceback(started: Shell) -> None:
    done = started("run", "get", "nobody", "--debug")
    assert done.code == 1
    assert "Traceback" in done.err and "RunNotFound" in done.err


def test_a_bad_setting_is_named(started: Shell) -> None:
    assert "AOB_THREADS" in started.bad(2, "run", "list", AOB_THREADS="many")


def test_store_and_tenant_come_from_the_environment_too(shell: Shell) -> None:
    elsewhere = {"AOB_STORE": "sqlite:///elsewhere.db", "AOB_TENANT": "acme"}
    shell.good("run", "start", "flow.py:greet", "--inputs", '"Ada"', "--id", "a", **elsewhere)
    assert shell.json("run", "list", **elsewhere)[0]["tenant"] == "acme"
    assert shell.json("run", "list", "--store", "sqlite:///elsewhere.db", "--tenant", "acme")[0]["run_id"] == "a"
    assert shell.json("--store", "sqlite:///elsewhere.db", "run", "list") == []
    assert shell.json("run", "list") == []


def test_a_closed_pipe_is_no_error(started: Shell) -> None:
    for arguments in (["run", "list"], ["run", "list", "--json"], ["run", "history", "a"], ["run", "start", "--help"]):
        process = started.popen(*arguments)
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 0), arguments


def test_the_version_and_the_help(started: Shell) -> None:
    assert started.good("--version").out.strip().count(".") == 2
    listed = started.good("--help").out
    assert "Start runs, look at them, and steer them." in listed and "--store" in listed
    assert "Start a run and print its id" in started.good("run").out
    shown = started.good("approve", "--help").out
    assert "list" in shown and "TICKET" in shown and "--reason" in shown and "Everywhere" in shown


def test_the_help_of_every_command_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        "run start", "run batch", "run list", "run get", "run result", "run history", "run timeline", "run signal",
        "run query", "run update", "run cancel", "run terminate", "run pause", "run resume", "run retry", "run fork",
        "run delete", "worker", "approve", "approve list", "logs stream", "replay", "workflow list", "db migrate",
        "db check", "db export", "db import", "doctor", "completion",
    ):  # fmt: skip
        assert run([*command.split(), "--help"]) == 0
        shown = capsys.readouterr().out
        assert "For example:" in shown and f"aob {command}" in shown, command


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_scripts_know_commands_and_options(started: Shell, name: str) -> None:
    script = started.good("completion", name).out
    assert "timeline" in script and "store" in script
    if name == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_by_name_or_by_module_a_start_means_the_same(shell: Shell) -> None:
    start = ["--id", "a", "--inputs", '{"seconds": 3600}']
    shell.good("run", "start", "brief", *start)
    assert shell.good("run", "start", "flow.py:brief", *start).out == "a\n"
    shell.worker()
    assert "passed its timeout" in shell.bad(1, "run", "result", "a")
    shell.good("run", "start", "brief", *start)
