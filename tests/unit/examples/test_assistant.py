"""The local assistant: what it says, how it drafts, how good it is."""

import csv

import pytest

from examples.support.accuracy import leave_one_out, table_of
from examples.support.assistant import LOCAL_METHOD, Brief, assistant, labelled_examples
from examples.support.knowledge import DATA, knowledge_base
from examples.support.models import UNCLEAR, Classification, Context, Message, Policy
from examples.support.validation import SIGNATURE, Problem, problems_of


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("My card was swallowed by the cash machine", "cash_withdrawal"),
        ("Refund my 80 EUR, the concert was cancelled", "refund"),
        ("I forgot my passcode", "account_access"),
        ("Karte weg!", UNCLEAR),
        ("", UNCLEAR),
        ("\N{THUMBS UP SIGN}", UNCLEAR),
    ],
)
async def test_messages_get_a_category(text: str, category: str) -> None:
    assert (await assistant().classify(text)).category == category


async def test_an_unclear_message_has_no_confidence() -> None:
    assert await assistant().classify("asdf") == Classification(UNCLEAR, 0.0)


async def test_leaving_one_out_counts_every_example_once_and_is_better_than_guessing() -> None:
    examples = labelled_examples()
    found = await leave_one_out(examples)
    assert found.total() == len(examples)
    right = sum(n for (true, answer), n in found.items() if true == answer)
    largest = max(sum(n for (true, _), n in found.items() if true == category) for category, _ in found)
    assert right > 3 * largest


async def test_left_out_means_that_the_example_is_not_seen() -> None:
    found = await leave_one_out([("a", "boat ship"), ("b", "apple pear"), ("b", "apple plum")])
    assert found == {("a", UNCLEAR): 1, ("b", "b"): 2}
    assert [str(column.footer) for column in table_of(found).columns] == ["all", "2", "0", "1", "66.7%"]


def test_no_message_of_the_demo_is_among_the_examples() -> None:
    taught = {text.casefold() for _, text in labelled_examples()}
    with (DATA / "messages.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = [row["text"].casefold() for row in rows]
    assert len(rows) > 300
    assert len(set(texts)) == len(texts)
    assert len({row["id"] for row in rows}) == len(rows)
    assert not taught & set(texts)


def brief(text: str, *problems: Problem, category: str = "refund", policy: Policy | None = None) -> Brief:
    context = Context(knowledge_base().find(category, text), policy or Policy())
    return Brief(Message(text), Classification(category, 1.0), context, problems)


async def drafted(given: Brief) -> str:
    draft = await assistant().draft(given)
    assert draft.written_by == LOCAL_METHOD
    return draft.text


async def test_a_reply_quotes_the_customer_and_names_its_sources() -> None:
    given = brief("Please refund my kettle")
    reply = await drafted(given)
    assert 'You wrote: "Please refund my kettle"' in reply
    assert all(f"({article.id})" in reply for article in given.context.articles)
    assert problems_of(reply, given.context) == []


async def test_an_upset_customer_gets_an_apology() -> None:
    assert "sorry" in await drafted(brief("This is a joke, refund me"))
    assert "sorry" not in await drafted(brief("Please refund me"))


async def test_an_unclear_message_is_asked_back() -> None:
    assert "Could you tell us" in await drafted(brief("", category=UNCLEAR))


LONG = "I bought a kettle and it broke on the very first day, which made me sad. " * 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("refund to DE44 5001 0517 5407 3249 31", Problem.PERSONAL_DATA),
        ("refund, my card is 4111-1111-1111-1111", Problem.PERSONAL_DATA),
        ("refund to tom.baker@example.com please", Problem.PERSONAL_DATA),
        ("GIVE ME A REFUND NOW", Problem.SHOUTS),
        ("refund!!!", Problem.SHOUTS),
        ("you said the 20 EUR have been refunded", Problem.PROMISES_REFUND),
        (LONG, Problem.TOO_LONG),
    ],
)
async def test_a_draft_with_a_problem_is_repaired_by_the_next_one(text: str, problem: Problem) -> None:
    first = brief(text, policy=Policy(reply_chars=500))
    assert problem in problems_of(await drafted(first), first.context)
    second = brief(text, problem, policy=Policy(reply_chars=500))
    assert problem not in problems_of(await drafted(second), second.context)


async def test_several_problems_are_repaired_together() -> None:
    text = "I WANT MY REFUND TO DE44 5001 0517 5407 3249 31 NOW!!! " + LONG
    given = brief(text)
    problems = problems_of(await drafted(given), given.context)
    assert len(problems) >= 2
    repaired = await drafted(brief(text, *problems))
    assert problems_of(repaired, given.context) == []
    assert "5407" not in repaired


async def test_a_limit_that_no_reply_can_keep_stays_a_problem() -> None:
    policy = Policy(reply_chars=20)
    given = brief("refund", Problem.TOO_LONG, policy=policy)
    assert problems_of(await drafted(given), given.context) == [Problem.TOO_LONG]


def test_a_reply_without_source_or_signature_is_refused() -> None:
    context = brief("refund").context
    assert problems_of("Hello.", context) == [Problem.NO_SOURCE, Problem.UNSIGNED]
    assert problems_of(f"Hello. {SIGNATURE}", Context([], Policy())) == []


def test_a_message_without_an_id_gets_one_from_its_content() -> None:
    first, same, other = Message("hi"), Message("hi"), Message("hi", customer_id="c-1")
    assert first.reference == same.reference != other.reference
    assert Message("hi", id="msg-7").reference == "msg-7"
