"""Events as exporters see them are those that the history shows, of every kind."""

import json
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from aob.client.views import event_view
from aob.engine.exporter import log_event
from aob.errors import UnknownEvent
from aob.kernel import events as ev
from aob.kernel.failures import capture
from aob.stores.rows import LogRow

GOLDEN = sorted((Path(__file__).parents[2] / "golden").glob("*/*.jsonl"))


def a_row(event: ev.Event, seq: int = 3) -> LogRow:
    return LogRow(1, 9, "t", "r", "w", seq, event.KIND, event.VERSION, ev.encode_event(event))


def compare(event: ev.Event) -> None:
    row, shown = a_row(event), event_view(event, 3)
    got = log_event(row, row.data)
    assert (got.seq, got.at, got.kind, got.step, got.data) == (
        shown.seq, shown.at, shown.kind, shown.step, shown.data
    )  # fmt: skip
    assert (got.id, got.tenant, got.run_id, got.workflow) == ("1:9", "t", "r", "w")


SAMPLES: dict[type, object] = {
    int: 7, str: "text", bool: True, Raw: Raw(b'{"a":[1,null]}'), dict: {"a": 1},
}  # fmt: skip


@pytest.mark.parametrize("kind", ev.EVENTS, ids=lambda kind: kind.KIND)
def test_every_kind_is_as_the_history_shows_it(kind: type[ev.Event]) -> None:
    required = [f for f in msgspec.structs.fields(kind) if f.required]
    values = [
        capture(ValueError("no")) if f.name == "failure" else SAMPLES.get(f.type, "text")  # pyright: ignore
        for f in required
    ]
    compare(kind(*values))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_recorded_histories_are_as_they_are_shown(path: Path) -> None:
    for line in path.read_text().splitlines():
        _, kind, version, data = json.loads(line)
        compare(ev.decode_event(kind, version, msgspec.json.encode(data)))


def test_an_event_of_before_a_field_was_added_has_it() -> None:
    row = LogRow(1, 9, "t", "r", "w", 3, "step_completed", 1, b'[1000000,"a#1",5,"x"]')
    assert log_event(row, row.data).data == {
        "check": 5, "result": "x", "attempts": 1, "took": 0, "by": None, "used": None
    }  # fmt: skip


def test_an_event_of_a_newer_aob_is_not_passed_on_half_understood() -> None:
    row = LogRow(1, 9, "t", "r", "w", 3, "step_completed", 99, b'[1000000,"a#1",5,"x"]')
    with pytest.raises(UnknownEvent):
        log_event(row, row.data)
