"""A store behind a password: it is given in the ways that Postgres knows, and shown nowhere."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_shell import Shell
from tests.e2e.test_cli_codec import KEYS
from tests.postgres_cluster import Cluster, in_memory

pytestmark = pytest.mark.needs("postgres")

SECRET = "s3cret+word"


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server that asks `guarded` for a password."""
    cluster = Cluster(parent=in_memory())
    try:
        rules = cluster.data / "pg_hba.conf"
        rules.write_text("host all guarded 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        cluster.start()
        cluster.sql(f"create role guarded login password '{SECRET}'")
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture
def database(server: Cluster) -> str:
    name = server.fresh_name()
    server.sql(f"create database {name} owner guarded")
    return f"{server.url(name, 'guarded')}?schema=mine&pool=2"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    (tmp_path / "keys.py").write_text(KEYS)
    yield shell
    shell.end()


def with_secret(url: str) -> str:
    return url.replace("guarded@", f"guarded:{SECRET}@")


def test_a_command_that_is_shown_has_no_password_and_works_with_it_in_the_environment(
    shell: Shell, database: str
) -> None:
    done = shell.good("run", "start", "greet", "--inputs", '"Ada"', "--id", "a", "--store", with_secret(database))
    assert SECRET not in done.out + done.err
    shown = done.err.partition("start one: ")[2].splitlines()[0].replace("MODULE", "flow.py")
    assert shown == f"aob worker flow.py --store '{database}'  # and its password in PGPASSWORD"
    command = shlex.split(shown, comments=True)
    assert "password" in shell.bad(1, *command[1:])
    worker = shell.worker(*command[3:], PGPASSWORD=SECRET)
    there = ["--store", with_secret(database)]
    assert shell.json("run", "result", "a", *there)["result"] == "Hello ADA"
    assert worker.stop() == 0


def test_a_password_may_stand_in_a_file(shell: Shell, database: str) -> None:
    file = shell.folder / "passwords"
    file.write_text(f"127.0.0.1:*:*:guarded:{SECRET}\n")
    file.chmod(0o600)
    assert shell.json("db", "migrate", "--store", f"{database}&passfile={file}")["made"] is False
    assert shell.json("db", "migrate", "--store", database, PGPASSFILE=str(file))["schema"] > 0


def test_a_password_in_the_environment_stays_there(shell: Shell, database: str) -> None:
    shell.env["AOB_STORE"] = with_secret(database)
    options = ["--tenant", "t", "--codec", "keys:codec"]
    done = shell.good("run", "start", "greet", "--inputs", '"Ada"', "--id", "a", *options)
    assert done.err.endswith("start one: aob worker MODULE --codec keys:codec\n")
    process = shell.popen("worker", "flow.py", "--codec", "keys:codec", "--processes", "1", "--json")
    assert process.stdout is not None
    said: list[str] = []
    while not said or '"serving"' not in said[-1]:
        said.append(process.stdout.readline())
    (child,) = [event["pid"] for line in said if (event := json.loads(line))["event"] == "process_started"]
    arguments = Path(f"/proc/{child}/cmdline").read_text()
    assert "worker" in arguments and SECRET not in arguments + "".join(said)
    assert shell.json("run", "result", "a", *options)["result"] == "Hello ADA"
    process.terminate()
    process.communicate()
