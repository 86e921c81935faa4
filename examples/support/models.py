"""The values that go through the workflow. All of them are recorded as JSON, by their annotations."""

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

UNCLEAR = "unclear"


@dataclass(frozen=True)
class Message:
    """What a customer wrote.

    A row of a CSV file is one too: only `text` is needed, and columns that are not named here are ignored.
    """

    text: str
    id: str = ""
    customer_id: str = ""

    @property
    def reference(self) -> str:
        """The message's id, or one made from its content."""
        content = f"{self.customer_id}\n{self.text}".encode()
        return self.id or "m-" + hashlib.sha256(content).hexdigest()[:12]


@dataclass(frozen=True)
class Classification:
    """What a message is about: a category, or `UNCLEAR`; and how sure that is, from 0 to 1."""

    category: str
    confidence: float


@dataclass(frozen=True)
class Article:
    """One entry of the knowledge base."""

    id: str
    category: str
    title: str
    body: str


@dataclass(frozen=True)
class Policy:
    """What may be done without asking, and how long a person has to answer when it may not."""

    refund_limit: Decimal = Decimal(50)
    approval_seconds: float = 3600.0
    reply_chars: int = 600


@dataclass(frozen=True)
class Context:
    """What is known when a reply is written. The policy is part of it, so that a run keeps to the one it began with."""

    articles: list[Article]
    policy: Policy


@dataclass(frozen=True)
class Money:
    """An amount in a currency, by its three letters."""

    amount: Decimal
    currency: str

    def __str__(self) -> str:
        return f"{self.amount:.2f} {self.currency}"


@dataclass(frozen=True)
class RefundRequest:
    """What a person sees when a refund needs an approval, and may change while approving."""

    message_id: str
    customer_id: str
    text: str
    refund: Money


@dataclass(frozen=True)
class Draft:
    """A reply that has not been checked yet, and who wrote it."""

    text: str
    written_by: str


class Outcome(StrEnum):
    """How a message was dealt with."""

    ANSWERED = "answered"
    ASKED_BACK = "asked back"
    REFUND_GRANTED = "refund granted"
    REFUND_NOT_APPROVED = "refund not approved"
    HANDED_OVER = "handed over to a person"


@dataclass(frozen=True)
class Reply:
    """What goes to the customer, and how it came about."""

    message_id: str
    customer_id: str
    category: str
    confidence: float
    outcome: Outcome
    repairs: int
    text: str
    written_by: str
