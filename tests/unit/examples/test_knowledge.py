"""Finding articles."""

import pytest

from examples.support.assistant import labelled_examples
from examples.support.knowledge import KnowledgeBase, knowledge_base
from examples.support.models import Article


def article(article_id: str, category: str, body: str) -> Article:
    return Article(article_id, category, "", body)


BASE = KnowledgeBase(
    [
        article("1", "card", "chip and terminal"),
        article("2", "card", "express post"),
        article("3", "cash", "express machine"),
    ]
)


def test_the_article_that_shares_most_with_the_message_comes_first() -> None:
    assert [found.id for found in BASE.find("card", "when does the post bring it")] == ["2", "1"]
    assert [found.id for found in BASE.find("card", "the terminal refuses my chip")] == ["1", "2"]


def test_only_articles_of_the_category_are_found() -> None:
    assert [found.id for found in BASE.find("cash", "express post")] == ["3"]
    assert BASE.find("unclear", "express post") == []


def test_no_more_than_the_limit() -> None:
    assert [found.id for found in BASE.find("card", "", limit=1)] == ["1"]


def test_an_id_may_not_come_twice() -> None:
    with pytest.raises(ValueError, match="two articles have the id 1"):
        KnowledgeBase([article("1", "card", "a"), article("1", "cash", "b")])


def test_every_category_that_is_taught_has_articles() -> None:
    categories = {category for category, _ in labelled_examples()}
    assert len(categories) == 12
    for category in categories:
        assert knowledge_base().find(category, ""), category
