"""The layers of `pyproject.toml` hold, and each contract catches a violation planted in a copy of the source."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LINT = "from importlinter.cli import lint_imports_command as lint; lint()"


def lint_imports(repository: Path, source: Path) -> subprocess.CompletedProcess[str]:
    config = repository / "pyproject.toml"
    return subprocess.run(
        [sys.executable, "-c", LINT, "--config", str(config), "--no-cache", "--no-logo"],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_layers_hold(repository: Path) -> None:
    done = lint_imports(repository, repository / "src")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("files", "report"),
    [
        pytest.param(
            {"kernel/planted.py": "import aob.workflow.planted", "workflow/planted.py": ""},
            "aob.kernel is not allowed to import aob.workflow",
            id="kernel imports workflow",
        ),
        pytest.param(
            {"engine/planted.py": "from aob.client import planted", "client/planted.py": ""},
            "aob.engine is not allowed to import aob.client",
            id="engine imports client",
        ),
        pytest.param(
            {"errors.py": "import aob.clock", "clock.py": ""},
            "aob.errors is not allowed to import aob.clock",
            id="errors import a seam",
        ),
        pytest.param(
            {"stores/planted.py": "import aob.blobs.planted", "blobs/planted.py": ""},
            "aob.stores is not allowed to import aob.blobs",
            id="one port imports another",
        ),
        pytest.param(
            {"clock.py": "import aob.settings", "settings.py": ""},
            "aob.clock is not allowed to import aob.settings",
            id="one seam imports another",
        ),
        pytest.param({"utils.py": "x = 1"}, "- aob.utils", id="a module without a layer"),
        pytest.param(
            {"engine/one.py": "import aob.engine.sub.two", "engine/sub/two.py": "import aob.engine.one"},
            "No cycles between siblings, at any depth BROKEN",
            id="a cycle inside a layer",
        ),
        pytest.param(
            {"human/planted.py": "import aob.engine.planted", "engine/planted.py": ""},
            "aob.human is not allowed to import aob.engine",
            id="a capability reaches into the engine",
        ),
        pytest.param(
            {"human/planted.py": "import aob.stores.sqlite", "stores/sqlite.py": ""},
            "aob.human is not allowed to import aob.stores.sqlite",
            id="a capability imports a backend",
        ),
        pytest.param(
            {"engine/planted.py": "import aob.stores.memory", "stores/memory.py": ""},
            "aob.engine is not allowed to import aob.stores.memory",
            id="the engine imports a backend",
        ),
        pytest.param(
            {"client/planted.py": "import aob.stores.sqlite", "stores/sqlite.py": ""},
            "aob.client is not allowed to import aob.stores.sqlite",
            id="the client imports a backend",
        ),
        pytest.param(
            {"kernel/planted.py": "import time"}, "aob.kernel is not allowed to import time", id="the kernel reads time"
        ),
        pytest.param(
            {"workflow/planted.py": "import threading"},
            "aob.workflow is not allowed to import threading",
            id="workflow code starts threads",
        ),
        pytest.param(
            {"engine/planted.py": "import apsw"},
            "aob.engine is not allowed to import apsw",
            id="a driver outside its adapter",
        ),
        pytest.param(
            {"client/planted.py": "import rich"},
            "aob.client is not allowed to import rich",
            id="a terminal library outside the command line",
        ),
    ],
)
def test_a_planted_violation_is_reported(repository: Path, tmp_path: Path, files: dict[str, str], report: str) -> None:
    shutil.copytree(repository / "src" / "aob", tmp_path / "aob", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in files.items():
        path = tmp_path / "aob" / name
        path.parent.mkdir(exist_ok=True)
        for package in {path.parent, path.parent.parent} - {tmp_path}:
            (package / "__init__.py").touch()
        with path.open("a") as file:
            file.write(f"\n{text}\n")
    done = lint_imports(repository, tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert report in done.stdout
