"""How times and values are written."""

import pytest

from aob.cli.output import count, short, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 µs"), (12e-6, "12 µs"), (0.0015, "1.5 ms"), (0.25, "250 ms"), (1.25, "1.25 s"), (59.9, "59.9 s"),
        (60, "1 min"), (61, "1 min 1 s"), (3_600, "1 h"), (3_720, "1 h 2 min"), (86_400, "1 d"), (90_000, "1 d 1 h"),
        (-5, "-5 s"),
    ],
)  # fmt: skip
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_values_are_cut_to_one_line() -> None:
    assert short({"a": [1, None]}, 50) == '{"a":[1,null]}'
    assert short("a\n  b", 50) == "a b"
    assert short("x" * 100, 10) == "x" * 9 + "…"


def test_counts() -> None:
    assert [count(n, "run") for n in (0, 1, 2, 10_003)] == ["0 runs", "1 run", "2 runs", "10,003 runs"]
