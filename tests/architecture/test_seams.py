"""Real time, randomness, ids, threads and the environment are touched in the seams alone, and lint holds it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import modules

# a seam is no place where everything is allowed; that of processes also waits in threads and compares times of files
OWNERS = {
    "time": {"aob.clock", "aob.process"},
    "concurrent.futures": {"aob.process"},
    "fcntl": {"aob.process"},
    "multiprocessing": {"aob.process"},
    "secrets": {"aob.process"},
    "socket": {"aob.process"},
    "subprocess": {"aob.process"},
    "threading": {"aob.process"},
}


def lint(repository: Path, code: str, module: str = "engine/planted.py") -> str:
    name = repository / "src" / "aob" / module
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "--stdin-filename", name, "-"],
        cwd=repository,
        input=f"{code}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout


def test_what_a_seam_owns_is_imported_there_alone() -> None:
    importers = {(name, module.name) for module in modules().values() for name, _ in module.imports()}
    assert {(name, module) for name, module in importers if module not in OWNERS.get(name, {module})} == set()


@pytest.mark.parametrize(
    "code",
    [
        "import time",
        "from time import monotonic",
        "import datetime\n\nnow = datetime.datetime.now()",
        "from datetime import UTC, datetime\n\nnow = datetime.now(UTC)",
        "import uuid\n\nid = uuid.uuid4()",
        "from uuid import uuid4",
        "import random\n\nx = random.random()",
        "from random import choice",
        "import random\n\nx = random.SystemRandom()",
        "import secrets",
        "import os\n\nx = os.urandom(8)",
        "import os\n\nx = os.environ",
        "import os\n\nx = os.getenv('HOME')",
        "import threading",
        "from threading import Thread",
        "import subprocess",
        "import multiprocessing",
        "import socket",
        "from concurrent.futures import ThreadPoolExecutor",
        "import asyncio\n\nx = asyncio.to_thread(print)",
    ],
)
def test_lint_refuses_what_bypasses_a_seam(repository: Path, code: str) -> None:
    assert "TID251" in lint(repository, code)


def test_lint_permits_a_seeded_random_and_the_seams_themselves(repository: Path) -> None:
    assert "TID251" not in lint(repository, "import random\n\nx = random.Random(7).random()")
    assert "TID251" not in lint(repository, "import time\n\nx = time.time()", "clock.py")


def test_lint_refuses_an_import_inside_a_function(repository: Path) -> None:
    assert "PLC0415" in lint(repository, "def f():\n    import json\n\n    return json")
