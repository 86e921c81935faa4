"""A small knowledge base: articles that we wrote, found by category and by the words of a message."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from examples.support.models import Article
from examples.support.tfidf import TfIdf

DATA = Path(__file__).parent / "data"


class KnowledgeBase:
    """Articles, each with an id of its own.

    Args:
        articles: all of them; an id that comes twice raises ValueError.
    """

    def __init__(self, articles: Iterable[Article]) -> None:
        self._by_id: dict[str, Article] = {}
        for article in articles:
            if article.id in self._by_id:
                raise ValueError(f"two articles have the id {article.id}")
            self._by_id[article.id] = article
        self._index = TfIdf((article.id, f"{article.title} {article.body}") for article in self._by_id.values())

    def find(self, category: str, text: str, limit: int = 2) -> list[Article]:
        """Up to `limit` articles of `category`, the one that shares most with `text` first."""
        ranked = [match.label for match in self._index.rank(text)]
        order = {article_id: position for position, article_id in enumerate(ranked)}
        fitting = (article for article in self._by_id.values() if article.category == category)
        return sorted(fitting, key=lambda article: order.get(article.id, len(order)))[:limit]


@cache
def knowledge_base() -> KnowledgeBase:
    """The one in data/knowledge.json."""
    return KnowledgeBase(Article(**entry) for entry in json.loads((DATA / "knowledge.json").read_text("utf-8")))
