"""Values given on the command line: JSON, a file of JSON, `key=value`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aob.cli.session import Misuse

STANDARD_INPUT = "/dev/stdin"
"""What a lone `-` stands for where a hyphen would begin an option."""


def json_or_file(text: str, option: str) -> Any:
    """A value given as JSON, as the name of a file of JSON, or as `-` for standard input.

    Raises:
        Misuse: it is none of these.
    """
    if text in ("-", STANDARD_INPUT):
        return _parse(sys.stdin.read(), f"{option}: standard input")
    try:
        return _loads(text, option)
    except ValueError as e:
        found = _contents(text)
        if found is None:
            hint = f" For a text, quote it: '{json.dumps(text)}'." if _is_word(text) else ""
            raise Misuse(f"{option}: {_shown(text)} is neither JSON ({_where(e)}) nor a file.{hint}") from None
    return _parse(found, f"{option}: the file {text}")


def json_value(text: str, what: str) -> Any:
    """A value given as JSON.

    Raises:
        Misuse: it is not JSON.
    """
    try:
        return _loads(text, what)
    except ValueError as e:
        hint = f" For a text, quote it: '{json.dumps(text)}'." if _is_word(text) else ""
        raise Misuse(f"{what}: {_shown(text)} is not JSON ({_where(e)}).{hint}") from None


def pairs(given: Sequence[str], option: str) -> dict[str, str]:
    """`key=value` texts as a dict.

    Raises:
        Misuse: one has no `=`, or a key comes twice.
    """
    found: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise Misuse(f"{option}: {_shown(text)} is not of the form key=value")
        if key in found:
            raise Misuse(f"{option}: {key!r} is given twice")
        found[key] = value
    return found


def _contents(name: str) -> str | None:
    try:
        path = Path(name)
        return path.read_text("utf-8") if path.is_file() else None
    except UnicodeDecodeError:
        raise Misuse(f"the file {name} is not UTF-8 text") from None
    except (OSError, ValueError):
        return None


def _parse(text: str, what: str) -> Any:
    try:
        return _loads(text, what)
    except ValueError as e:
        raise Misuse(f"{what} is not JSON: {_where(e)}") from None


def _loads(text: str, what: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise Misuse(f"{what}: the JSON is nested too deeply") from None


def _where(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno} column {error.colno}"
    return str(error)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _is_word(text: str) -> bool:
    return bool(text) and text[0] not in '{["' and "\n" not in text


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
