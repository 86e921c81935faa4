"""Texts that callers give as names, ids and reasons: whether they can be written down."""

from __future__ import annotations

from aob.errors import BadInput


def check_text(what: str, *given: str | None) -> None:
    """Refuse a text with a lone surrogate, which UTF-8 has no form for: no store could keep it.

    Args:
        what: the text is, for the message.

    Raises:
        BadInput: one has such a character.
    """
    for text in given:
        if text is None or text.isascii():
            continue
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadInput(f"{what}: {text[:80]!r} has a lone surrogate, which is no valid text") from None
