"""Amounts in what people write."""

from decimal import Decimal

import pytest

from examples.support.models import Money
from examples.support.money import amount_asked, amounts


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("refund 80 EUR please", "80", "EUR"),
        ("12,50 euros for a pizza", "12.50", "EUR"),
        ("€214.", "214", "EUR"),
        ("59,99 €.", "59.99", "EUR"),
        ("EUR 1,299.00, never shipped", "1299.00", "EUR"),
        ("1.150,00 EUR is due", "1150.00", "EUR"),
        ("1 200 euro", "1200", "EUR"),
        ("2.000 EUR", "2000", "EUR"),
        ("I paid $38 for it", "38", "USD"),
        ("45 pounds", "45", "GBP"),
        ("£7.5", "7.5", "GBP"),
    ],
)
def test_an_amount_beside_its_currency(text: str, amount: str, currency: str) -> None:
    assert amounts(text) == [Money(Decimal(amount), currency)]


@pytest.mark.parametrize("text", ["", "order 7713", "13,500 words", "eurostar 9 coach", "at 11 pm", "30 dollarstores"])
def test_a_number_alone_is_no_amount(text: str) -> None:
    assert amounts(text) == []


def test_the_largest_amount_counts_so_that_a_small_one_does_not_hide_it() -> None:
    assert amount_asked("refund 5 EUR, no, 500 EUR, well, 20 EUR") == Money(Decimal(500), "EUR")
    assert amount_asked("refund my order 7713") is None


def test_money_is_written_with_two_digits() -> None:
    assert str(Money(Decimal("7.5"), "GBP")) == "7.50 GBP"
