"""What a reply must be before it may go out. Each rule looks at the text alone, whoever wrote it."""

import re
from enum import StrEnum

from examples.support.models import Context

PERSONAL = re.compile(
    r"\b(?i:[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)\b"  # IBAN
    r"|(?<!\d)(?:\d[ -]?){9,18}\d(?!\d)"  # card, account and phone numbers
    r"|\b[\w.+-]+@[\w-]+\.[\w.]+\b"
)
PROMISE = re.compile(r"\b(?:have|has|will be|been|is|are) (?:already )?(?:refunded|reimbursed)\b", re.IGNORECASE)
SHOUT = re.compile(r"(?:\b[A-Z]+\b[^\w\n]+){2,}[A-Z]{2,}\b|!{2,}")
SIGNATURE = "Your support team"


class Problem(StrEnum):
    """Why a draft is not sent as it is."""

    PERSONAL_DATA = "repeats a number or address that should stay private"
    PROMISES_REFUND = "promises a refund that nobody has decided"
    SHOUTS = "shouts"
    TOO_LONG = "is too long"
    NO_SOURCE = "names no article of the knowledge base"
    UNSIGNED = "is not signed"


def problems_of(draft: str, context: Context) -> list[Problem]:
    """Everything that is wrong with `draft`; empty when it may go out."""
    found = {
        Problem.PERSONAL_DATA: bool(PERSONAL.search(draft)),
        Problem.PROMISES_REFUND: bool(PROMISE.search(draft)),
        Problem.SHOUTS: bool(SHOUT.search(draft)),
        Problem.TOO_LONG: len(draft) > context.policy.reply_chars,
        Problem.NO_SOURCE: bool(context.articles) and not any(article.id in draft for article in context.articles),
        Problem.UNSIGNED: not draft.rstrip().endswith(SIGNATURE),
    }
    return [problem for problem, present in found.items() if present]
