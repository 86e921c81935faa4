"""A support desk that answers every message exactly once: see README.md in this folder."""

from examples.support.models import Message, Reply
from examples.support.workflow import process_customer_request

__all__ = ["Message", "Reply", "process_customer_request"]
