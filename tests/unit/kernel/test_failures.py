"""Errors are recorded once and come back equal, as their own type where it can be rebuilt."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import msgspec
import pytest

import aob.errors
from aob.errors import ActivityFailed, BudgetExhausted, NonRetryable, RunExists
from aob.kernel.failures import (
    MAX_CAUSES,
    MAX_INNER,
    MAX_MESSAGE,
    MAX_TRACEBACK,
    Failure,
    capture,
    render,
    restore,
)
from tests.unit.kernel.shapes import Broken, Declined, Holder, Hostile, NotAnError, Unloadable


def raised(exc: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise exc from cause
    except BaseException as caught:
        return caught


def recorded(exc: BaseException) -> Failure:
    """The failure as it comes back from the store."""
    return msgspec.json.decode(msgspec.json.encode(capture(exc)), type=Failure)


REBUILT: list[BaseException] = [
    ValueError("no", 3, None, [1.5]),
    KeyError("k"),
    OSError(2, "No such file"),
    FileNotFoundError(2, "gone", "name"),
    OSError(18, "cross-device", "a", None, "b"),
    Broken(),
    Declined(7, "stolen"),
    RunExists("taken", run_id="r-1"),
    BudgetExhausted("enough", limit="steps", step="a#1"),
    NonRetryable("stop"),
    UnicodeEncodeError("ascii", "ü", 0, 1, "ordinal"),
    ZeroDivisionError(),
    TimeoutError("late"),
    ImportError("no module"),
    aob.errors.HeartbeatTimeout("silent"),
    Holder(5),
    RuntimeError("x" * 20_000),
]


@pytest.mark.parametrize("exc", REBUILT, ids=lambda exc: type(exc).__name__)
def test_an_error_comes_back_as_its_own_type(exc: Any) -> None:
    again = restore(recorded(raised(exc)))
    assert type(again) is type(exc)
    assert isinstance(again, Exception) and again.args == exc.args and capture(again).message == capture(exc).message
    own = {name: value for name, value in vars(exc).items() if name != "thing"}
    assert own == {name: value for name, value in vars(again).items() if name != "thing"}
    carrier = again.__cause__
    assert isinstance(carrier, ActivityFailed) and carrier.type.endswith(type(exc).__qualname__)
    assert "in raised" in carrier.traceback


class TestActivityFailed:
    """What cannot be rebuilt comes as `ActivityFailed`."""

    @pytest.mark.parametrize(
        "exc",
        [
            Unloadable(object()),
            type("Local", (Exception,), {"__qualname__": "f.<locals>.Local"})("x"),
            KeyboardInterrupt("stop"),
            asyncio.CancelledError(),
            StopIteration(3),
            ValueError(object()),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        ],
        ids=lambda exc: type(exc).__name__,
    )
    def test_it_carries_the_record(self, exc: BaseException) -> None:
        failure = recorded(raised(exc))
        again = restore(failure)
        assert type(again) is ActivityFailed
        assert again.type == failure.type == f"{type(exc).__module__}:{type(exc).__qualname__}"
        assert again.message == failure.message
        assert "in raised" in again.traceback

    def test_its_cause_is_the_recorded_cause(self) -> None:
        again = restore(recorded(raised(Unloadable(1j), raised(KeyError("inner")))))
        assert isinstance(again, ActivityFailed) and isinstance(again.__cause__, KeyError)

    @pytest.mark.parametrize(
        "name",
        [
            "tests.unit.kernel.shapes:NotAnError",
            "builtins:int",
            "builtins:print",
            "os:system",
            "not.imported.anywhere:Error",
            "antigravity:Error",
            "builtins:ValueError.__init__",
            "builtins:KeyboardInterrupt",
            "no colon",
            "",
            ":",
        ],
    )
    def test_only_loaded_exception_classes_are_made(self, name: str) -> None:
        NotAnError.made = 0
        again = restore(Failure(type=name, message="m", args=["echo"]))
        assert type(again) is ActivityFailed and again.type == name
        assert NotAnError.made == 0


def test_the_code_of_an_aob_error_is_kept() -> None:
    failure = recorded(RunExists("taken", run_id="r-1"))
    assert failure.code == "run_exists" and not failure.non_retryable
    carrier = restore(failure).__cause__
    assert isinstance(carrier, ActivityFailed) and carrier.original_code == "run_exists"
    assert recorded(NonRetryable("stop")).non_retryable


def test_causes_are_recorded_in_order() -> None:
    failure = recorded(raised(ValueError("outer"), raised(KeyError("middle"), raised(OSError(5, "disk")))))
    assert failure.cause and failure.cause.cause
    assert [failure.type, failure.cause.type, failure.cause.cause.type] == [
        "builtins:ValueError",
        "builtins:KeyError",
        "builtins:OSError",
    ]
    again = restore(failure)
    carrier = again.__cause__
    assert carrier and isinstance(carrier.__cause__, KeyError)


def test_an_error_while_handling_another_keeps_it_unless_told_not_to() -> None:
    def fail(*, quietly: bool) -> None:
        try:
            raise KeyError("first")
        except KeyError:
            if quietly:
                raise ValueError("second") from None
            raise ValueError("second")  # noqa: B904

    for quietly in (True, False):
        with pytest.raises(ValueError, match="second") as caught:
            fail(quietly=quietly)
        assert (capture(caught.value).cause is None) is quietly


def test_long_and_circular_chains_end() -> None:
    exc: BaseException = ValueError("0")
    for number in range(1, 50):
        exc = raised(ValueError(str(number)), exc)
    depth, failure = 0, capture(exc)
    while failure:
        depth, failure = depth + 1, failure.cause
    assert depth == MAX_CAUSES
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert capture(first).cause == Failure(type="builtins:ValueError", message="b", args=["b"])


def test_groups_come_back_with_what_is_inside() -> None:
    group = ExceptionGroup("several", [ValueError("a"), ExceptionGroup("more", [Declined(1, "b")])])
    again = restore(recorded(raised(group)))
    assert isinstance(again, ExceptionGroup) and str(again) == str(group)
    assert again.subgroup(Declined) and again.subgroup(ValueError)
    huge = ExceptionGroup("huge", [ValueError(str(number)) for number in range(MAX_INNER + 1)])
    assert type(restore(recorded(huge))) is ActivityFailed


def test_messages_are_bounded_and_valid_text() -> None:
    failure = recorded(ValueError("ü" * MAX_MESSAGE))
    assert len(failure.message.encode()) < MAX_MESSAGE + 20 and failure.message.endswith("(cut)")
    assert type(restore(failure)) is ValueError
    assert recorded(ValueError("bad \ud800 text")).message == "bad ? text"
    assert recorded(Broken()).message == "<Broken whose text cannot be had>"
    enormous = recorded(ValueError("x" * 100_000))
    assert enormous.args is None and type(restore(enormous)) is ActivityFailed


def deep(levels: int) -> None:
    if not levels:
        raise ValueError("at the bottom")
    deep(levels - 1)


def test_tracebacks_are_bounded_and_keep_the_innermost_frames() -> None:
    chain = "\n".join(f"def f{n}(): f{n + 1}()" for n in range(300)) + "\ndef f300(): fail()\nf0()"
    with pytest.raises(ValueError, match="bottom") as caught:
        exec(chain, {"fail": lambda: deep(3)})
    text = capture(caught.value).traceback
    assert len(text.encode()) <= MAX_TRACEBACK
    assert text.rstrip().endswith('raise ValueError("at the bottom")')
    assert text.startswith("  …\n") and "in f0" not in text and "in f300" in text


def test_frames_of_the_engine_are_left_out() -> None:
    space: dict[str, Any] = {"__name__": "aob.engine.made_up", "deep": deep}
    exec("def engine_frame():\n    deep(1)", space)
    beside: dict[str, Any] = {"__name__": "aobabo", "inside": space["engine_frame"]}
    exec("def user_frame():\n    inside()", beside)
    with pytest.raises(ValueError, match="bottom") as caught:
        beside["user_frame"]()
    text = capture(caught.value).traceback
    assert "engine_frame" not in text and "user_frame" in text and "in deep" in text


@pytest.mark.parametrize("exc", [ValueError("x"), Unloadable(1), Declined(1, "y")], ids=lambda exc: type(exc).__name__)
def test_an_error_that_passes_through_is_recorded_as_it_was(exc: BaseException) -> None:
    first = recorded(raised(exc, raised(KeyError("cause"))))
    second = recorded(restore(first))
    assert second == first
    third = recorded(_raised_again(second))
    assert msgspec.structs.replace(third, traceback="") == msgspec.structs.replace(first, traceback="")
    assert third.traceback.endswith(first.traceback) and "_raised_again" in third.traceback


def _raised_again(failure: Failure) -> BaseException:
    try:
        raise restore(failure)
    except Exception as caught:
        return caught


def test_a_new_error_of_the_same_type_is_not_taken_for_the_old() -> None:
    carrier = restore(recorded(ValueError("old"))).__cause__
    failure = capture(raised(ValueError("new"), carrier))
    assert failure.message == "new" and failure.cause and failure.cause.message == "old"


def test_attributes_that_raise_are_no_error_of_ours() -> None:
    failure = recorded(raised(Hostile(2, "gone")))
    assert failure.message == "hostile" and "in raised" in failure.traceback
    assert type(restore(failure)) is ActivityFailed


def test_notes_come_back() -> None:
    exc = ValueError("x")
    exc.add_note("seen at the door")
    assert "seen at the door" in "".join(traceback.format_exception_only(restore(recorded(exc))))


def test_people_can_read_it() -> None:
    text = render(recorded(raised(Declined(7, "stolen"), raised(KeyError("k")))))
    lines = text.splitlines()
    assert lines[0] == "tests.unit.kernel.shapes.Declined: declined: stolen"
    assert "caused by KeyError: 'k'" in lines
    assert sum("in raised" in line for line in lines) == 2
    grouped = render(recorded(ExceptionGroup("g", [ValueError("a")])))
    assert grouped.splitlines() == ["ExceptionGroup: g (1 sub-exception)", "with ValueError: a"]


def test_a_record_is_small_when_there_is_little_to_say() -> None:
    assert msgspec.json.encode(capture(ValueError("x"))) == b'{"type":"builtins:ValueError","message":"x","args":["x"]}'
