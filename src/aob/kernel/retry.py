"""When to try again: `min(initial * factor**n, max_delay)`, n from 0, spread by jitter."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec

from aob.errors import BadDefinition, NonRetryable
from aob.kernel.failures import Failure


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How an activity is tried again.

    Args:
        initial: seconds (or a timedelta) before the second attempt.
        factor: each delay is the one before times this.
        max_delay: the longest delay, seconds or a timedelta.
        max_attempts: attempts in all; 0 is without limit.
        jitter: each delay is multiplied by a random number between `1 - jitter` and `1 + jitter`, then capped.
        no_retry_on: exception types (or names) that are final at once.
        per_error: another `Retry` for some exception types (or names); the most derived one counts.

    Raises:
        BadDefinition: a number is out of range.
    """

    initial: float | timedelta = 1.0
    factor: float = 2.0
    max_delay: float | timedelta = 60.0
    max_attempts: int = 5
    jitter: float = 0.1
    no_retry_on: tuple[type[BaseException] | str, ...] = ()
    per_error: Mapping[type[BaseException] | str, Retry] = {}

    def __post_init__(self) -> None:
        if _seconds(self.initial) < 0 or self.factor < 1 or _seconds(self.max_delay) < 0 or self.max_attempts < 0:
            raise BadDefinition("Retry: initial and max_delay must be >= 0, factor >= 1, max_attempts >= 0")
        if not 0 <= self.jitter <= 1:
            raise BadDefinition(f"Retry: jitter must be between 0 and 1, not {self.jitter}")


def delay_us(retry: Retry, n: int, unit: float) -> int:
    """Microseconds to wait after the failure with index `n` (0 is the first).

    Args:
        unit: a uniform random number in [0, 1), drawn by the caller.
    """
    longest = _seconds(retry.max_delay)
    try:
        delay = min(_seconds(retry.initial) * retry.factor**n, longest)
    except OverflowError:
        delay = longest
    spread = 1 + retry.jitter * (2 * unit - 1)
    return round(min(delay * spread, longest) * 1_000_000)


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value


def policy_for(retry: Retry | None, error: BaseException) -> Retry | None:
    """The policy that applies to this error; None when it is final."""
    if retry is None or isinstance(error, NonRetryable):
        return None
    if any(_matches(error, t) for t in retry.no_retry_on):
        return None
    for cls in type(error).__mro__:
        for key, special in retry.per_error.items():
            if key is cls or key in (cls.__name__, f"{cls.__module__}:{cls.__qualname__}"):
                return special
    return retry


def next_due(
    retry: Retry | None, failure: Failure, error: BaseException, attempt: int, now: int, unit: float
) -> int | None:
    """When to start the next attempt, microseconds since 1970, or None when attempt number `attempt` was the last."""
    if failure.non_retryable:
        return None
    policy = policy_for(retry, error)
    if policy is None or (policy.max_attempts and attempt >= policy.max_attempts):
        return None
    return now + delay_us(policy, attempt - 1, unit)


def _matches(error: BaseException, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return any(wanted in (c.__name__, f"{c.__module__}:{c.__qualname__}") for c in type(error).__mro__)
    return isinstance(error, wanted)
