"""`aob worker --processes`: several workers under one, which starts them again, passes on what they say, and stops
them."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_shell import Shell, Worker, until


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def pid_of(worker: Worker, number: int) -> int:
    """The last process of this number that has said which it is."""
    own = [line for line in worker.said if line.startswith(f"[{number}] aob ")]
    return int(own[-1].partition(" process ")[2].partition(",")[0])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_that_dies_is_started_again_and_its_runs_go_on(shell: Shell) -> None:
    worker = shell.worker("--processes", "1")
    assert worker.said[0].endswith("1 worker process")
    shell.good("run", "start", "hold", "--inputs", '"gate"', "--id", "a")
    until(lambda: "held gate" in shell.effects())
    os.kill(pid_of(worker, 1), signal.SIGKILL)
    assert "started again" in worker.wait_for("[1] ended with SIGKILL")
    worker.wait_for("[1] ready")
    (shell.folder / "gate").touch()
    assert shell.good("run", "result", "a").out == '"BEFORE, gate done, AFTER"\n'
    assert worker.stop() == 0
    assert worker.said[-1] == "[1] stopped: everything is handed over"
    assert not alive(pid_of(worker, 1))


def test_for_programs_each_line_says_whose_it_is(shell: Shell) -> None:
    worker = shell.worker("--processes", "1", "--json", until='"ready"')
    supervising, started, serving, *_ = map(json.loads, worker.said)
    assert (supervising["event"], supervising["processes"]) == ("supervising", 1)
    assert (started["event"], started["process"]) == ("process_started", 1)
    assert serving["event"] == "serving" and serving["process"] == 1 and serving["pid"] == started["pid"]
    assert worker.stop() == 0
    last = [json.loads(line) for line in worker.said][-2:]
    assert last[0] == {"process": 1, "event": "stopped"}
    assert last[1] == {"process": 1, "event": "process_ended", "code": 0, "again_in": None}


def test_a_second_signal_stops_all_at_once(shell: Shell) -> None:
    worker = shell.worker("--processes", "1")
    shell.good("run", "start", "hold", "--inputs", '"gate"', "--id", "a")
    until(lambda: "held gate" in shell.effects())
    worker.process.send_signal(signal.SIGINT)
    worker.wait_for("[1] stopping")
    worker.process.send_signal(signal.SIGINT)
    assert worker.process.wait() == 1
    assert not alive(pid_of(worker, 1))


def test_workers_end_with_their_parent(shell: Shell) -> None:
    worker = shell.worker("--processes", "1")
    pid = pid_of(worker, 1)
    worker.kill()
    until(lambda: not alive(pid))
    assert shell.json("doctor")  # handed over in good order: the next one takes the store at once
    assert "died without" not in shell.good("doctor").out


def test_more_than_one_on_a_file_is_refused(shell: Shell) -> None:
    said = shell.bad(2, "worker", "flow.py", "--processes", "2")
    assert "aob.db" in said and "postgresql://" in said
    assert not (shell.folder / "aob.db").exists()
    assert "at least 1" in shell.bad(2, "worker", "flow.py", "--processes", "0")


def test_a_module_that_is_not_there_is_said_once_and_is_no_crash_loop(shell: Shell) -> None:
    done = shell("worker", "nowhere.py", "--processes", "1")
    assert done.code == 2, done
    assert "[1] error: there is no file nowhere.py" in done.err and done.err.count("error:") == 1


@pytest.mark.needs("postgres")
def test_two_on_postgres_share_the_work_and_replace_each_other(shell: Shell, postgres_url: str) -> None:
    shell.env |= {"AOB_STORE": postgres_url, "AOB_LEASE_TTL": "1"}
    worker = shell.worker("--processes", "2", until="owns")
    while len({line[:3] for line in worker.said if "owns" in line}) < 2:
        worker.wait_for("owns")
    names = [f"r{n}" for n in range(12)]
    for name in names:
        shell.good("run", "start", "hold", "--inputs", f'"gate-{name}"', "--id", name)
    until(lambda: sum("held" in line for line in shell.effects()) == len(names))
    os.kill(pid_of(worker, 1), signal.SIGKILL)
    for name in names:
        (shell.folder / f"gate-{name}").touch()
    for name in names:
        assert shell.good("run", "result", name).out == f'"BEFORE, gate-{name} done, AFTER"\n'
    assert worker.stop() == 0
    assert not any(alive(pid_of(worker, number)) for number in (1, 2))
    assert shell.effects().count("shout before") == len(names)
