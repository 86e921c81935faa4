"""Whatever a codec accepts comes back equal, and what is written is canonical."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import itertools
import uuid
from typing import Any

import msgspec
import pydantic
from hypothesis import given, settings, strategies as st

from aob.errors import BadPayload, BadValue
from aob.kernel.codec import SignatureCodec, canonical, codec_for
from aob.kernel.failures import Failure, capture, restore


class Kind(enum.Enum):
    A = "a"
    B = "b"


@dataclasses.dataclass(frozen=True)
class Left:
    x: int
    note: str | None = None


@dataclasses.dataclass(frozen=True)
class Right:
    x: int
    note: str | None = None


class Inner(pydantic.BaseModel):
    names: set[str]
    at: dt.datetime
    kind: Kind
    side: Left | Inner | None = None


class Packed(msgspec.Struct):
    raw: bytes
    by_number: dict[int, list[Left | Right]]
    amounts: tuple[decimal.Decimal, ...] = ()


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.integers(-(2**70), 2**70)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(text, inside, max_size=4),
    max_leaves=12,
)
anything = st.recursive(
    json_values
    | st.binary(max_size=4)
    | st.datetimes()
    | st.decimals()
    | st.uuids()
    | st.floats()
    | st.text(max_size=3),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.tuples(inside, inside)
        | st.frozensets(st.integers() | text, max_size=3)
        | st.dictionaries(text | st.integers() | st.none(), inside, max_size=3)
    ),
    max_leaves=8,
)
aware = st.datetimes(timezones=st.just(dt.UTC))
sides = st.builds(Left, numbers, st.none() | text) | st.builds(Right, numbers, st.none() | text)
inners = st.builds(
    Inner,
    names=st.sets(text, max_size=4),
    at=aware,
    kind=st.sampled_from(Kind),
    side=st.none() | st.builds(Left, st.integers()),
)
packs = st.builds(
    Packed,
    st.binary(max_size=9),
    st.dictionaries(st.integers(), st.lists(sides, max_size=3), max_size=4),
    st.lists(st.decimals(allow_nan=False), max_size=3).map(tuple),
)

TYPED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Left | Right, sides),
    (dict[str, list[Left | Right]], st.dictionaries(text, st.lists(sides, max_size=3), max_size=3)),
    (Inner, inners),
    (list[Inner | Left], st.lists(inners | st.builds(Left, numbers), max_size=3)),
    (Packed, packs),
    (set[frozenset[int]], st.sets(st.frozensets(st.integers(0, 9), max_size=3), max_size=5)),
    (set[int | str | None], st.sets(st.integers() | text | st.none(), max_size=5)),
    (dict[uuid.UUID, set[Kind]], st.dictionaries(st.uuids(), st.sets(st.sampled_from(Kind)), max_size=3)),
    (dt.timedelta, st.timedeltas()),
    (dt.time, st.times()),
    (dt.date | int, st.dates() | st.integers()),
    (tuple[bytes, str | dt.datetime], st.tuples(st.binary(max_size=9), text | aware)),
]


def typed() -> st.SearchStrategy[tuple[Any, Any]]:
    return st.sampled_from(TYPED).flatmap(lambda pair: st.tuples(st.just(pair[0]), pair[1]))


@given(typed())
def test_typed_values_round_trip(case: tuple[Any, Any]) -> None:
    annotation, value = case
    codec = codec_for(annotation, "w")
    data, back = codec.encode_checked(value)
    assert back == value and type(back) is type(value)
    assert codec.encode(back) == data == canonical(data)


@given(json_values)
def test_json_values_round_trip_without_annotations(value: Any) -> None:
    data, back = codec_for(Any, "w").encode_checked(value)
    assert back == value and type(back) is type(value)
    assert data == canonical(data) == canonical(b" " + data + b" ")


@given(anything)
def test_whatever_is_not_refused_comes_back_equal(value: Any) -> None:
    try:
        data, back = codec_for(Any, "w").encode_checked(value)
    except BadValue as exc:
        assert "the value at `$" in str(exc)
        return
    assert back == value and codec_for(Any, "w").decode(data) == value


@given(json_values, st.randoms(use_true_random=False))
def test_insertion_order_does_not_show(value: Any, random: Any) -> None:
    def shuffled(part: Any) -> Any:
        if isinstance(part, dict):
            keys = list(part)
            random.shuffle(keys)
            return {key: shuffled(part[key]) for key in keys}
        return [shuffled(item) for item in part] if isinstance(part, list) else part

    codec = codec_for(Any, "w")
    assert codec.encode(value) == codec.encode(shuffled(value))


@given(st.binary(max_size=40) | json_values.map(msgspec.json.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for annotation, _ in TYPED:
        codec = codec_for(annotation, "w")
        try:
            value = codec.decode(data)
        except BadPayload:
            continue
        assert codec.decode(codec.encode(value)) == value


def call(a: int, b: Left | Right, *rest: dt.date, c: str = "c", **others: Inner) -> None: ...
def fast(a: int, b: Any = None, c: list[Inner] | None = None) -> None: ...


@given(
    numbers,
    sides,
    st.lists(st.dates(), max_size=3),
    st.none() | text,
    st.dictionaries(text.filter(lambda t: t not in "abc"), inners, max_size=2),
)
def test_calls_come_back(a: int, b: Any, rest: list[dt.date], c: str | None, others: dict[str, Inner]) -> None:
    codec = SignatureCodec(call, "w")
    kwargs = others | ({} if c is None else {"c": c})
    args, again = codec.decode_args(codec.encode_args((a, b, *rest), kwargs))
    assert (args, again) == ((a, b, *rest), kwargs)


@given(
    numbers,
    st.just(()) | st.tuples(json_values),
    st.just({}) | st.fixed_dictionaries({"c": st.lists(inners, max_size=2)}),
)
def test_compiled_calls_come_back(a: int, b: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    codec = SignatureCodec(fast, "w")
    data = codec.encode_args((a, *b), kwargs)
    args, again = codec.decode_args(data)
    assert dict(zip("abc", args, strict=False)) | again == dict(zip("abc", (a, *b), strict=False)) | kwargs
    assert codec.encode_input((a, *b), kwargs) == data == canonical(data)


errors = st.builds(
    lambda kind, args, note: _noted(kind(*args), note),
    st.sampled_from([ValueError, KeyError, RuntimeError, LookupError, TimeoutError]),
    st.lists(json_values | st.text(max_size=4), max_size=1),
    st.none() | text,
)


def _noted(exc: Exception, note: str | None) -> Exception:
    if note is not None:
        exc.add_note(note)
    return exc


@given(st.lists(errors, min_size=1, max_size=4))
@settings(max_examples=60)
def test_failures_are_equal_live_and_replayed(chain: list[Exception]) -> None:
    for outer, inner in itertools.pairwise(chain):
        outer.__cause__ = inner
    failure = capture(chain[0])
    again = msgspec.json.decode(msgspec.json.encode(failure), type=Failure)
    assert again == failure
    restored = restore(again)
    assert capture(restored) == failure
    if type(restored) is type(chain[0]):
        assert isinstance(restored, Exception) and restored.args == chain[0].args
