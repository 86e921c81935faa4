"""Amounts of money in what people write: "80 EUR", "€ 1.200,50", "12,99 euros", "$40"."""

import re
from decimal import Decimal

from examples.support.models import Money

NAMES = {
    "EUR": ("€", "eur", "euro", "euros"),
    "GBP": ("£", "gbp", "pound", "pounds", "quid"),
    "USD": ("$", "usd", "dollar", "dollars"),
}
CURRENCY_OF = {name: currency for currency, names in NAMES.items() for name in names}
_NUMBER = r"\d{1,3}(?:[.,' ]\d{3})+(?:[.,]\d{1,2})?(?!\d)|\d+(?:[.,]\d{1,2})?(?!\d)"
_SIGN = r"[€£$]"
_WORD = "|".join(sorted((re.escape(name) for name in CURRENCY_OF if name.isalpha()), key=len, reverse=True))
AMOUNT = re.compile(
    rf"(?:(?P<before>{_SIGN}|\b(?:{_WORD})\b)\s?(?P<first>{_NUMBER}))"
    rf"|(?:(?<![\d.,])(?P<second>{_NUMBER})\s?(?P<after>{_SIGN}|(?:{_WORD})\b))",
    re.IGNORECASE,
)


def amounts(text: str) -> list[Money]:
    """Every amount in `text` that stands beside a currency, in order."""
    return [
        Money(_decimal(found["first"] or found["second"]), CURRENCY_OF[(found["before"] or found["after"]).lower()])
        for found in AMOUNT.finditer(text)
    ]


def amount_asked(text: str) -> Money | None:
    """The largest amount in `text`, so that a limit is not passed by naming a small one too; None without any."""
    return max(amounts(text), key=lambda money: money.amount, default=None)


def _decimal(written: str) -> Decimal:
    whole, fraction = written, ""
    parts = re.fullmatch(r"(.*)[.,](\d{1,2})", written)
    if parts:
        whole, fraction = parts.groups()
    return Decimal(re.sub(r"\D", "", whole) + "." + (fraction or "0"))
