"""Looking at runs that go on, and steering them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_shell import Shell, until

TALK = ["run", "start", "talk", "--inputs", '"tea"', "--id"]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A folder in which a worker runs."""
    shell = Shell(tmp_path_factory.mktemp("controls"))
    shell.worker()
    yield shell
    shell.end()


def asked(shell: Shell, run: str) -> str:
    """Start a run and wait until it asks for an approval; the ticket."""
    shell.good(*TALK, run)
    until(lambda: shell.json("approve", "list", "--run", run))
    return shell.json("approve", "list", "--run", run)[0]["id"]


def test_a_run_is_queried_updated_approved_and_signalled(shell: Shell) -> None:
    ticket = asked(shell, "a")
    assert shell.json("run", "query", "a", "progress") == {"stage": "asking", "said": ["tea"]}
    assert shell.good("run", "update", "a", "add", '"milk"', "2").out == "3\n"
    assert shell.good("run", "update", "a", "add", '"sugar"', "--id", "once").out == "4\n"
    assert shell.good("run", "update", "a", "add", '"sugar"', "--id", "once").out == "4\n"
    assert "times must be positive" in shell.bad(1, "run", "update", "a", "add", '"x"', "-1")
    refused = shell.bad(1, "run", "update", "a", "add", '""')
    assert refused == "error: update 'add' was refused: ValueError: it needs a name [update_refused]"
    assert "[query_not_found]" in shell.bad(1, "run", "query", "a", "nothing")

    listed = shell.good("approve", "list").out
    assert ticket in listed and "May I?" in listed
    assert f"aob approve {ticket} approve|reject" in shell.good("run", "get", "a").out
    decided = shell.good(
        "approve", ticket, "approve", "--reason", "of course", "--by", "ann", "--data", '{"topic": "tea", "limit": 9}'
    )
    assert decided.out == f"{ticket}: approved by ann\n"
    assert "[ticket_closed]" in shell.bad(1, "approve", ticket, "reject")
    assert shell.json("approve", "list", "--run", "a") == []
    (closed,) = shell.json("approve", "list", "--run", "a", "--status", "approved")
    assert (closed["by"], closed["reason"]) == ("ann", "of course")

    shell.good("run", "signal", "a", "paid", '{"amount": 3}', "--id", "payment-1")
    result = shell.json("run", "result", "a")["result"]
    assert result["said"] == ["tea", "milk", "milk", "sugar"]
    assert (result["approved"], result["by"], result["data"]) == (True, "ann", {"topic": "tea", "limit": 9})
    assert result["paid"] == {"amount": 3}
    assert "[run_finished]" in shell.bad(1, "run", "signal", "a", "paid")


def test_a_signal_needs_no_payload_whatever_option_follows(shell: Shell) -> None:
    for run, given in (("bare", ["--json"]), ("id", ["--id", "once"]), ("minus", ["-5"]), ("store", [])):
        shell.good(*TALK, f"s-{run}")
        shell.good("run", "signal", f"s-{run}", "paid", *given, "--store", "sqlite:///aob.db")
        (signal,) = [e for e in shell.json("run", "history", f"s-{run}") if e["kind"] == "signal_received"]
        assert signal["data"]["payload"] == (-5 if run == "minus" else None)


def test_histories_are_tables_and_json(shell: Shell) -> None:
    shell.good("run", "start", "talk", "--inputs", '"tea"', "--id", "h")
    until(lambda: "step_scheduled" in shell.events("h"))
    lines = shell.good("run", "history", "h").lines
    assert [line.split()[2] for line in lines] == [
        "run_started", "attempt_failed", "attempt_failed", "step_completed", "step_scheduled"
    ]  # fmt: skip
    assert "attempt 1: RuntimeError: not yet" in lines[1]
    assert "3 attempts" in lines[3]
    events = shell.json("run", "history", "h", "--after", "2", "--kind", "step_completed")
    assert [(event["seq"], event["step"], event["data"]["result"]) for event in events] == [(4, "flaky#1", "tea")]
    shell.good("run", "terminate", "h", "--reason", "enough")
    assert "enough" in shell.good("run", "history", "h", "--kind", "run_terminated").out


