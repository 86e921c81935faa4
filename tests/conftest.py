"""What every test shares: what it may need from the machine, and the list at the end of what was left out.

A test that needs something which a machine may lack says so with `@pytest.mark.needs("name")`. Where it is missing the
test is left out, and the summary says how to include it; in CI a missing server is a failure.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.chaos.disks import may_mount
from tests.postgres_cluster import (
    Cluster,
    Pooler,
    in_memory,
    install_from_debian,
    pgbouncer_program,
    postgres_programs,
)

REPOSITORY = Path(__file__).parent.parent
LEFT_OUT = "needs "
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}


@dataclass(frozen=True)
class Need:
    """Something that a machine may lack: what, how to see whether it is there, and what includes its tests."""

    what: str
    present: Callable[[], bool]
    command: str
    fails_in_ci: bool = False


def messages_file() -> Path:
    """The 10,003 real customer messages (banking77), which are not ours to ship."""
    beside = REPOSITORY.parent / "shared" / "data" / "banking77" / "messages.csv"
    return Path(os.environ.get("AOB_TEST_MESSAGES", beside))


@cache
def other_pythons() -> list[str]:
    """Interpreters of other versions that have what aob needs: those on the PATH, and those in AOB_TEST_PYTHONS."""
    named = os.environ.get("AOB_TEST_PYTHONS", "").split(os.pathsep)
    on_path = (f"python3.{minor}" for minor in range(11, 15) if minor != sys.version_info.minor)
    return [python for python in (*named, *on_path) if python and shutil.which(python) and _has_what_aob_needs(python)]


def _has_what_aob_needs(python: str) -> bool:
    asked = [python, "-c", "import anyio, apsw, msgspec, pydantic"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


@cache
def postgres_is_there() -> bool:
    """Whether Postgres' programs are installed; in CI they are, when they can be had."""

    def present() -> bool:
        return postgres_programs() is not None

    return present() or (IN_CI and install_from_debian("postgresql", present))


@cache
def pgbouncer_is_there() -> bool:
    """Whether PgBouncer is installed; in CI it is, when it can be had."""

    def present() -> bool:
        return pgbouncer_program() is not None

    return present() or (IN_CI and install_from_debian("pgbouncer", present))


NEEDS = {
    "messages": Need(
        "a CSV file of real messages (columns id and text)",
        lambda: messages_file().is_file(),
        "make test AOB_TEST_MESSAGES=path/to/messages.csv",
    ),
    "exhaustive": Need(
        "minutes: every write point, every seed",
        lambda: os.environ.get("AOB_TEST_EXHAUSTIVE") == "1",
        "make crash",
    ),
    "other-pythons": Need(
        "another Python version with anyio, apsw, msgspec and pydantic",
        lambda: bool(other_pythons()),
        "make test AOB_TEST_PYTHONS=path/to/python3.13",
    ),
    "mutants": Need(
        "minutes: every planted bug",
        lambda: os.environ.get("AOB_TEST_MUTANTS") == "1",
        "make mutants",
    ),
    "postgres": Need(
        "PostgreSQL's programs, which the tests start a server of their own with",
        postgres_is_there,
        "install postgresql (Debian: apt install postgresql), then make test",
        fails_in_ci=True,
    ),
    "pgbouncer": Need(
        "PgBouncer, which the tests start before their own PostgreSQL",
        pgbouncer_is_there,
        "install pgbouncer (Debian: apt install pgbouncer), then make test",
        fails_in_ci=True,
    ),
    "disks": Need(
        "the right to mount file systems in memory, which are full when a test wants it",
        may_mount,
        "run make test as root",
    ),
    "git": Need("git", lambda: shutil.which("git") is not None, "install git, then make test", fails_in_ci=True),
}


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A Postgres server of this test session; its tests are marked `needs("postgres")`."""
    cluster = Cluster(parent=in_memory())
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture(scope="session")
def pgbouncer(postgres: Cluster) -> Iterator[Pooler]:
    """PgBouncer in transaction mode before that server; its tests are marked `needs("pgbouncer")`."""
    pooler = Pooler(postgres)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.stop()


@pytest.fixture
def postgres_url(postgres: Cluster) -> str:
    """The URL of an empty store: a schema of its own."""
    return f"{postgres.url()}?schema={postgres.fresh_name()}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        need = NEEDS[mark.args[0]]
        if need.present():
            continue
        reason = f"{LEFT_OUT}{need.what}; to include: {need.command}"
        if IN_CI and need.fails_in_ci:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    left_out = {reason: count for reason, count in reasons.items() if reason.startswith(LEFT_OUT)}
    for title, counts in {"left out here": left_out, "does not apply": reasons - Counter(left_out)}.items():
        if counts:
            terminalreporter.section(title)
        for reason, count in sorted(counts.items()):
            terminalreporter.line(f"{count} test{'s' if count > 1 else ''}: {reason}")
