"""Names that the engine makes: run ids, child ids, ticket ids, idempotency keys."""

from __future__ import annotations

import hashlib
import re

from aob.errors import BadRunId

_RUN_ID = re.compile(r"[A-Za-z0-9._\-:@+=]{1,200}", re.ASCII)
_LONGEST = 200


def check_run_id(run_id: str) -> str:
    """A run id as a caller may give it.

    Raises:
        BadRunId: it is not 1 to 200 of letters, digits and `._-:@+=`.
    """
    if not isinstance(run_id, str) or not _RUN_ID.fullmatch(run_id):  # pyright: ignore[reportUnnecessaryIsInstance]
        shown = repr(run_id)[:80]
        raise BadRunId(f"bad run id {shown}: use 1 to 200 letters, digits and ._-:@+=")
    return run_id


def storable_id(id: str) -> str:
    """The id of a command as every store can hold it: Postgres has no character 0 in its texts."""
    return id.replace("\0", "\ufffd")


def child_run_id(parent: str, name: str, k: int) -> str:
    """`{parent}~{name}.{k}`; over 200 characters the head is hashed."""
    return _head_hashed(parent, f"~{name}.{k}")


def ticket_id(run_id: str, step: str) -> str:
    """`{run_id}~{step}`; over 200 characters the head is hashed."""
    return _head_hashed(run_id, f"~{step}")


def idempotency_key(tenant: str, run_id: str, birth: str, step: str) -> str:
    """`aob/{tenant}/{run_id}/{birth}/{step}`; over 200 characters the tail becomes a hash."""
    key = f"aob/{tenant}/{run_id}/{birth}/{step}"
    if len(key) <= _LONGEST:
        return key
    return f"{key[:135]}/{hashlib.sha256(key.encode()).hexdigest()}"


def input_digest(workflow: str, input: bytes) -> bytes:
    """What tells an equal start from another one."""
    return hashlib.blake2b(workflow.encode() + b"\0" + input, digest_size=16).digest()


def _head_hashed(head: str, tail: str) -> str:
    if len(head) + len(tail) <= _LONGEST:
        return head + tail
    room = _LONGEST - len(tail) - 33
    digest = hashlib.sha256(head.encode()).hexdigest()[:32]
    if room < 0:
        return hashlib.sha256((head + tail).encode()).hexdigest()
    return f"{head[:room]}.{digest}{tail}"