def test_a_timeline_draws_a_bar_for_each_step(shell: Shell) -> None:
    ticket = asked(shell, "t")
    shell.good("approve", ticket, "reject")
    shell.good("run", "signal", "t", "paid", "1")
    shell.good("run", "result", "t")
    _ruler, *bars, summary = shell.good("run", "timeline", "t").lines
    assert {bar.split("  ")[0] for bar in bars} == {"flaky#1", "approval#1", "signal paid"}
    flaky = next(bar for bar in bars if bar.startswith("flaky#1"))
    assert "×" in flaky and flaky.rstrip().endswith("×3")
    assert "░" in next(bar for bar in bars if bar.startswith("approval#1"))
    assert "◆" in next(bar for bar in bars if bar.startswith("signal paid"))
    assert "3 steps in" in summary and "completed" in summary
    steps = {bar["step"]: bar for bar in shell.json("run", "timeline", "t")}
    assert steps["approval#1"]["type"] == "approval"
    assert steps["flaky#1"]["attempts"] == 3
    assert steps["flaky#1"]["start"] <= steps["flaky#1"]["end"] <= steps["approval#1"]["end"]


def test_logs_are_streamed_until_the_end_and_go_on_where_they_were(shell: Shell) -> None:
    ticket = asked(shell, "l")
    stream = shell.popen("logs", "stream", "l", "--json")
    some = shell.popen("logs", "stream", "l", "--node", "flaky", "--json")
    shell.good("approve", ticket, "approve")
    shell.good("run", "signal", "l", "paid", "1")
    events = [json.loads(line) for line in stream.communicate()[0].splitlines()]
    assert [event["seq"] for event in events if event["seq"]] == list(range(1, len(events) + 1))
    assert events[-1]["kind"] == "run_completed"
    assert {json.loads(line)["step"] for line in some.communicate()[0].splitlines()} == {"flaky#1"}
    rest = shell.good("logs", "stream", "l", "--after", str(len(events) - 1)).lines
    assert len(rest) == 1 and "run_completed" in rest[0]


def test_pause_and_resume(shell: Shell) -> None:
    ticket = asked(shell, "p")
    assert shell.json("run", "pause", "p")["status"] == "paused"
    shell.good("approve", ticket, "approve")
    shell.good("run", "signal", "p", "paid", "1")
    assert shell.status("p") == "paused"
    shell.good("run", "resume", "p")
    assert shell.json("run", "result", "p")["status"] == "completed"


def test_what_is_asked_of_a_run_that_has_ended_is_refused(shell: Shell) -> None:
    shell.good("run", "start", "greet", "--inputs", '"Ada"', "--id", "over")
    shell.good("run", "result", "over")
    for what in ("cancel", "terminate", "pause", "resume"):
        error = shell.bad(1, "run", what, "over")
        assert f"has ended already (completed), so there is nothing to {what} [run_finished]" in error
    asked(shell, "twice")
    shell.good("run", "cancel", "twice")
    assert "was cancelled" in shell.bad(1, "run", "result", "twice")
    assert "has ended already (cancelled)" in shell.bad(1, "run", "cancel", "twice")


