"""The few settings of the example, from the environment. Read by activities alone: a workflow must not look at it."""

import os
from decimal import Decimal
from pathlib import Path

from examples.support.models import Policy

OUTBOX = "SUPPORT_OUTBOX"
REFUND_LIMIT = "SUPPORT_REFUND_LIMIT"
APPROVAL_SECONDS = "SUPPORT_APPROVAL_SECONDS"
REPLY_CHARS = "SUPPORT_REPLY_CHARS"


def outbox_path() -> Path:
    """Where replies are delivered: `SUPPORT_OUTBOX`, or outbox.jsonl in the current folder."""
    return Path(os.environ.get(OUTBOX, "outbox.jsonl"))


def policy() -> Policy:
    """The policy of today: `SUPPORT_REFUND_LIMIT` in EUR, `SUPPORT_APPROVAL_SECONDS`, `SUPPORT_REPLY_CHARS`."""
    normal = Policy()
    return Policy(
        refund_limit=Decimal(os.environ.get(REFUND_LIMIT, normal.refund_limit)),
        approval_seconds=float(os.environ.get(APPROVAL_SECONDS, normal.approval_seconds)),
        reply_chars=int(os.environ.get(REPLY_CHARS, normal.reply_chars)),
    )
