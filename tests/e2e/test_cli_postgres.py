"""The command line on Postgres: a store is made, looked at, served, and runs move into it and out again."""

from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import pytest

from tests.e2e.cli_shell import Shell, until
from tests.e2e.test_cli_transfer import moving

pytestmark = pytest.mark.needs("postgres")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def test_a_store_is_made_and_looked_at(shell: Shell, postgres_url: str) -> None:
    shell.env["AOB_STORE"] = postgres_url.replace("postgres@", "postgres:secret@")
    made = shell.json("db", "migrate")
    assert made["schema"] > 0
    assert shell.good("db", "check").out == "all is as it was written\n"
    shell.worker()
    shell.good("run", "start", "greet", "--inputs", '"Ada"', "--id", "a")
    assert shell.json("run", "result", "a")["result"] == "Hello ADA"
    done = shell.good("doctor")
    assert "PostgreSQL " in done.out
    assert "owns the store" in done.out
    assert "secret" not in done.out + done.err


def test_partitions_are_shown_and_raised_while_a_worker_runs(shell: Shell, postgres_url: str) -> None:
    shell.env["AOB_STORE"] = postgres_url
    shell.good("db", "migrate")
    assert shell.json("db", "partitions") == {"partitions": 256, "free": 256, "lanes": 0, "workers": []}
    shell.worker("--build", "b7")
    done = shell.good("db", "partitions")
    assert done.out.split()[:3] == ["worker", "build", "partitions"]
    assert done.out.split()[-2:] == ["b7", "256"]
    assert done.err == "256 partitions; nobody holds 0\n"
    raised = shell.good("db", "partitions", "300")
    assert raised.out.endswith(" has 300 partitions now, instead of 256\n")
    until(lambda: shell.json("db", "partitions")["free"] == 0)
    assert shell.json("db", "partitions", "300")["before"] == 300
    assert shell.good("db", "partitions", "300").out.endswith(" has 300 partitions already\n")
    assert "has 300 partitions, and cannot have less" in shell.bad(1, "db", "partitions", "299")
    assert "too many" in shell.bad(1, "db", "partitions", "1000000")
    shell.good("run", "start", "greet", "--inputs", '"Ada"', "--id", "a")
    assert shell.json("run", "result", "a")["result"] == "Hello ADA"


def test_a_file_has_one_partition_for_ever(shell: Shell) -> None:
    shell.good("db", "migrate")
    for number in ([], ["4"]):
        assert "is one partition, for one worker at a time" in shell.bad(1, "db", "partitions", *number)


def test_a_server_that_is_not_there_is_named(shell: Shell) -> None:
    said = shell.bad(1, "db", "check", "--store", "postgresql://me:secret@127.0.0.1:1/nothing")
    assert "127.0.0.1:1" in said
    assert "secret" not in said


def test_no_command_shows_a_password(shell: Shell, postgres_url: str) -> None:
    store = postgres_url.replace("postgres@", "postgres:secret@")
    worker = shell.worker("--store", store)
    shell.good("run", "start", "talk", "--inputs", '"tea"', "--id", "a", "--store", store)
    until(lambda: shell.json("approve", "list", "--store", store))
    asked = [shell.good(*command, "--store", store) for command in (["approve", "list"], ["run", "get", "a"])]
    assert all(f"--store {quote(postgres_url)}" in done.out + done.err for done in asked)
    assert "secret" not in "".join(str(done) for done in asked) + "".join(worker.said)
    shell.env["AOB_STORE"] = store
    assert "--store" not in shell.good("run", "get", "a").out
    crew = shell.worker("--processes", "1", until=", process ")
    pids = [line.split("process ")[1].split(",")[0] for line in crew.said if ", process " in line]
    assert pids and all("secret" not in Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)
    assert "secret" not in shell.bad(2, "run", "list", "--store", "mysql://me:secret@host/shop")


def test_runs_move_in_and_go_on(shell: Shell, postgres_url: str) -> None:
    moving(shell)
    there = ["--store", postgres_url]
    before = {run: shell.json("run", "history", run) for run in ("done", "failed", "asleep", "asks")}
    shell.good("db", "export", "--all", "--to", "all.jsonl")
    assert shell.good("db", "import", "all.jsonl", *there).out == "imported 5 runs\n"
    for run, events in before.items():
        assert shell.json("run", "history", run, *there) == events, run
    shell.good("run", "signal", "asleep", "go", '"again"', "--id", "s1", *there)
    shell.worker(*there)
    assert shell.json("run", "result", "pending", *there)["result"] == "Hello BOB"
    assert shell.json("run", "result", "asleep", *there)["result"] == "100000 now AWAKE"


def test_runs_move_out_and_go_on(shell: Shell, postgres_url: str) -> None:
    shell.env["AOB_STORE"] = postgres_url
    moving(shell)
    back = ["--store", "sqlite:///back.db"]
    shell.good("db", "export", "--all", "--to", "all.jsonl")
    assert shell.good("db", "import", "all.jsonl", *back).out == "imported 5 runs\n"
    assert shell.good("db", "check", *back).out == "all is as it was written\n"
    shell.worker(*back)
    assert shell.json("run", "result", "asleep", *back)["result"] == "100000 now AWAKE"
    until(lambda: shell.json("approve", "list", *back))
