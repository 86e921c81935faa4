"""Finding which field of a value does not round-trip, and saying what to do about it. Not on the hot path."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple, cast

import msgspec

from aob.kernel.codec_types import is_model
from aob.kernel.codec_wire import encode, encode_fast, segment

_TYPED = "annotate it with its type (a dataclass, TypedDict or pydantic model around it will do), or convert it"


class Problem(NamedTuple):
    """Where a value fails (`$.items[0]`), what is found there, and what to do."""

    path: str
    text: str
    advice: str


TOO_DEEP = Problem("$", "is nested too deeply, or contains itself", "flatten it, or refer to parts by an id")


def name_of(value: object) -> str:
    """The type of a value, for a message: bare for builtins, else with its module."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def children(value: Any) -> dict[Any, Any] | None:
    """The parts of a container by key, index or field; None for a leaf."""
    if isinstance(value, dict):
        return cast("dict[Any, Any]", value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return dict(enumerate(cast("list[Any]", value)))
    if isinstance(value, type):
        return None
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if is_model(type(value)):
        fields: list[str] = [*getattr(value, "__pydantic_fields__", ()), *(value.model_extra or ())]
        return {name: getattr(value, name, None) for name in fields}
    return None


def unencodable(value: Any, path: str = "$") -> Problem | None:
    """The first part that has no JSON form by itself."""
    if isinstance(value, float) and not math.isfinite(value):
        return _no_number(value, path)
    if isinstance(value, str) and not _is_text(value):
        advice = 'clean it, for instance with text.encode("utf-8", "replace").decode()'
        return Problem(path, "has a lone surrogate, which is no valid text", advice)
    below = children(value)
    if below is None:
        return _leaf_problem(value, path)
    for key, item in below.items():
        if problem := _key_problem(key, path):
            return problem
        if problem := unencodable(item, path + segment(key)):
            return problem
    return None


def _no_number(value: float, path: str) -> Problem:
    return Problem(path, f"is {value}, and JSON has no such number", "use None or a string")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _key_problem(key: object, path: str) -> Problem | None:
    if isinstance(key, str):
        text = f"has the key {key!r} with a lone surrogate"
        return None if _is_text(key) else Problem(path, text, "use valid text as keys")
    try:
        encode({key: None})
    except Exception:
        return Problem(path, f"has the key {key!r} of type {name_of(key)}, which has no JSON form", "use str keys")
    return None


def _leaf_problem(value: Any, path: str) -> Problem | None:
    try:
        encode(value)
    except RecursionError:
        raise
    except Exception as exc:  # pydantic and the user's own serializers raise what they like
        advice = "use plain data instead (an id, a path, a dataclass), or convert it"
        return Problem(path, f"is of type {name_of(value)} and has no JSON form ({exc})", advice)
    return None


def difference(value: Any, back: Any, path: str = "$") -> Problem | None:
    """The first part of `value` that is something else in `back`, which came out."""
    below, below_back = children(value), children(back)
    if below is None or below_back is None or not _same_kind(value, back):
        return None if _same_leaf(value, back) else _changed(value, back, path)
    if isinstance(value, (set, frozenset)):
        return None if value == back else _changed(value, back, path)
    for key, item in below.items():
        if key not in below_back:
            return _lost_key(key, path)
        if problem := difference(item, below_back[key], path + segment(key)):
            return problem
    return None if len(below) == len(below_back) else Problem(path, "came back with more fields", _TYPED)


def _same_kind(value: Any, back: Any) -> bool:
    if type(value) is type(back):
        return True
    return any(isinstance(value, kind) and isinstance(back, kind) for kind in (dict, list, (set, frozenset)))


def _same_leaf(value: Any, back: Any) -> bool:
    try:
        if bool(back == value):
            return True
    except RecursionError:
        raise
    except Exception:  # __eq__ is the user's, and Decimal("sNaN") raises too
        return type(value) is type(back) and encode_fast(value) == encode_fast(back)
    return type(value) is type(back) and encode_fast(value) == encode_fast(back)


def _changed(value: Any, back: Any, path: str) -> Problem:
    if isinstance(value, float) and not math.isfinite(value):
        return _no_number(value, path)
    if type(value) is type(back):
        return Problem(
            path, f"is of type {name_of(value)} and came back unequal", "give it fields that are all recorded"
        )
    return Problem(path, f"is of type {name_of(value)} and would come back as {name_of(back)}", _TYPED)


def _lost_key(key: object, path: str) -> Problem:
    if isinstance(key, str):
        return Problem(path + segment(key), "would be lost", "declare the field in the annotated type")
    advice = "use str keys, or annotate the mapping (such as dict[int, str])"
    return Problem(path, f"has the key {key!r} of type {name_of(key)}, which would come back as str", advice)
