"""Rows of files as inputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aob
from aob.cli.rows import read_rows


@dataclass
class Reading:
    name: str
    value: float
    count: int | None = None
    good: bool = True
    tags: list[str] | None = None


@aob.workflow
async def one(reading: Reading) -> None: ...


@aob.workflow
async def several(name: str, count: int = 1, ratio: float | None = None) -> None: ...


@aob.workflow
async def plain(number: int) -> None: ...


@aob.workflow
async def anything(value: Any) -> None: ...


def values(folder: Path, text: str, target: Any, name: str = "rows.csv") -> list[Any]:
    (folder / name).write_text(text)
    return [row.value for row in read_rows(folder / name, target, None)]


def test_cells_become_what_the_workflow_asks_for(tmp_path: Path) -> None:
    text = 'name,value,count,good,tags\na,1.5,3,no,"[""x""]"\nb,2,,TRUE,\n7,1e3,,1,\n'
    assert values(tmp_path, text, one) == [
        {"name": "a", "value": 1.5, "count": 3, "good": False, "tags": ["x"]},
        {"name": "b", "value": 2.0, "count": None, "good": True, "tags": None},
        {"name": "7", "value": 1000.0, "count": None, "good": True, "tags": None},
    ]
    assert values(tmp_path, "name,count,ratio\n5,2,\n", several) == [{"name": "5", "count": 2, "ratio": None}]


def test_the_only_column_is_the_input_of_a_workflow_that_takes_a_plain_value(tmp_path: Path) -> None:
    assert values(tmp_path, "number\n4\n-5\n", plain) == [4, -5]
    assert values(tmp_path, "4\n-5\n", plain, "rows.jsonl") == [4, -5]


def test_without_types_columns_stay_texts(tmp_path: Path) -> None:
    assert values(tmp_path, "a,b\n1,true\n", "by_name") == [{"a": "1", "b": "true"}]
    assert values(tmp_path, "a,b\n1,\n", anything) == [{"a": "1", "b": ""}]
    assert values(tmp_path, '{"a": 1}\n[2]\nnull\n', "by_name", "rows.jsonl") == [{"a": 1}, [2], None]


def test_columns_that_a_dataclass_does_not_have_are_left_to_its_decoder(tmp_path: Path) -> None:
    assert values(tmp_path, "name,value,color\na,1,red\n", one) == [{"name": "a", "value": 1.0, "color": "red"}]


def test_a_byte_order_mark_quotes_and_line_breaks_in_cells(tmp_path: Path) -> None:
    text = '\ufeffname,count\n"a ""b"",\nc",1\nd,2\n'
    assert values(tmp_path, text, several) == [{"name": 'a "b",\nc', "count": 1}, {"name": "d", "count": 2}]
    rows = read_rows(tmp_path / "rows.csv", several, None)
    assert [row.line for row in rows] == [2, 4]


def test_ids_depend_on_name_line_and_content_and_nothing_else(tmp_path: Path) -> None:
    def ids(name: str, text: str) -> list[str]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        return [row.run_id for row in read_rows(tmp_path / name, "w", None)]

    first = ids("a file.csv", "x\n1\n1\n")
    assert len(set(first)) == 2
    assert first[0].startswith("a-file-2-")
    assert ids("moved/a file.csv", "x\n1\n1\n") == first
    assert ids("a file.csv", "x\n1\n1\n3\n")[:2] == first
    assert ids("a file.csv", "x\n1\n2\n")[0] == first[0]
    assert ids("a file.csv", "x\n1\n2\n")[1] != first[1]
    assert ids("b.csv", "x\n1\n")[0] != first[0]
