"""The checksum chain and the content hash."""

import hashlib

import pytest

from aob.errors import StoreCorrupt
from aob.stores.chain import chain_after, check_chain, is_content
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
