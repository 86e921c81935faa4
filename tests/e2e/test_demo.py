"""`make demo`, as a user runs it: a real worker is killed half-way, and every message is handled once."""

import csv
import os
import pty
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from examples.support.outbox import read_records

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "200"}
DEMO = [sys.executable, "-m", "examples.support.demo"]
COMMAND_LINE = [sys.executable, "-c", "from aob.cli.main import main; main()"]


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def row(output: str, name: str) -> str:
    """The value beside `name` in the table at the end."""
    found = re.search(rf"│ *{re.escape(name)} *│ *(.*?) *│", output)
    assert found, f"{name} in {output}"
    return found[1]


def test_the_demo_loses_and_doubles_nothing_and_names_commands_that_work(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = run(*DEMO, "--folder", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed with SIGKILL" in done.stdout
    assert "no language model" in done.stdout

    with (ROOT / "examples/support/data/messages.csv").open(encoding="utf-8", newline="") as file:
        sent = {line["id"]: line for line in csv.DictReader(file)}
    records = read_records(folder / "outbox.jsonl")
    assert Counter(record["message_id"] for record in records) == dict.fromkeys(sent, 1)
    assert len({record["key"] for record in records}) == len(sent)
    assert row(done.stdout, "messages") == str(len(sent))
    assert row(done.stdout, "duplicates") == row(done.stdout, "lost") == "0"
    for outcome, number in Counter(record["outcome"] for record in records).items():
        assert row(done.stdout, outcome) == str(number)
    assert {record["outcome"] for record in records} >= {
        "answered",
        "asked back",
        "refund granted",
        "refund not approved",
    }
    # The kill came in the middle: some were delivered, and some runs were under way.
    assert len(sent) // 2 <= int(re.search(r"after (\d+) deliveries", done.stdout)[1]) < len(sent)  # type: ignore[index]
    assert int(row(done.stdout, "runs open when the worker was killed")) > 0

    hints = [shlex.split(line) for line in done.stdout.partition("look further:")[2].splitlines() if line]
    commands = [arguments for program, *arguments in hints if program.endswith("aob")]
    assert len(commands) >= 4
    for command in commands:
        shown = run(*COMMAND_LINE, *command)
        assert shown.returncode == 0, (command, shown.stdout, shown.stderr)


def test_on_a_terminal_the_demo_shows_a_bar(tmp_path: Path) -> None:
    messages = tmp_path / "messages.csv"
    messages.write_text("text\n" + "".join(f"I lost my card number {n}\n" for n in range(30)), "utf-8")
    ours, theirs = pty.openpty()
    command = [*DEMO, "--folder", str(tmp_path / "demo"), "--messages", str(messages)]
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT | {"TERM": "xterm"}, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        if not data:
            break
        shown += data
    os.close(ours)
    assert process.wait() == 0, shown.decode()
    assert "30/30" in shown.decode()
    assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" * 10 in shown.decode()


@pytest.mark.parametrize("deadline", ["0.01"])
def test_a_demo_that_does_not_finish_in_time_fails(tmp_path: Path, deadline: str) -> None:
    done = run(*DEMO, "--folder", str(tmp_path / "demo"), "--deadline", deadline)
    assert done.returncode == 1
    assert "not finished" in done.stdout


def test_a_worker_that_cannot_start_ends_the_demo_with_its_last_words(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    code = (
        "import sys\n"
        "from examples.support import demo, demo_worker\n"
        "class Broken(demo_worker.WorkerProcess):\n"
        "    def __init__(self, store, folder, approval_seconds):\n"
        "        super().__init__('nonsense://', folder, approval_seconds)\n"
        "demo.WorkerProcess = Broken\n"
        f"sys.exit(demo.main(['--folder', {str(folder)!r}]))\n"
    )
    done = run(sys.executable, "-c", code)
    assert done.returncode == 1
    assert "the worker ended with code 1" in done.stdout
