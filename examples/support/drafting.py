"""Replies from templates: the local stand-in for what a language model would write."""

import re
from collections.abc import Sequence

from examples.support.models import UNCLEAR, Classification, Context, Message
from examples.support.validation import PERSONAL, PROMISE, SHOUT, SIGNATURE, Problem

QUOTED_CHARS = 160
UPSET = re.compile(
    r"!{2,}|\b(?:angry|annoy\w*|awful|disgrac\w*|fed up|furious|horrible|joke|last time|rubbish|ridiculous|scam\w*|"
    r"terrible|unacceptable|useless|worst)\b",
    re.IGNORECASE,
)


def compose(message: Message, classification: Classification, context: Context, problems: Sequence[Problem]) -> str:
    """A reply to `message` from the context's articles, avoiding the `problems` that earlier drafts had."""
    paragraphs = ["Hello,", _opening(message.text), _quotation(message.text, problems)]
    if classification.category == UNCLEAR:
        paragraphs.append("We are not sure what you need. Could you tell us in a sentence or two, in English, please?")
    articles = context.articles[:1] if Problem.TOO_LONG in problems else context.articles
    paragraphs += [f"{article.body} ({article.id})" for article in articles]
    paragraphs.append(SIGNATURE)
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _opening(text: str) -> str:
    if UPSET.search(text) or SHOUT.search(text):
        return "we are sorry for the trouble, and understand that you are upset."
    return "thank you for writing to us."


def _quotation(text: str, problems: Sequence[Problem]) -> str:
    """The start of what the customer wrote, made harmless where a draft was refused for it."""
    quoted = " ".join(text.split())
    if len(quoted) > QUOTED_CHARS:
        quoted = quoted[:QUOTED_CHARS].rsplit(" ", 1)[0] + " …"
    if Problem.PERSONAL_DATA in problems:
        quoted = PERSONAL.sub("[removed]", quoted)
    if Problem.SHOUTS in problems:
        quoted = re.sub(r"!+", "!", quoted).capitalize()
    if Problem.PROMISES_REFUND in problems and PROMISE.search(quoted):
        return ""
    return f'You wrote: "{quoted}"' if quoted else ""
