"""What is shipped: everything that the package needs at run time is in the wheel, and what it declares is there."""

import importlib
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import aob

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=repository,
        check=True,
        capture_output=True,
    )
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_has_every_file_of_the_package_and_no_other(repository: Path, wheel: zipfile.ZipFile) -> None:
    source = repository / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in (source / "aob").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"aob/py.typed", "aob/__init__.py"} <= files
    assert any(name.startswith("aob/stores/") and name.endswith(".sql") for name in files)
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == files


def test_the_wheel_has_the_version_of_the_source_and_the_license(wheel: zipfile.ZipFile) -> None:
    folder = f"aob-{aob.__version__}.dist-info"
    assert f"\nVersion: {aob.__version__}\n" in wheel.read(f"{folder}/METADATA").decode()
    assert b"Apache License" in wheel.read(f"{folder}/licenses/LICENSE")


@pytest.mark.parametrize(
    "target", [*PROJECT["scripts"].values(), *(t for g in PROJECT["entry-points"].values() for t in g.values())]
)
def test_what_an_entry_point_names_exists(target: str) -> None:
    module, _, name = target.partition(":")
    assert callable(getattr(importlib.import_module(module), name))
