"""When an activity is tried again: `min(initial * factor**n, max_delay)`, spread by jitter; which policy counts."""

from datetime import timedelta

import pytest
from hypothesis import given, strategies as st

import aob
from aob.kernel.failures import capture
from aob.kernel.retry import delay_us, next_due, policy_for

STEADY = aob.Retry(initial=1.0, factor=2.0, max_delay=60.0, max_attempts=0, jitter=0.0)
NOW = 1_000_000


@pytest.mark.parametrize(("n", "seconds"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (7, 60), (100_000, 60)])
def test_delays_grow_by_the_factor_up_to_the_longest(n: int, seconds: int) -> None:
    assert delay_us(STEADY, n, 0.5) == seconds * 1_000_000


@given(n=st.integers(0, 50), unit=st.floats(0, 1, exclude_max=True), jitter=st.floats(0, 1))
def test_jitter_spreads_a_delay_around_itself_and_never_over_the_longest(n: int, unit: float, jitter: float) -> None:
    spread = aob.Retry(initial=1.0, factor=2.0, max_delay=60.0, jitter=jitter)
    plain = delay_us(STEADY, n, 0.5)
    assert plain * (1 - jitter) - 1 <= delay_us(spread, n, unit) <= min(plain * (1 + jitter), 60_000_000) + 1


def test_delays_may_be_timedeltas() -> None:
    plain, other = aob.Retry(initial=90, max_delay=300, jitter=0), timedelta(minutes=1.5)
    given = aob.Retry(initial=other, max_delay=timedelta(minutes=5), jitter=0)
    assert [delay_us(given, n, 0.5) for n in range(4)] == [delay_us(plain, n, 0.5) for n in range(4)]
    with pytest.raises(aob.BadDefinition):
        aob.Retry(max_delay=timedelta(seconds=-1))


def test_jitter_reaches_both_sides() -> None:
    spread = aob.Retry(initial=10.0, jitter=0.1)
    assert delay_us(spread, 0, 0.0) == 9_000_000
    assert delay_us(spread, 0, 1.0) == 11_000_000


def test_the_policy_of_the_most_derived_error_counts() -> None:
    lookup, key = aob.Retry(initial=3), aob.Retry(initial=5)
    policy = aob.Retry(per_error={LookupError: lookup, KeyError: key, "builtins:OSError": STEADY})
    assert policy_for(policy, KeyError()) is key
    assert policy_for(policy, IndexError()) is lookup
    assert policy_for(policy, ConnectionResetError()) is STEADY
    assert policy_for(policy, ValueError()) is policy


def test_what_is_final_at_once() -> None:
    class Declined(aob.NonRetryable):
        pass

    policy = aob.Retry(no_retry_on=(ValueError, "KeyError"), per_error={ValueError: STEADY})
    assert policy_for(None, RuntimeError()) is None
    assert policy_for(policy, UnicodeDecodeError("utf-8", b"", 0, 1, "x")) is None
    assert policy_for(policy, KeyError()) is None
    assert policy_for(policy, Declined()) is None
    assert policy_for(policy, IndexError()) is policy


def test_attempts_are_counted_and_none_means_the_last() -> None:
    error = RuntimeError("down")
    twice = aob.Retry(initial=1, jitter=0, max_attempts=2)
    assert next_due(twice, capture(error), error, 1, NOW, 0.5) == NOW + 1_000_000
    assert next_due(twice, capture(error), error, 2, NOW, 0.5) is None
    assert next_due(STEADY, capture(error), error, 1_000, NOW, 0.5) == NOW + 60_000_000


@pytest.mark.parametrize(
    "wrong", [{"initial": -1}, {"factor": 0.5}, {"max_delay": -1}, {"max_attempts": -1}, {"jitter": 1.5}]
)
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(aob.BadDefinition, match="Retry"):
        aob.Retry(**wrong)
