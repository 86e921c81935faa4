"""`aob run batch`: files of rows."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_shell import Shell, until

ORDERS = 'item,count,gift\npen,2,true\ncup,1,no\n"a, b",3,false\n'


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    (tmp_path / "orders.csv").write_text(ORDERS)
    yield shell
    shell.end()


def test_each_row_becomes_a_run_and_repeating_changes_nothing(shell: Shell) -> None:
    done = shell.good("run", "batch", "flow.py:ship", "orders.csv", "--wait")
    assert done.lines == ["3 runs: 3 started", "3 completed"]
    runs = shell.json("run", "list")
    results = [shell.json("run", "get", run["run_id"])["result"] for run in runs]
    assert sorted((r["item"], r["count"], r["gift"]) for r in results) == [
        ("a, b", 3, False), ("cup", 1, False), ("pen", 2, True)
    ]  # fmt: skip
    again = shell.json("run", "batch", "flow.py:ship", "orders.csv", "--wait")
    assert again == {"runs": 3, "started": 0, "known": 3, "statuses": {"completed": 3}, "not_completed": {}}
    assert Counter(shell.effects()) == {"shout pen": 1, "shout cup": 1, "shout a, b": 1}


def test_equal_rows_are_runs_of_their_own_and_new_rows_are_added(shell: Shell) -> None:
    (shell.folder / "names.jsonl").write_text('"Ada"\n"Ada"\n')
    assert shell.json("run", "batch", "flow.py:greet", "names.jsonl") == {"runs": 2, "started": 2, "known": 0}
    with (shell.folder / "names.jsonl").open("a") as file:
        file.write('\n"Bob"\n')
    done = shell.good("run", "batch", "flow.py:greet", "names.jsonl")
    assert done.out == "3 runs: 1 started, 2 were there\n"
    assert "start one: aob worker flow.py" in done.err


def test_ids_can_come_from_a_column(shell: Shell) -> None:
    (shell.folder / "ids.csv").write_text("id,item\n7,pen\n8,cup\n")
    batch = ["run", "batch", "ship", "ids.csv", "--id-column", "id", "--attribute", "day=1"]
    assert shell.json(*batch) == {"runs": 2, "started": 2, "known": 0}
    assert {run["run_id"] for run in shell.json("run", "list", "--attribute", "day=1")} == {"7", "8"}
    shell.worker()
    assert shell.good("run", "result", "7", "--json").json["result"]["item"] == "pen"
    (shell.folder / "ids.csv").write_text("id,item\n7,pen\n8,mug\n9,bowl\n")
    assert "8" in shell.bad(1, *batch) and "[run_exists]" in shell.bad(1, *batch)
    assert len(shell.json("run", "list", "--attribute", "day=1")) == 2


BAD_FILES = [
    ("a.csv", "item,count\npen,1\ncup,many\n\n", ["line 3", "`int`", "nothing was started"]),
    ("b.csv", "item,count\npen\ncup,1,2\n", ["line 2", "line 3", "2 columns"]),
    ("c.csv", "item,item\npen,1\n", ["first line"]),
    ("d.csv", "", ["first line"]),
    ("e.jsonl", '{"item": "pen"}\n{"item"\n{"count": 1}\n', ["line 2", "not JSON", "line 3", "item"]),
    ("f.jsonl", '{"item": "pen", "color": "red", "count": "x"}\n', ["line 1", "count"]),
    ("g.txt", "pen\n", [".csv or .jsonl"]),
    ("h.csv", "item,count\n" + "pen,x\n" * 15, ["line 11", "and 5 more"]),
]


@pytest.mark.parametrize(("name", "text", "parts"), BAD_FILES, ids=[file[0] for file in BAD_FILES])
def test_bad_rows_are_named_before_anything_starts(shell: Shell, name: str, text: str, parts: list[str]) -> None:
    (shell.folder / name).write_text(text)
    error = shell.bad(2, "run", "batch", "flow.py:ship", name)
    assert [part for part in parts if part not in error] == [], error
    assert shell.json("run", "list") == []


def test_bad_ids_are_named(shell: Shell) -> None:
    (shell.folder / "ids.csv").write_text("id,item\n1,pen\n1,cup\na b,mug\n")
    error = shell.bad(2, "run", "batch", "flow.py:ship", "ids.csv", "--id-column", "id")
    assert "line 3: the id '1' was on line 2" in error and "line 4: bad run id" in error
    assert "no column 'number'" in shell.bad(2, "run", "batch", "ship", "ids.csv", "--id-column", "number")
    assert "no.csv cannot be read" in shell.bad(2, "run", "batch", "ship", "no.csv")


def test_waiting_ends_with_1_when_a_run_fails(shell: Shell) -> None:
    (shell.folder / "names.jsonl").write_text('"Ada"\n"bad"\n')
    done = shell("run", "batch", "flow.py:greet", "names.jsonl", "--wait")
    assert done.code == 1
    assert "1 completed, 1 failed" in done.out or "1 failed, 1 completed" in done.out
    assert "ValueError: bad text" in done.out
    summary = shell("run", "batch", "flow.py:greet", "names.jsonl", "--wait", "--json").json
    assert summary["statuses"] == {"completed": 1, "failed": 1}
    assert list(summary["not_completed"].values()) == ["failed"]


def test_a_killed_batch_is_finished_by_repeating_it(shell: Shell) -> None:
    rows = [json.dumps({"item": f"item {n}"}) for n in range(3_500)]
    (shell.folder / "many.jsonl").write_text("\n".join(rows))
    batch = ["run", "batch", "flow.py:ship", "many.jsonl"]
    started = shell.popen(*batch)
    until(lambda: (shell.folder / "aob.db").exists() and shell.json("run", "list", "--limit", "1"))
    started.kill()
    started.communicate()
    summary = shell.json(*batch, "--wait")
    assert summary["runs"] == 3_500
    assert summary["started"] + summary["known"] == 3_500
    assert summary["statuses"] == {"completed": 3_500}
    assert Counter(shell.effects()).most_common(1)[0][1] == 1


def test_by_name_or_by_module_the_same_rows_are_the_same_runs(shell: Shell) -> None:
    (shell.folder / "messages.csv").write_text("item,category\npen,writing\ncup,drinking\n")
    assert shell.json("run", "batch", "ship", "messages.csv")["started"] == 2
    assert shell.json("run", "batch", "flow.py:ship", "messages.csv", "--wait")["known"] == 2
    assert shell.json("run", "batch", "ship", "messages.csv", "--wait")["statuses"] == {"completed": 2}
