"""Who classifies messages and drafts replies: behind one Protocol, so that a language model can take the place.

What runs today is `LocalAssistant`: word statistics over examples that we wrote, and templates. It needs no key and no
network, and every reply says that it was written this way. A release with agents changes `assistant()` alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from examples.support.drafting import compose
from examples.support.knowledge import DATA
from examples.support.models import UNCLEAR, Classification, Context, Draft, Message
from examples.support.tfidf import TfIdf
from examples.support.validation import Problem

LOCAL_METHOD = "a local method (TF-IDF and templates, no language model)"


@dataclass(frozen=True)
class Brief:
    """All that is needed to draft a reply; `problems` are those of the drafts before."""

    message: Message
    classification: Classification
    context: Context
    problems: Sequence[Problem] = ()


class Assistant(Protocol):
    """Classifies messages and drafts replies."""

    async def classify(self, text: str) -> Classification:
        """What `text` is about."""
        ...

    async def draft(self, brief: Brief) -> Draft:
        """A reply, without the problems that the brief names, and the name of who wrote it."""
        ...


def labelled_examples() -> list[tuple[str, str]]:
    """Pairs of category and message, from data/labelled.json: what the local assistant knows about language."""
    by_category: dict[str, list[str]] = json.loads((DATA / "labelled.json").read_text("utf-8"))
    return [(category, text) for category, texts in by_category.items() for text in texts]


class LocalAssistant:
    """Classifies by TF-IDF and drafts from templates.

    Args:
        examples: pairs of category and text to learn from.
        least: how near a category must be; below it a message is unclear.
    """

    def __init__(self, examples: Sequence[tuple[str, str]], least: float = 0.1) -> None:
        self._index = TfIdf(examples)
        self._least = least

    async def classify(self, text: str) -> Classification:
        """The nearest category, or `UNCLEAR` when none is near."""
        nearest = next(iter(self._index.rank(text)), None)
        if nearest is None or nearest.score < self._least:
            return Classification(UNCLEAR, 0.0)
        return Classification(nearest.label, round(min(1.0, nearest.score), 3))

    async def draft(self, brief: Brief) -> Draft:
        """Greeting, the customer's own words, what the knowledge base says."""
        return Draft(compose(brief.message, brief.classification, brief.context, brief.problems), LOCAL_METHOD)


@cache
def assistant() -> Assistant:
    """The assistant that the workflow's activities use."""
    return LocalAssistant(labelled_examples())
