"""10,003 real messages through the support workflow by `aob run batch`, while both it and the workers are killed."""

import asyncio
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import aob
from examples.support import settings
from examples.support.demo_worker import Delivered
from examples.support.outbox import read_records
from tests.conftest import messages_file

ROOT = Path(__file__).resolve().parents[2]
COMMAND_LINE = [sys.executable, "-c", "from aob.cli.main import main; main()"]
WORKER_KILLS = 5
LOOK_SECONDS = 0.01


class Shell:
    """Runs `aob` commands on one store, as processes that can be killed.

    Args:
        folder: for the store, the outbox and the log.
    """

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.outbox = folder / "outbox.jsonl"
        self._environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "AOB_STORE": f"sqlite:///{folder / 'aob.db'}",
            settings.OUTBOX: str(self.outbox),
            settings.APPROVAL_SECONDS: "1",
        }
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [*COMMAND_LINE, *arguments],
                cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def wait_for_a_run(self, *, alive: "subprocess.Popen[str]") -> None:
        while not asyncio.run(self._has_a_run()):
            assert alive.poll() is None, self.log.read_text("utf-8", "replace")
            time.sleep(LOOK_SECONDS)

    async def _has_a_run(self) -> bool:
        async with aob.connect(self._environment["AOB_STORE"]) as client:
            return len(await client.list(limit=1)) == 1

    def wait_for_deliveries(self, target: int, *, alive: "subprocess.Popen[str]") -> None:
        delivered = Delivered(self.outbox)
        while delivered.count() < target:
            assert alive.poll() is None, self.log.read_text("utf-8", "replace")
            time.sleep(LOOK_SECONDS)

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.needs("messages")
def test_every_real_message_is_answered_once_whatever_is_killed(tmp_path: Path) -> None:
    with messages_file().open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    batch = ["run", "batch", "process_customer_request", str(messages_file()), "--json"]
    moments = random.Random(77)
    shell = Shell(tmp_path)
    try:
        worker = shell.start("worker", "examples.support")
        starting = shell.start(*batch)
        shell.wait_for_a_run(alive=starting)
        kill(starting)
        again = shell.start(*batch, "--wait")
        for part in range(1, WORKER_KILLS + 1):
            share = len(texts) // (WORKER_KILLS + 1)
            shell.wait_for_deliveries(part * share + moments.randrange(share // 2), alive=worker)
            kill(worker)
            worker = shell.start("worker", "examples.support")
        output, _ = again.communicate()
        assert again.returncode == 0, shell.log.read_text("utf-8", "replace")
        repeated, _ = shell.start(*batch, "--wait").communicate()
    finally:
        shell.end()

    summary = json.loads(output)
    assert summary["statuses"] == {"completed": len(texts)}
    assert summary["known"] >= 1
    assert json.loads(repeated) == summary | {"started": 0, "known": len(texts)}

    records = read_records(shell.outbox)
    assert len(records) == len(texts)
    for name in ("key", "run_id", "message_id"):
        assert set(Counter(record[name] for record in records).values()) == {1}, name
    assert not shell.outbox.read_bytes().rpartition(b"\n")[2]
