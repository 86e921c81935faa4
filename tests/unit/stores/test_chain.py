"""The checksum chain and the content hash."""

import hashlib

import pytest

from aob.errors import StoreCorrupt
from aob.stores.chain import GAP, chain_after, check_chain, follow, gap_data, is_content
from aob.stores.rows import EventRow


def a_history(length: int) -> list[EventRow]:
    rows: list[EventRow] = []
    chain = 0
    for seq in range(1, length + 1):
        data = b"event %d" % seq
        chain = chain_after(chain, "kind", data)
        rows.append(EventRow(seq + 10, 7, seq, 1, "kind", 1, chain, data))
    return rows


def test_a_whole_history_passes_from_any_event_on() -> None:
    rows = a_history(5)
    check_chain(rows, 0, 0, "it")
    check_chain(rows[2:], 2, rows[1].chain, "it")
    check_chain([], 3, 99, "it")


@pytest.mark.parametrize("seq", range(1, 6))
def test_every_change_of_an_event_is_seen_at_that_event(seq: int) -> None:
    for field, value in (("data", b"event X"), ("kind", "other"), ("chain", 1)):
        rows = a_history(5)
        setattr(rows[seq - 1], field, value)
        with pytest.raises(StoreCorrupt, match=f"event {seq} is not what was written in the run with key 7"):
            check_chain(rows, 0, 0, "it")


@pytest.mark.parametrize("seq", range(1, 5))
def test_a_missing_event_is_seen(seq: int) -> None:
    rows = a_history(5)
    del rows[seq - 1]
    with pytest.raises(StoreCorrupt, match=f"event {seq} is missing"):
        check_chain(rows, 0, 0, "it")


def a_gap(first: int, last: int) -> EventRow:
    row = a_history(last)[-1]
    return EventRow(row.position, 7, last, 1, GAP, 1, row.chain, gap_data(first, last, row.chain, b"[5]"))


def test_what_a_gap_stands_for_is_not_missing() -> None:
    rows = a_history(9)
    check_chain([rows[0], a_gap(2, 5), *rows[5:]], 0, 0, "it")
    check_chain([a_gap(2, 5), *rows[5:]], 3, 0, "it")
    check_chain([rows[0], a_gap(2, 3), a_gap(4, 6), *rows[6:]], 0, 0, "it")
    seq = chain = 0
    for row in (rows[0], a_gap(2, 5), *rows[5:]):
        seq, chain = follow(seq, chain, row.kind, row.data)
    assert (seq, chain) == (9, rows[8].chain)


def test_a_gap_hides_nothing_else() -> None:
    rows = a_history(9)
    for found, what in (
        ([rows[0], *rows[2:]], "event 2 is missing"),
        ([rows[0], a_gap(2, 5), *rows[6:]], "event 6 is missing"),
        ([rows[0], a_gap(3, 5), *rows[5:]], "event 2 is missing"),
        ([*rows[:6], a_gap(2, 5), *rows[6:]], "event 7 is missing"),
    ):
        with pytest.raises(StoreCorrupt, match=what):
            check_chain(found, 0, 0, "it")


@pytest.mark.parametrize(("field", "value"), [("data", b"[5,2,5,0,0]"), ("data", b"x"), ("chain", 1), ("seq", 4)])
def test_a_changed_gap_is_seen(field: str, value: object) -> None:
    gap = a_gap(2, 5)
    setattr(gap, field, value)
    rows = a_history(9)
    with pytest.raises(StoreCorrupt, match="in the run with key 7"):
        check_chain([rows[0], gap, *rows[5:]], 0, 0, "it")


def test_events_that_changed_places_are_seen() -> None:
    rows = a_history(5)
    rows[2].data, rows[3].data = rows[3].data, rows[2].data
    with pytest.raises(StoreCorrupt, match="event 3 "):
        check_chain(rows, 0, 0, "it")


def test_the_chain_is_a_format_that_must_not_change() -> None:
    assert chain_after(0, "run_started", b'["x"]') == 3670412551
    assert chain_after(3670412551, "step_completed", b"") == 1023617186


def test_a_content_hash_tells_its_content_from_another() -> None:
    digest = "sha256:" + hashlib.sha256(b"content").hexdigest()
    assert is_content(digest, b"content")
    assert not is_content(digest, b"contemt")
    assert is_content("some other name", b"content")
