"""What commands print: text and tables for people, JSON for programs, notes and errors on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE = 4_000
STATUS_STYLES = {
    "completed": "green", "failed": "red", "timed_out": "red", "parked": "magenta", "paused": "yellow",
    "cancelled": "dim", "terminated": "dim", "running": "cyan", "waiting": "blue", "pending": "yellow",
}  # fmt: skip


class Pipe(Console):
    """A console that leaves a closed pipe to the caller."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def stdout() -> Console:
    """Where results go. Without a terminal nothing is cut to a width."""
    return _console(stderr=False)


def stderr() -> Console:
    """Where notes, progress and errors go."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Pipe(stderr=stderr, width=None if stream.isatty() else _WIDE, highlight=False, markup=False, emoji=False)


def say(*lines: str) -> None:
    """Print lines for a person on stdout."""
    for line in lines:
        stdout().print(line, soft_wrap=True)


def note(*lines: str) -> None:
    """Print lines beside the result, on stderr."""
    for line in lines:
        stderr().print(line, soft_wrap=True, style="dim")


def warn(*lines: str) -> None:
    """Print lines that somebody should read, on stderr."""
    for line in lines:
        stderr().print(line, soft_wrap=True, style="yellow")


def print_json(value: object, indent: bool | None = None) -> None:
    """Print a value as JSON: in one line for programs, indented on a terminal."""
    data = msgspec.json.encode(value, enc_hook=str)
    if sys.stdout.isatty() if indent is None else indent:
        data = msgspec.json.format(data, indent=2)
    sys.stdout.write(data.decode() + "\n")
    sys.stdout.flush()


def print_json_line(value: object) -> None:
    """Print one item of a stream as a line of JSON."""
    print_json(value, indent=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table. A column that starts with `>` is aligned to the right; cells are texts."""
    console = stdout()
    shape = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, show_edge=False)
    for column in columns:
        shape.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in rows:
        shape.add_row(*(cell if isinstance(cell, Text) else Text("" if cell is None else str(cell)) for cell in row))
    console.print(shape)


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line; those without a value are left out."""
    shown = [(name, value) for name, value in pairs if value not in (None, "", {}, [])]
    width = max((len(name) for name, _ in shown), default=0)
    console = stdout()
    for name, value in shown:
        label = Text(f"{name:<{width}}  ", style="dim")
        text = value if isinstance(value, Text) else Text(str(value))
        lines = text.split("\n", allow_blank=True)
        console.print(label + lines[0], soft_wrap=True)
        for line in lines[1:]:
            console.print(Text(" " * (width + 2)) + line, soft_wrap=True)


def status_text(status: str) -> Text:
    """A run's state in its colour."""
    return Text(status, style=STATUS_STYLES.get(status, ""))


def moment(at: datetime | None) -> str:
    """A time in the terminal's own zone, to the second."""
    return "" if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def span(seconds: float | timedelta) -> str:
    """A length of time in two units at most, such as `2 h 5 min`."""
    value = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    if value < 0:
        return f"-{span(-value)}"
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    if value < 60:
        return f"{value:.3g} s"
    whole = round(value)
    for size, name, small, small_name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{whole} s"


def count(number: int, what: str) -> str:
    """A number with its noun."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def short(value: Any, width: int) -> str:
    """A value as JSON in one line, cut to a width."""
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
