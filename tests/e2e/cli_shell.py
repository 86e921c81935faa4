"""A user at a shell: a folder with a file of workflows, and the real `aob` command."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FLOW = Path(__file__).with_name("cli_flow.py")
_SCRIPT = Path(sys.executable).with_name("aob")
AOB = [str(_SCRIPT)] if _SCRIPT.exists() else [sys.executable, "-c", "from aob.cli.main import main; main()"]
_LOOK_SECONDS = 0.02


class Done:
    """A command that has ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"

    @property
    def json(self) -> Any:
        """What was printed, as JSON."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """What was printed, by lines."""
        return self.out.splitlines()


class Shell:
    """Runs commands in a folder of its own, on the store `aob.db` in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(FLOW, folder / "flow.py")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AOB_")}
        self.env = kept | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("src")), "NO_COLOR": "1"}
        self._started: list[subprocess.Popen[Any]] = []

    def popen(self, *arguments: str, stdin: int | None = subprocess.DEVNULL, **env: str) -> "subprocess.Popen[str]":
        """A command that goes on beside the test."""
        process = subprocess.Popen(
            [*AOB, *arguments], cwd=self.folder, env=self.env | env, stdin=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._started.append(process)
        return process

    def __call__(self, *arguments: str, input: str | None = None, **env: str) -> Done:
        """A command, to its end."""
        process = self.popen(*arguments, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL, **env)
        out, err = process.communicate(input)
        return Done(process.returncode, out, err)

    def good(self, *arguments: str, **how: str) -> Done:
        """A command that must succeed."""
        done = self(*arguments, **how)
        assert done.code == 0, (arguments, done)
        return done

    def bad(self, code: int, *arguments: str, **how: str) -> str:
        """A command that must fail with this code; its one line on stderr that says why."""
        done = self(*arguments, **how)
        assert done.code == code, (arguments, done)
        assert "Traceback" not in done.out + done.err, done
        errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, (arguments, done)
        return errors[0]

    def json(self, *arguments: str, **how: str) -> Any:
        """What a command that must succeed prints for programs."""
        return self.good(*arguments, "--json", **how).json

    def worker(self, *arguments: str, module: str = "flow.py", until: str = "ready", **env: str) -> "Worker":
        """A worker that has said so."""
        return Worker(self, self.popen("worker", module, *arguments, **env), until)

    def status(self, run: str) -> str:
        """A run's state."""
        return self.json("run", "get", run)["status"]

    def effects(self) -> list[str]:
        """What activities have left."""
        path = self.folder / "effects.txt"
        return path.read_text().splitlines() if path.exists() else []

    def events(self, run: str) -> list[str]:
        """Kinds of a run's events."""
        return [event["kind"] for event in self.json("run", "history", run)]

    def ends(self, process: "subprocess.Popen[Any]") -> None:
        """Kill this process too at the end."""
        self._started.append(process)

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


class Worker:
    """A worker process and what it says."""

    def __init__(self, shell: Shell, process: "subprocess.Popen[str]", until: str) -> None:
        self.process = process
        self.said: list[str] = []
        self.wait_for(until)

    def wait_for(self, text: str) -> str:
        """Read on until a line has this text."""
        assert self.process.stdout is not None and self.process.stderr is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if text in line:
                return line
        raise AssertionError((text, self.said, self.process.stderr.read()))

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        out, self.err = self.process.communicate()
        self.said += out.splitlines()
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.communicate()


def until(true: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    while not true():
        time.sleep(_LOOK_SECONDS)


def plain(text: str) -> str:
    """Terminal output without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
