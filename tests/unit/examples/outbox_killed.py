"""Run by test_outbox_kill.py: forks a writer for every Python instruction of a delivery, and kills it there.

Arguments: the folder to work in, and how many instructions lie between two points. Prints a JSON object for each point:
what the file held after the kill, and after another process had delivered the same key.
"""

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from examples.support import outbox as module
from examples.support.outbox import Outbox, read_records


class KillAt:
    """A trace function that kills this process at the n-th instruction inside the outbox's module."""

    def __init__(self, instruction: int) -> None:
        self.left = instruction

    def __call__(self, frame: FrameType, event: str, _: Any) -> "KillAt | None":
        if frame.f_code.co_filename != module.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def torn_write(write: Any) -> Any:
    """`os.write` that takes a few bytes at a time, as a full or slow disk may."""
    return lambda file, data: write(file, data[:9])


def deliver_in_a_fork(path: Path, key: str, instruction: int | None) -> int | None:
    """Deliver `key` in a process of its own. Returns its exit code, or None when it was killed."""
    child = os.fork()
    if child == 0:
        outbox = Outbox(path)
        os.write = torn_write(os.write)
        if instruction is not None:
            # Python 3.12 traces instructions only when some frame wants it before the tracing starts.
            sys._getframe().f_trace_opcodes = True
            sys.settrace(KillAt(instruction))
        fresh = outbox.deliver(key, {"text": "a reply"})
        sys.settrace(None)
        os._exit(10 if fresh else 11)
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def main(folder: Path) -> None:
    instruction, step = 0, int(sys.argv[2])
    killed = True
    while killed:
        instruction += step
        path = folder / f"{instruction}.jsonl"
        deliver_in_a_fork(path, "before", None)
        killed = deliver_in_a_fork(path, "key", instruction) is None
        after_kill = [record["key"] for record in read_records(path)]
        torn = not path.read_bytes().endswith(b"\n")
        again = deliver_in_a_fork(path, "key", None)
        after = [record["key"] for record in read_records(path)]
        print(json.dumps({"killed": killed, "torn": torn, "after_kill": after_kill, "again": again, "after": after}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
