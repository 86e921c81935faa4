"""The classifier's arithmetic."""

import pytest

from examples.support.tfidf import TfIdf, stem, stems

TEXTS = [
    ("fruit", "apples and pears"),
    ("fruit", "a basket of apples"),
    ("tools", "hammer and nails"),
    ("tools", "the hammer is in the basket"),
]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("refunded", "refund"),
        ("refunds", "refund"),
        ("declined", "declin"),
        ("decline", "declin"),
        ("pin", "pin"),
        ("its", "its"),
    ],
)
def test_endings_are_cut_but_short_words_stay(word: str, expected: str) -> None:
    assert stem(word) == expected


def test_words_without_a_subject_and_numbers_are_left_out() -> None:
    assert stems("Isn't it 30 EUR for the APPLES?") == ["eur", "appl"]


def test_a_curly_apostrophe_is_an_apostrophe() -> None:
    assert stems("card\N{RIGHT SINGLE QUOTATION MARK}s chip") == stems("card's chip") == ["card", "chip"]


def test_the_group_that_shares_most_comes_first() -> None:
    ranked = TfIdf(TEXTS).rank("an apple basket")
    assert [match.label for match in ranked] == ["fruit", "tools"]
    assert 1 >= ranked[0].score > ranked[1].score > 0


def test_a_group_is_nearest_to_its_own_text() -> None:
    index = TfIdf([("one", "red boat"), ("two", "green boat")])
    assert index.rank("green boat")[0].label == "two"
    assert index.rank("green boat")[0].score == pytest.approx(1.0)


def test_a_text_that_shares_nothing_has_no_match() -> None:
    assert TfIdf(TEXTS).rank("кошка") == []
    assert TfIdf(TEXTS).rank("") == []


def test_unknown_words_make_a_match_weaker() -> None:
    index = TfIdf(TEXTS)
    assert index.rank("hammer zxcv qwer")[0].score < index.rank("hammer")[0].score


def test_equal_groups_come_in_alphabetical_order() -> None:
    index = TfIdf([("b", "boat"), ("a", "boat"), ("c", "boat")])
    assert [match.label for match in index.rank("boat")] == ["a", "b", "c"]


def test_an_empty_index_matches_nothing() -> None:
    assert TfIdf([]).rank("boat") == []
