"""The outbox under kill -9: at every instruction of a delivery, and at random moments among several writers."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from examples.support.outbox import read_records

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}


def test_killed_at_every_instruction_a_delivery_happens_once(tmp_path: Path) -> None:
    script = Path(__file__).with_name("outbox_killed.py")
    command = [sys.executable, str(script), str(tmp_path), "1"]
    output = subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout
    points = [json.loads(line) for line in output.splitlines()]
    *killed, finished = points
    assert all(point["killed"] for point in killed)
    assert not finished["killed"]
    assert all(point["after"] == ["before", "key"] for point in points)
    # Each state that a kill may leave was seen: without the line, with a part of it, with all of it.
    assert {(tuple(point["after_kill"]), point["torn"]) for point in killed} == {
        (("before",), False),
        (("before",), True),
        (("before", "key"), False),
    }
    # 10: this attempt wrote it; 11: the killed one had.
    assert all(point["again"] == (11 if "key" in point["after_kill"] else 10) for point in points)


WRITER = """
import sys
from pathlib import Path
from examples.support.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
for n in range(int(sys.argv[2])):
    outbox.deliver(f"key-{n}", {"text": "a reply " * 40})
    print(n, flush=True)
"""
COUNT = 400


def test_writers_killed_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    path = tmp_path / "outbox.jsonl"
    command = [sys.executable, "-c", WRITER, str(path), str(COUNT)]
    moments = random.Random(5)
    acknowledged: set[int] = set()
    for _ in range(8):
        writers = [
            subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)
        ]
        for writer in writers:
            assert writer.stdout is not None
            for line, _ in zip(writer.stdout, range(moments.randrange(COUNT)), strict=False):
                acknowledged.add(int(line))
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().splitlines(keepends=True)
            acknowledged.update(int(line) for line in rest if line.endswith("\n"))
            writer.wait()
            writer.stdout.close()
        counts = Counter(record["key"] for record in read_records(path))
        assert set(counts.values()) <= {1}
        assert {f"key-{n}" for n in acknowledged} <= set(counts)
    subprocess.run(command, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    assert Counter(record["key"] for record in read_records(path)) == {f"key-{n}": 1 for n in range(COUNT)}
