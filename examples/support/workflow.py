"""The main job: a customer's message goes in, a reply is delivered exactly once.

    classify_request -> fetch_context -> draft_reply -> validate_output -+-> (approval) -> deliver_result
                                             ^                           |
                                             +------ at most twice ------+

Everything that is decided here is decided again the same way after a crash: the steps' recorded results come back, and
only the steps that had not finished run again.
"""

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import aob
from examples.support import settings
from examples.support.assistant import Brief, assistant
from examples.support.knowledge import knowledge_base
from examples.support.models import (
    UNCLEAR,
    Classification,
    Context,
    Draft,
    Message,
    Money,
    Outcome,
    Policy,
    RefundRequest,
    Reply,
)
from examples.support.money import amount_asked
from examples.support.outbox import Outbox, OutboxBroken
from examples.support.validation import SIGNATURE, Problem, problems_of

MAX_REPAIRS = 2
FALLBACK = "Hello,\n\nthank you for writing to us. A colleague will answer you personally.\n\n" + SIGNATURE
DECISIONS = {
    Outcome.REFUND_GRANTED: "We have agreed to refund {refund}; it will be on your account within two working days.",
    Outcome.REFUND_NOT_APPROVED: "We cannot refund {refund} without a closer look; a colleague will contact you.",
}


@aob.activity(retry=aob.Retry(initial=0.1, max_attempts=3), timeout=10)
async def classify_request(text: str) -> Classification:
    """What the message is about."""
    return await assistant().classify(text)


@aob.activity(retry=aob.Retry(initial=0.1, max_attempts=3), timeout=10)
async def fetch_context(category: str, text: str) -> Context:
    """The articles that may help, and today's policy."""
    return Context(knowledge_base().find(category, text), settings.policy())


@aob.activity(retry=aob.Retry(initial=0.5, max_attempts=5), timeout=60)
async def draft_reply(
    message: Message, classification: Classification, context: Context, problems: list[Problem]
) -> Draft:
    """A reply that avoids the problems found in earlier drafts."""
    return await assistant().draft(Brief(message, classification, context, problems))


@aob.activity(retry=aob.Retry(initial=0.1, max_attempts=3), timeout=10)
async def validate_output(draft: Draft, context: Context) -> list[Problem]:
    """What must be repaired before the draft may go out."""
    return problems_of(draft.text, context)


@aob.activity(
    retry=aob.Retry(initial=0.2, max_delay=10.0, max_attempts=10, no_retry_on=(OutboxBroken,)),
    timeout=30,
    total_timeout=600,
)
def deliver_result(reply: Reply) -> bool:
    """Put the reply into the outbox. False when an earlier attempt had done so before its worker died."""
    info = aob.info()
    return _outbox(settings.outbox_path()).deliver(info.idempotency_key, {"run_id": info.run_id, **asdict(reply)})


@cache
def _outbox(path: Path) -> Outbox:
    return Outbox(path)


@aob.workflow
async def process_customer_request(message: Message) -> Reply:
    """Answer one message; refunds above the policy's limit wait for a person."""
    classification = await classify_request(message.text)
    context = await fetch_context(classification.category, message.text)
    draft, repairs, problems = await _valid_draft(message, classification, context)
    reply = Reply(
        message_id=message.reference,
        customer_id=message.customer_id,
        category=classification.category,
        confidence=classification.confidence,
        outcome=Outcome.ASKED_BACK if classification.category == UNCLEAR else Outcome.ANSWERED,
        repairs=repairs,
        text=draft.text,
        written_by=draft.written_by,
    )
    refund = amount_asked(message.text) if classification.category == "refund" else None
    if problems:
        reply = replace(reply, outcome=Outcome.HANDED_OVER, text=FALLBACK)
    elif refund:
        reply = await _with_refund(reply, message, refund, context.policy)
    await deliver_result(reply)
    return reply


async def _valid_draft(
    message: Message, classification: Classification, context: Context
) -> tuple[Draft, int, list[Problem]]:
    """The last draft, how often it was repaired, and what is still wrong with it."""
    seen: list[Problem] = []
    repairs = 0
    while True:
        draft = await draft_reply(message, classification, context, seen)
        problems = await validate_output(draft, context)
        if not problems or repairs == MAX_REPAIRS:
            return draft, repairs, problems
        repairs += 1
        seen = seen + [problem for problem in problems if problem not in seen]


async def _with_refund(reply: Reply, message: Message, refund: Money, policy: Policy) -> Reply:
    """The reply with the decision about the refund; a person makes it when the policy does not allow it by itself."""
    outcome = Outcome.REFUND_GRANTED
    if refund.currency != "EUR" or refund.amount > policy.refund_limit:
        request = RefundRequest(message.reference, message.customer_id, message.text, refund)
        decision = await aob.approval(
            f"Refund {refund}?", data=request, type=RefundRequest, timeout=policy.approval_seconds, on_timeout="reject"
        )
        refund = decision.data.refund
        if not decision.approved:
            outcome = Outcome.REFUND_NOT_APPROVED
    sentence = DECISIONS[outcome].format(refund=refund)
    body = reply.text.rstrip().removesuffix(SIGNATURE)
    return replace(reply, outcome=outcome, text=f"{body}{sentence}\n\n{SIGNATURE}")
