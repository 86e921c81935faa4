"""Errors as values: recorded once, raised again from the record, the same live as on replay."""

from __future__ import annotations

import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from copy import deepcopy
from types import FrameType, TracebackType
from typing import Any, cast

import msgspec

from aob.errors import ActivityFailed, AobError, NonRetryable
from aob.kernel.codec_value import codec_for

MAX_CAUSES = 8
MAX_MESSAGE = 16 * 1024
MAX_TRACEBACK = 4 * 1024
MAX_ARGS = 64 * 1024
MAX_INNER = 8
_MAX_FRAMES = 64
_CUT = " … (cut)"
_LEFT_OUT = "  …\n"
_NEVER_RAISED = (StopIteration, StopAsyncIteration)  # a coroutine cannot raise these

_anything = codec_for(Any, "an error")


class Failure(msgspec.Struct, omit_defaults=True, frozen=True):
    """An error as it is recorded.

    Args:
        type: the error's class, `module:QualName`.
        message: its text, at most 16 KiB.
        args: its arguments, where they are plain JSON values.
        state: its other attributes, as far as they are plain JSON values.
        partial: whether attributes were left out of `state`.
        cause: the error behind it.
        inner: the errors inside of an exception group.
        traceback: where it was raised, innermost frames last, at most 4 KiB.
        non_retryable: whether it is a `NonRetryable`.
        code: the stable code of an `AobError`.
    """

    type: str
    message: str = ""
    args: list[Any] | None = None
    state: dict[str, Any] | None = None
    partial: bool = False
    cause: Failure | None = None
    inner: tuple[Failure, ...] = ()
    traceback: str = ""
    non_retryable: bool = False
    code: str | None = None


def capture(exc: BaseException) -> Failure:
    """An error as a value. Never raises, whatever the error's own methods do.

    An error that `restore` made is recognised: what comes out is the original again, with the new frames in front.
    """
    try:
        return _capture(exc, MAX_CAUSES, frozenset())
    except Exception:  # attributes can be properties that raise
        return Failure(type=_type_name(exc), message=_message(exc), partial=True, traceback=_frames(exc))


def restore(failure: Failure) -> BaseException:
    """The error to raise for a record: its own type where that class is loaded and can be rebuilt, with
    `ActivityFailed` as its `__cause__`; else `ActivityFailed` itself, whose own `__cause__` is the recorded cause.

    Only classes of modules that are already imported are looked up, and only subclasses of `Exception` are made.
    """
    carrier = ActivityFailed(
        failure.message, type=failure.type, traceback=failure.traceback, original_code=failure.code
    )
    vars(carrier)["failure"] = failure
    if failure.cause is not None:
        carrier.__cause__ = restore(failure.cause)
    original = _rebuilt(failure)
    if original is None:
        return carrier
    original.__cause__ = carrier
    return original


def render(failure: Failure) -> str:
    """A record as text for people: type, message, where it was raised, and what caused it."""
    return "\n".join(_lines(failure, ""))


def _lines(failure: Failure, lead: str) -> Iterator[str]:
    name = failure.type.replace(":", ".").removeprefix("builtins.")
    yield f"{lead}{name}: {failure.message}" if failure.message else lead + name
    if failure.traceback:
        yield failure.traceback.rstrip("\n")
    for inner in failure.inner:
        yield from _lines(inner, "with ")
    if failure.cause is not None:
        yield from _lines(failure.cause, "caused by ")


def _capture(exc: BaseException, depth: int, seen: frozenset[int]) -> Failure:
    origin, text = _origin(exc), _frames(exc)
    if origin is not None:
        both = f"{text}\n{origin.traceback}" if text and origin.traceback else text or origin.traceback
        return msgspec.structs.replace(origin, traceback=_bounded_end(both))
    seen |= {id(exc)}
    cause, inner, (args, room), (state, partial) = (
        _cause(exc),
        _inner(exc),
        _plain(_arguments(exc), MAX_ARGS),
        _state(exc),
    )
    return Failure(
        type=_type_name(exc),
        message=_message(exc),
        args=args if room >= 0 else None,
        state=state,
        partial=partial or len(inner) > MAX_INNER,
        cause=_capture(cause, depth - 1, seen) if cause is not None and depth > 1 and id(cause) not in seen else None,
        inner=tuple(_capture(item, depth - 1, seen) for item in inner[:MAX_INNER]) if depth > 1 else (),
        traceback=text,
        non_retryable=isinstance(exc, NonRetryable),
        code=type(exc).code if isinstance(exc, AobError) else None,
    )


def _type_name(exc: BaseException) -> str:
    return f"{type(exc).__module__}:{type(exc).__qualname__}"


def _origin(exc: BaseException) -> Failure | None:
    """The record that an error was restored from, unchanged since."""
    carrier = exc if isinstance(exc, ActivityFailed) else exc.__cause__
    failure = vars(carrier).get("failure") if isinstance(carrier, ActivityFailed) else None
    if not isinstance(failure, Failure) or (carrier is not exc and _type_name(exc) != failure.type):
        return None
    return failure if _message(exc) == failure.message or _says_where(exc, failure) else None


