"""`aob worker`: what it says, how it stops, who takes over."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_shell import AOB, Shell, plain, until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def held(shell: Shell, run: str) -> None:
    """Start a run and wait until it is in the middle of its second step."""
    shell.good("run", "start", "hold", "--inputs", f'"gate-{run}"', "--id", run)
    until(lambda: f"held gate-{run}" in shell.effects())


def test_it_says_what_it_serves_and_stops_in_good_order(shell: Shell) -> None:
    worker = shell.worker()
    said = "\n".join(worker.said)
    assert "serves greet flow:greet" in " ".join(said.split())
    assert "owns the store" in said
    assert worker.stop() == 0
    assert worker.said[-1] == "stopped: everything is handed over"
    assert worker.err == ""


def test_sigterm_waits_for_what_is_in_flight_and_hands_the_run_over(shell: Shell) -> None:
    worker = shell.worker()
    held(shell, "a")
    worker.process.send_signal(signal.SIGTERM)
    worker.wait_for("stopping")
    (shell.folder / "gate-a").touch()
    assert worker.process.wait() == 0
    assert shell.status("a") != "completed"
    shell.worker()
    assert shell.good("run", "result", "a").out == '"BEFORE, gate-a done, AFTER"\n'
    assert shell.effects() == ["shout before", "held gate-a", "shout after"]


def test_a_second_signal_stops_at_once_and_loses_nothing(shell: Shell) -> None:
    worker = shell.worker()
    held(shell, "a")
    worker.process.send_signal(signal.SIGINT)
    worker.wait_for("stopping")
    worker.process.send_signal(signal.SIGINT)
    assert worker.process.wait() == 1
    (shell.folder / "gate-a").touch()
    shell.worker()
    assert shell.good("run", "result", "a").out == '"BEFORE, gate-a done, AFTER"\n'
    assert shell.effects().count("shout before") == 1


def test_another_worker_stands_by_and_takes_over_after_a_kill(shell: Shell) -> None:
    first = shell.worker()
    second = shell.worker(until="stands by")
    held(shell, "a")
    first.kill()
    second.wait_for("owns the store")
    second.wait_for("ready")
    (shell.folder / "gate-a").touch()
    assert shell.good("run", "result", "a").out == '"BEFORE, gate-a done, AFTER"\n'
    assert shell.effects().count("shout before") == 1
    assert second.stop() == 0


def test_for_programs_it_prints_lines_of_json(shell: Shell) -> None:
    worker = shell.worker("--json")
    serving, taken, *_ = map(json.loads, worker.said)
    assert serving["event"] == "serving" and serving["workflows"]["greet"] == "flow:greet"
    assert taken == {"event": "lease_taken", "partitions": 1, "held": 1, "epoch": 1}
    assert worker.stop() == 0
    assert [json.loads(line)["event"] for line in worker.said[-2:]] == ["stopping", "stopped"]


def test_on_a_terminal_a_line_says_what_it_is_doing(shell: Shell) -> None:
    ours, theirs = pty.openpty()
    command = [*AOB, "worker", "flow.py:hold"]
    env = shell.env | {"TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(command, cwd=shell.folder, env=env, stdout=theirs, stderr=theirs)
    shell.ends(process)
    os.close(theirs)
    shown = b""
    held(shell, "a")
    while "1 attempts in flight" not in plain(shown.decode()):
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGTERM)
    (shell.folder / "gate-a").touch()
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    assert "stopped" in plain(shown.decode())


BROKEN_DISK = """
import sys
from pathlib import Path
import apsw
from aob.cli.main import main
from aob.stores.sqlite.options import SqliteOptions
from tests.integration.faulty_disk import FaultyDisk, io_error

disk = FaultyDisk()
SqliteOptions.of = classmethod(lambda cls, settings: cls(vfs=disk.name))

def sync(path):
    if Path("effects.txt").exists():
        raise io_error(apsw.SQLITE_IOERR_FSYNC, "the disk is gone")

disk.on_sync = sync
sys.argv = ["aob", "worker", "flow.py"]
main()
"""


def test_a_store_that_fails_ends_it_with_the_reason(shell: Shell) -> None:
    env = shell.env | {"PYTHONPATH": os.pathsep.join([str(ROOT), shell.env["PYTHONPATH"]])}
    process = subprocess.Popen(
        [sys.executable, "-c", BROKEN_DISK], cwd=shell.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    shell.ends(process)
    assert process.stdout is not None
    assert any("ready" in line for line in process.stdout), process.communicate()
    shell.good("run", "start", "greet", "--inputs", '"Ada"', "--id", "a")
    out, err = process.communicate()
    assert process.returncode == 1, out + err
    assert "Traceback" not in out + err
    assert "[store_failed]" in err and "restart the process" in err
    shell.worker()
    assert shell.good("run", "result", "a").out == '"Hello ADA"\n'


def test_a_run_whose_code_changed_is_parked_and_goes_on_with_the_old_code(shell: Shell) -> None:
    worker = shell.worker()
    shell.good("run", "start", "nap", "--inputs", '{"seconds": 0.01}', "--id", "a")
    until(lambda: "timer_fired" in shell.events("a"))
    worker.kill()
    changed = shell.worker(FLOW_CHANGED="1")
    shell.good("run", "signal", "a", "go", "1")
    changed.wait_for("parked a")
    shown = shell.good("run", "get", "a").out
    assert "parked" in shown and "> event 2: step_completed shout#1" in shown
    assert changed.stop() == 0
    shell.worker()
    assert shell.good("run", "result", "a").out == '"1 1 AWAKE"\n'
