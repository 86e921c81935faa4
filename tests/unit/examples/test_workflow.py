"""The workflow in this process: which way each kind of message goes."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

import aob
import aob.testing
from examples.support import Message, Reply, process_customer_request, settings
from examples.support.assistant import LOCAL_METHOD
from examples.support.models import UNCLEAR, Outcome
from examples.support.outbox import read_records
from examples.support.validation import SIGNATURE


@pytest.fixture
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "outbox.jsonl"
    monkeypatch.setenv(settings.OUTBOX, str(path))
    monkeypatch.setenv(settings.APPROVAL_SECONDS, "600")
    return path


@pytest.fixture
async def client(outbox: Path) -> AsyncIterator[aob.Client]:
    async with aob.connect("sqlite://") as client, client.serve(process_customer_request):
        yield client


async def answer(client: aob.Client, text: str) -> Reply:
    run = await client.start(process_customer_request, Message(text, id="msg-1", customer_id="c-1"))
    return await run.result()


async def ticket_of(run: "aob.Run[Reply]", client: aob.Client) -> aob.Ticket:
    async for _ in run.events():
        if tickets := await client.tickets(run_id=run.run_id):
            return tickets[0]
    raise AssertionError("the run ended without a ticket")


async def steps_of(client: aob.Client, run_id: str) -> list[str | None]:
    run = await client.get(run_id)
    return [event.step for event in await run.history() if event.kind == "step_completed"]


async def test_a_question_is_answered_and_delivered(client: aob.Client, outbox: Path) -> None:
    reply = await answer(client, "The cash machine swallowed my card")
    assert (reply.outcome, reply.category, reply.repairs) == (Outcome.ANSWERED, "cash_withdrawal", 0)
    assert reply.written_by == LOCAL_METHOD
    (record,) = read_records(outbox)
    assert {name: record[name] for name in ("message_id", "customer_id", "outcome", "text", "written_by")} == {
        "message_id": "msg-1",
        "customer_id": "c-1",
        "outcome": "answered",
        "text": reply.text,
        "written_by": LOCAL_METHOD,
    }
    assert await steps_of(client, record["run_id"]) == [
        "classify_request#1",
        "fetch_context#1",
        "draft_reply#1",
        "validate_output#1",
        "deliver_result#1",
    ]


@pytest.mark.parametrize("text", ["", "asdf", "Wo bleibt meine Karte?"])
async def test_an_unclear_message_is_asked_back(client: aob.Client, text: str) -> None:
    reply = await answer(client, text)
    assert (reply.outcome, reply.category) == (Outcome.ASKED_BACK, UNCLEAR)


async def test_a_draft_is_repaired(client: aob.Client, outbox: Path) -> None:
    reply = await answer(client, "REFUND MY ORDER NOW!!! IBAN DE44 5001 0517 5407 3249 31")
    assert (reply.outcome, reply.repairs) == (Outcome.ANSWERED, 1)
    assert "5407" not in str(read_records(outbox))


async def test_after_two_repairs_a_person_takes_over(
    client: aob.Client, outbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(settings.REPLY_CHARS, "20")
    reply = await answer(client, "Please refund 20 EUR for the broken kettle")
    assert (reply.outcome, reply.repairs) == (Outcome.HANDED_OVER, 2)
    assert "colleague" in reply.text
    (record,) = read_records(outbox)
    assert [step for step in await steps_of(client, record["run_id"]) if "draft" in str(step)] == [
        "draft_reply#1",
        "draft_reply#2",
        "draft_reply#3",
    ]


@pytest.mark.parametrize("amount", ["0.50", "49.99", "50"])
async def test_a_refund_up_to_the_limit_is_granted(client: aob.Client, amount: str) -> None:
    reply = await answer(client, f"Please refund {amount} EUR for the broken kettle")
    assert reply.outcome == Outcome.REFUND_GRANTED
    assert f"refund {Decimal(amount):.2f} EUR" in reply.text
    assert reply.text.endswith(SIGNATURE)
    assert await client.tickets(status=None) == []


async def test_a_refund_without_an_amount_is_only_answered(client: aob.Client) -> None:
    assert (await answer(client, "Please refund the broken kettle")).outcome == Outcome.ANSWERED


async def test_an_amount_in_another_matter_is_no_refund(client: aob.Client) -> None:
    reply = await answer(client, "My top-up of 400 EUR failed")
    assert (reply.category, reply.outcome) == ("top_up", Outcome.ANSWERED)


@pytest.mark.parametrize("money", ["50.01 EUR", "$5", "5 pounds"])
async def test_above_the_limit_or_in_another_currency_a_person_is_asked(client: aob.Client, money: str) -> None:
    run = await client.start(process_customer_request, Message(f"Please refund {money} for the broken kettle"))
    ticket = await ticket_of(run, client)
    assert ticket.data["text"] == f"Please refund {money} for the broken kettle"
    await client.decide(ticket.id, True, by="ada", reason="fine")
    assert (await run.result()).outcome == Outcome.REFUND_GRANTED


async def test_a_person_may_say_no(client: aob.Client, outbox: Path) -> None:
    run = await client.start(process_customer_request, Message("Please refund 80 EUR for the broken kettle"))
    await client.decide((await ticket_of(run, client)).id, False, by="ada", reason="too old")
    reply = await run.result()
    assert reply.outcome == Outcome.REFUND_NOT_APPROVED
    assert "cannot refund 80.00 EUR" in reply.text
    assert len(read_records(outbox)) == 1


async def test_a_person_may_change_the_amount(client: aob.Client) -> None:
    run = await client.start(process_customer_request, Message("Please refund 80 EUR for the broken kettle"))
    ticket = await ticket_of(run, client)
    edited = json.loads(json.dumps(ticket.data)) | {"refund": {"amount": "30", "currency": "EUR"}}
    await client.decide(ticket.id, True, by="ada", data=edited)
    assert "agreed to refund 30.00 EUR" in (await run.result()).text


async def test_nobody_in_time_means_no(client: aob.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.APPROVAL_SECONDS, "0.05")
    reply = await answer(client, "Please refund 80 EUR for the broken kettle")
    assert reply.outcome == Outcome.REFUND_NOT_APPROVED
    (ticket,) = await client.tickets(status=None)
    assert ticket.status == "expired"


async def test_a_row_of_a_file_is_a_message(outbox: Path) -> None:
    rows = [{"text": "My card was stolen", "category": "x"}, {"text": "My card was stolen", "id": "7", "row": "2"}]
    store = f"sqlite:///{outbox.with_suffix('.db')}"
    async with aob.connect(store) as client, aob.connect(store) as worker, worker.serve(process_customer_request):
        for run in await client.start_many("process_customer_request", rows):
            await run.result()
    found = {record["message_id"] for record in read_records(outbox)}
    assert found == {"7", Message("My card was stolen").reference}


@pytest.mark.parametrize(
    "text", ["The cash machine swallowed my card", "REFUND 80 EUR NOW!!!", "Please refund 20 EUR for the broken kettle"]
)
async def test_killed_at_every_write_it_delivers_the_same_reply_once(outbox: Path, text: str) -> None:
    crashes = await aob.testing.crash_everywhere(process_customer_request, Message(text, id="msg-1"))
    assert crashes.kills > crashes.points > 5
    records = read_records(outbox)
    # A run whose start was not durable is born anew, with other keys; all lives of one birth share theirs.
    births = [record["key"].split("/")[3] for record in records]
    assert len(set(births)) == len(births) == 2
    assert len({record["text"] for record in records}) == 1