def _says_where(exc: BaseException, failure: Failure) -> bool:
    """Whether the text of one of our errors differs only in the run or step that it was given since."""
    if not isinstance(exc, AobError):
        return False
    said = failure.message if isinstance(exc, ActivityFailed) else (failure.state or {}).get("message")
    return exc.message == said


def _arguments(exc: BaseException) -> list[Any]:
    """What to make it from again: its `args`, and the file names that `OSError` keeps beside them."""
    if isinstance(exc, OSError) and exc.filename is not None:
        more = [exc.filename] if exc.filename2 is None else [exc.filename, None, exc.filename2]
        return [*exc.args, *more]
    return list(exc.args)


def _cause(exc: BaseException) -> BaseException | None:
    return exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)


def _inner(exc: BaseException) -> tuple[BaseException, ...]:
    return cast("BaseExceptionGroup[BaseException]", exc).exceptions if isinstance(exc, BaseExceptionGroup) else ()


def _message(exc: BaseException) -> str:
    try:
        text = str(exc)
    except Exception:  # a broken __str__ of the user's
        text = f"<{type(exc).__qualname__} whose text cannot be had>"
    data = text.encode("utf-8", "replace")
    return data.decode() if len(data) <= MAX_MESSAGE else data[:MAX_MESSAGE].decode("utf-8", "ignore") + _CUT


def _plain(value: object, room: int) -> tuple[Any, int]:
    """A JSON copy of a value and the room that is left after it, which is below 0 where there is no such copy."""
    try:
        data, copy = _anything.encode_checked(value)
    except Exception:
        return None, -1
    return copy, room - len(data)


def _state(exc: BaseException) -> tuple[dict[str, Any] | None, bool]:
    kept: dict[str, Any] = {}
    partial, room = False, MAX_ARGS
    for name, value in sorted(vars(exc).items()):
        copy, left = _plain(value, room)
        if left >= 0:
            kept[name], room = copy, left
        elif not isinstance(value, Failure):
            partial = True
    return kept or None, partial


def _frames(exc: BaseException) -> str:
    """The frames of user code, as many of the innermost as fit."""
    try:
        frames = deque(_own_frames(exc.__traceback__), maxlen=_MAX_FRAMES + 1)
        cut = len(frames) > _MAX_FRAMES and frames.popleft()
        text = "".join(traceback.StackSummary.extract(frames).format())
        return _bounded_end(_LEFT_OUT + text if cut else text)
    except Exception:  # reading source lines runs loaders, which may be the user's
        return ""


def _own_frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    for frame, line in traceback.walk_tb(trace):
        module = str(frame.f_globals.get("__name__", ""))
        if module != "aob" and not module.startswith("aob."):
            yield frame, line


def _bounded_end(text: str) -> str:
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_TRACEBACK:
        return data.decode()
    return _LEFT_OUT + data[-MAX_TRACEBACK + 8 :].decode("utf-8", "ignore").partition("\n")[2]


def _rebuilt(failure: Failure) -> BaseException | None:
    """The error in its own type, if it comes out with the same arguments and the same text."""
    kind = _loaded_class(failure.type)
    if kind is None:
        return None
    for make in (_constructed, _bare):
        try:
            exc = make(kind, failure)
            if exc is not None and type(exc) is kind and _message(exc) == failure.message:
                return exc
        except Exception:  # constructors of users want other arguments
            continue
    return None


def _constructed(kind: type[Exception], failure: Failure) -> Exception | None:
    if failure.inner:
        return _group(kind, failure)
    if failure.args is None:
        return None
    args = tuple(_own_copy(failure.args))
    exc = kind(*args)
    vars(exc).update(_own_copy(failure.state))
    return exc if _arguments(exc) == failure.args else None


def _group(kind: type[Exception], failure: Failure) -> Exception | None:
    if failure.partial or not issubclass(kind, ExceptionGroup):
        return None
    text = failure.message.rpartition(" (")[0]  # without "(2 sub-exceptions)"
    exc = cast("Callable[..., Exception]", kind)(text, [restore(item) for item in failure.inner])
    vars(exc).update(_own_copy(failure.state))
    return exc


def _bare(kind: type[Exception], failure: Failure) -> Exception | None:
    """Made without its constructor, where that takes something else than `args`; all attributes are recorded."""
    if failure.args is None or failure.partial:
        return None
    args = tuple(_own_copy(failure.args))
    exc = kind.__new__(kind, *args)
    exc.args = args
    vars(exc).update(_own_copy(failure.state))
    return exc


def _own_copy(recorded: Any) -> Any:
    """A copy for the error to keep: whatever its owner does to it, the record stays as it is."""
    return deepcopy(recorded) if recorded else {}


def _loaded_class(name: str) -> type[Exception] | None:
    """An exception class by its recorded name, among what is loaded; runs no code of any module."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        if found is None or not (isinstance(found, type) or found is sys.modules.get(module)):
            return None
        found = vars(found).get(part)
    usable = isinstance(found, type) and issubclass(found, Exception) and not issubclass(found, _NEVER_RAISED)
    return cast("type[Exception]", found) if usable else None
