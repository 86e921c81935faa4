"""Rows of a CSV or JSON Lines file as inputs of runs."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from aob.cli.loading import AnyWorkflow
from aob.cli.session import Misuse
from aob.engine.ids import check_run_id
from aob.errors import AobError

_SHOWN = 10
_UNSAFE = re.compile(r"[^A-Za-z0-9._\-]+", re.ASCII)
_NUMBERS = {"integer": int, "number": float}
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Row(NamedTuple):
    """One run to start: its line in the file, its id, and the workflow's input as `start_many` takes it."""

    line: int
    run_id: str
    value: Any


def read_rows(file: Path, target: AnyWorkflow | str, id_column: str | None) -> list[Row]:
    """All rows of a file.

    Args:
        target: the workflow; its types are checked and columns converted to them, unless only its name is known.

    Raises:
        Misuse: the file cannot be read, or rows are bad; they are named by their lines.
    """
    rows: list[Row] = []
    problems: list[str] = []
    lines: dict[str, int] = {}
    reader = _reader(file, target)
    for line, raw in _read(file, problems):
        try:
            run_id = _run_id(file, line, raw, id_column)
            if run_id in lines:
                raise Misuse(f"the id {run_id!r} was on line {lines[run_id]} already")
            lines[run_id] = line
            rows.append(Row(line, run_id, reader(raw)))
        except AobError as e:
            problems.append(f"line {line}: {e.message}")
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise Misuse(f"{file}: nothing was started: {'; '.join(problems[:_SHOWN])}{more}")
    return rows


def _read(file: Path, problems: list[str]) -> Iterator[tuple[int, Any]]:
    """Line numbers and what stands there; lines that cannot be read go to the problems."""
    if file.suffix not in (".csv", ".jsonl", ".ndjson"):
        raise Misuse(f"{file}: give a file that ends in .csv or .jsonl")
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            yield from _csv(file, opened, problems) if file.suffix == ".csv" else _json_lines(opened, problems)
    except OSError as e:
        raise Misuse(f"{file} cannot be read: {e.strerror}") from e
    except UnicodeDecodeError:
        raise Misuse(f"{file} is not UTF-8 text") from None


def _csv(file: Path, opened: Any, problems: list[str]) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(opened, strict=True)
    try:
        if not reader.fieldnames or len(set(reader.fieldnames)) != len(reader.fieldnames):
            raise Misuse(f"{file}: the first line must name the columns, each once")
        line = reader.line_num + 1
        for row in reader:
            if None in row or None in row.values():
                problems.append(f"line {line}: it has not {len(reader.fieldnames)} columns, as the first line has")
            else:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as e:
        raise Misuse(f"{file}: line {reader.line_num} is not CSV: {e}") from e


def _json_lines(opened: Any, problems: list[str]) -> Iterator[tuple[int, Any]]:
    for line, text in enumerate(opened, 1):
        if not text.strip():
            continue
        try:
            yield line, json.loads(text)
        except ValueError as e:
            problems.append(f"line {line}: it is not JSON ({e})")


def _run_id(file: Path, line: int, raw: Any, id_column: str | None) -> str:
    if id_column is None:
        digest = hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()[:10]
        return f"{_UNSAFE.sub('-', file.stem)[:100]}-{line}-{digest}"
    if not isinstance(raw, dict) or id_column not in raw:
        raise Misuse(f"there is no column {id_column!r}")
    given = cast("dict[str, Any]", raw)[id_column]
    if not isinstance(given, str | int) or isinstance(given, bool):
        raise Misuse(f"the id {given!r} is not a text")
    return check_run_id(str(given))


# --- inputs -------------------------------------------------------------------------------------------


def _reader(file: Path, target: AnyWorkflow | str) -> Any:
    """A function from what stands in the file to the input."""
    if isinstance(target, str):
        return lambda raw: raw  # pyright: ignore[reportUnknownLambdaType, reportUnknownVariableType]
    cells = _Cells(target.codec.input_schema()) if file.suffix == ".csv" else None

    def read(raw: Any) -> Any:
        value = cells.typed(raw) if cells is not None else raw
        target.codec.decode_input(msgspec.json.encode(value))
        return value

    return read


class _Cells:
    """The texts of a CSV file as the JSON types that a workflow's input asks for."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._definitions: dict[str, Any] = schema.get("$defs", {})
        root = self._resolved(schema)
        self._columns: dict[str, Any] | None = root.get("properties")
        self._known_only = root.get("additionalProperties") is False
        self._root = root

    def typed(self, row: dict[str, str]) -> Any:
        """A row as the input: an object by column, or, for a plain input, the only column's value."""
        if self._columns is None:
            if len(row) == 1 and "object" not in self._types(self._root):
                return self._cell(next(iter(row.values())), self._root)
            return row
        return {name: self._cell(text, self._columns.get(name, {})) for name, text in row.items()}

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            schema = self._definitions.get(schema["$ref"].rpartition("/")[2], {})
        return schema

    def _types(self, schema: dict[str, Any]) -> set[str]:
        schema = self._resolved(schema)
        found: set[str] = set()
        for part in schema.get("anyOf", schema.get("oneOf", [])):
            found |= self._types(part)
        given = schema.get("type", [])
        return found | ({given} if isinstance(given, str) else set(given))

    def _cell(self, text: str, schema: dict[str, Any]) -> Any:
        types = self._types(schema)
        if not types or "string" in types:
            return None if text == "" and "null" in types else text
        if text == "" and "null" in types:
            return None
        if "boolean" in types and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        for name in ("integer", "number"):
            if name in types:
                try:
                    return _NUMBERS[name](text)
                except ValueError:
                    continue
        if types & {"object", "array"}:
            try:
                return json.loads(text)
            except ValueError:
                return text
        return text