def test_a_run_whose_code_no_worker_serves_says_so_and_begins_when_it_does(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.worker()
    shell.good("run", "start", "soon", "--inputs", '"tea"', "--id", "later")
    until(lambda: shell.json("run", "get", "later")["reason"])
    reason = "no worker serves soon; served: "
    assert shell.json("run", "get", "later")["reason"].startswith(reason)
    (listed,) = shell.json("run", "list", "--status", "pending")
    assert (listed["run_id"], listed["reason"].startswith(reason)) == ("later", True)
    assert reason in shell.good("run", "get", "later").out and reason in shell.good("run", "list").out
    assert "[no_worker]" in shell.bad(1, "run", "query", "later", "progress")
    shell.good("run", "signal", "later", "go", "5")
    source = "import aob\n\n\n@aob.workflow\nasync def soon(text: str) -> list[object]:\n"
    (shell.folder / "soon.py").write_text(source + '    return [text, await aob.wait_signal("go")]\n')
    shell.end()
    shell.worker("soon.py")
    assert shell.json("run", "result", "later")["result"] == ["tea", 5]
    assert shell.json("run", "get", "later")["reason"] is None
    shell.end()


def test_a_run_id_may_begin_with_a_hyphen(shell: Shell) -> None:
    assert shell.good("run", "start", "greet", "--inputs", '"Ada"', "--id", "-seven").out == "-seven\n"
    assert shell.good("run", "result", "--", "-seven").out == '"Hello ADA"\n'
    assert shell.good("run", "get", "--", "-seven").lines[0].split() == ["run", "-seven"]
    assert "behind --" in shell.bad(2, "run", "get", "-seven")
    shell.good("run", "fork", "--at", "shout#1", "--id", "-8", "--", "-seven")
    assert shell.good("run", "result", "--", "-8").out == '"Hello ADA"\n'
    shell.good("run", "delete", "--", "-seven", "-8")


def test_cancel_and_terminate_say_why(shell: Shell) -> None:
    asked(shell, "c1")
    shell.good("run", "cancel", "c1", "--reason", "no longer needed")
    assert "no longer needed" in shell.bad(1, "run", "result", "c1")
    asked(shell, "c2")
    shell.good("run", "terminate", "c2", "--reason", "-stuck-")
    assert "terminated: -stuck-" in shell.bad(1, "run", "result", "c2")
    assert "[run_finished]" in shell.bad(1, "run", "pause", "c2")
    assert shell.json("run", "get", "c2")["reason"] == "-stuck-"


def test_retry_goes_on_from_the_failed_step(shell: Shell) -> None:
    shell.good("run", "start", "mend", "--inputs", '"late.txt"', "--id", "m")
    assert "no late.txt" in shell.bad(1, "run", "result", "m")
    (shell.folder / "late.txt").touch()
    shell.good("run", "retry", "m")
    assert shell.good("run", "result", "m").out == '"FIRST there"\n'
    assert shell.effects().count("shout first") == 1
    assert "[run_finished]" in shell.bad(1, "run", "retry", "m")


def test_a_fork_does_again_what_follows_a_step(shell: Shell) -> None:
    shell.good("run", "start", "greet", "--inputs", '"Eve"', "--id", "f")
    shell.good("run", "result", "f")
    new = shell.good("run", "fork", "f", "--at", "shout#1").out.strip()
    assert shell.good("run", "result", new).out == '"Hello EVE"\n'
    assert shell.effects().count("shout Eve") == 2
    forked = shell.json("run", "fork", "f", "--override", 'shout#1="you"', "--id", "f2")
    assert (forked["run_id"], forked["forked_from"]) == ("f2", "f")
    assert shell.good("run", "result", "f2").out == '"Hello you"\n'
    shell.good("run", "fork", "f", "--input", '"Fay"', "--id", "f3")
    assert shell.good("run", "result", "f3").out == '"Hello FAY"\n'
    assert "[step_not_found]" in shell.bad(1, "run", "fork", "f", "--at", "shout#9")


def test_ended_runs_can_be_deleted(shell: Shell) -> None:
    for name in ("d1", "d2", "d3"):
        shell.good("run", "start", "greet", "--inputs", '"Dan"', "--id", name, "--attribute", "batch=d")
        shell.good("run", "result", name)
    asked(shell, "open")
    refused = shell("run", "delete", "d1", "open")
    assert refused.code == 1 and "[run_not_finished]" in refused.err and "1 run deleted" in refused.out
    assert "[run_not_found]" in shell.bad(1, "run", "get", "d1")
    of_batch = ["run", "delete", "--filter", "attribute.batch=d", "--filter", "workflow=greet"]
    assert "2 runs" in shell.good(*of_batch, "--dry-run").out
    assert "--yes" in shell.bad(2, *of_batch)
    assert shell.json(*of_batch, "--yes") == {"deleted": 2, "failed": []}
    assert shell.json("run", "list", "--attribute", "batch=d") == []
    assert "only runs that have ended" in shell.bad(2, "run", "delete", "--filter", "status=running", "--yes")


def test_without_a_worker_what_needs_code_says_so(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.good("run", "start", "flow.py:greet", "--inputs", '"Ada"', "--id", "a", "--wait")
    assert "[no_worker]" in shell.bad(1, "run", "query", "a", "progress")
    shell.good("run", "start", "flow.py:talk", "--inputs", '"tea"', "--id", "b")
    assert shell.status("b") == "pending"
    shell.good("run", "signal", "b", "paid", "7")
    shell.good("run", "cancel", "b", "--reason", "changed my mind")
    shell.worker()
    assert "changed my mind" in shell.bad(1, "run", "result", "b")
    shell.end()
