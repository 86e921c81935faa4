"""Values round-trip by their annotations, or are refused with the field's name."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import pathlib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import pydantic
import pytest

from aob.errors import BadPayload, BadValue
from aob.kernel.codec import ValueCodec, canonical, codec_for
from tests.unit.kernel.shapes import (
    Approved,
    Bigger,
    Box,
    Cat,
    Color,
    CustomerId,
    Dog,
    Everything,
    Incomparable,
    Late,
    Level,
    Line,
    Loose,
    Mixed,
    Mode,
    Model,
    Nameless,
    Order,
    Outcome,
    Pair,
    Point,
    Rejected,
    Small,
    Verdict,
    Visit,
)

NOON = dt.datetime(2024, 1, 1, 12, 30, 15, 123456, tzinfo=dt.UTC)
WHERE = "activity fetch, result"

ROUND_TRIPS: list[tuple[Any, Any]] = [
    (int, 3),
    (int, 2**70),
    (int, -(2**63)),
    (float, 0.1),
    (str, "ü☃𝄞"),
    (bool, True),
    (None, None),
    (bytes, b"\xff\0"),
    (Any, {"a": [1, 2.5, None, True, "x"], "b": {}}),
    (object, [1]),
    (dict[str, object], {"a": [1]}),
    (dt.datetime, NOON),
    (dt.datetime, NOON.replace(tzinfo=None)),
    (dt.date, NOON.date()),
    (dt.time, NOON.time()),
    (dt.timedelta, dt.timedelta(-1, 2, 3)),
    (decimal.Decimal, decimal.Decimal("1.50")),
    (uuid.UUID, uuid.UUID(int=5)),
    (pathlib.Path, pathlib.Path("a/b")),
    (complex, 1 + 2j),
    (collections.deque[int], collections.deque([1])),
    (Color, Color.RED),
    (Level, Level.HIGH),
    (Mixed, Mixed.PAIR),
    (set[Color], {Color.RED, Color.BLUE}),
    (set[Mixed], {Mixed.NUMBER, Mixed.TEXT}),
    (set[int | None], {None, 3}),
    (frozenset[int], frozenset({3, 1})),
    (set[frozenset[str]], {frozenset("ab"), frozenset("c"), frozenset("abc")}),
    (set[tuple[int, str]], {(1, "a")}),
    (tuple[int, ...], (1, 2)),
    (tuple[int, str], (1, "a")),
    (list[tuple[int, Small]], [(1, Small(x=1))]),
    (dict[int, str], {2: "a", 10: "b"}),
    (dict[dt.date, int], {NOON.date(): 1}),
    (dict[Color, int], {Color.RED: 1}),
    (Approved | Rejected, Approved("a")),
    (Approved | Rejected, Rejected("a")),
    (Approved | Rejected | None, None),
    (list[Approved | Rejected], [Approved("a"), Rejected("b")]),
    (dict[str, Approved | Rejected], {"k": Rejected("a")}),
    (dict[int, Approved | Rejected], {10: Rejected("a"), 9: Approved("b")}),
    (tuple[Approved | Rejected, int], (Rejected("x"), 2)),
    (set[Approved | Rejected], {Approved("a"), Rejected("a")}),
    (Sequence[Approved | Rejected], [Rejected("a")]),
    (Mapping[str, int], {"a": 1}),
    (Model, Model(x=1, tags={"b", "a"}, howMany=4)),
    (list[Model], [Model(x=1)]),
    (Model | Small, Small(x=1)),
    (Model | Small, Model(x=1)),
    (Model | str | None, "x"),
    (Small | Approved, Approved("x")),
    (dict[str, list[Small]], {"a": [Small(x=1)]}),
    (Order, Order(Rejected("no"), Model(x=1))),
    (Late, Late(1)),
    (
        Order,
        Order(Approved("a"), Model(x=1), [Rejected("b")], Small(x=2), Mixed.TEXT, [Order(Rejected("c"), Model(x=2))]),
    ),
    (Point, Point(1, {2: "a", 10: "b"})),
    (Point | Small, Point(1)),
    (Cat | Dog, Dog(1)),
    (Cat | Dog | Approved, Cat(9)),
    (Visit, Visit(id=1, at=NOON)),
    (Outcome, {}),
    (Outcome, {"outcome": Rejected("x")}),
    (Pair, Pair(1, "a")),
    (Verdict, Verdict(Rejected("x"), "a")),
    (Box[int], Box(1, [2])),
    (Box[Approved | Rejected], Box(Approved("a"), [Rejected("b")])),
    (CustomerId, "c-1"),
    (Mode, 1),
    (Iterable[int], [1, 2]),
    (Line, Line(1, 2)),
    (Line | Approved, Line(1, 2)),
    (Mode, "fast"),
    (Mode | str | Approved, "other"),
    (Mode | Approved, Approved("a")),
    (str | dt.datetime, NOON),
    (str | dt.datetime, NOON.isoformat()),
    (dt.datetime | dt.date, NOON.date()),
    (Color | str, Color.RED),
    (Color | str, "red"),
    (list[int] | list[str], ["a"]),
    (list[int] | dict[str, int] | Approved, {"a": 1}),
    (Everything, [Rejected("a")]),
    (Everything, Visit(id=1, at=NOON)),
    (Everything, NOON),
    (Everything, "text"),
    (Annotated[int, pydantic.Field(gt=0)], 1),
    (Annotated[int, msgspec.Meta(ge=0)], 0),
    (Annotated[Model | Small, "x"], Small(x=1)),
    (Annotated[int, {"unhashable": 1}], 1),
    (TypeVar("Free"), [1]),
    ("NotHere", 1),
    (dict | None, {"a": 1}),
    (bool | int | float, True),
    (dict[str, int], collections.OrderedDict(b=1, a=2)),
    (Loose, Loose({"a": [1]})),
]


@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS)
def test_a_value_comes_back_equal_and_of_its_type(annotation: Any, value: Any) -> None:
    codec = codec_for(annotation, WHERE)
    data, back = codec.encode_checked(value)
    assert back == value
    assert type(back) is type(value) or isinstance(value, collections.OrderedDict)
    assert codec.encode(value) == data == canonical(data)
    assert codec.decode(msgspec.Raw(data)) == value


def test_members_of_a_union_of_equal_shape_keep_their_class() -> None:
    codec = codec_for(list[Approved | Rejected], WHERE)
    _, back = codec.encode_checked([Rejected("a"), Approved("a")])
    assert [type(item) for item in back] == [Rejected, Approved]


def test_an_outside_caller_may_leave_the_type_out() -> None:
    codec = codec_for(Approved | Small | str, WHERE)
    assert codec.decode(b'{"x":1}') == Small(x=1)
    assert codec.decode(b'{"reason":"r"}') == Approved("r")
    assert codec.decode(b'"text"') == "text"


def test_a_model_may_be_given_by_alias_or_by_name() -> None:
    codec = codec_for(Model, WHERE)
    assert codec.decode(b'{"x":1,"howMany":7}') == codec.decode(b'{"x":1,"count":7}') == Model(x=1, howMany=7)


def test_a_value_without_eq_is_accepted_when_it_is_recorded_alike() -> None:
    _, back = codec_for(list[Incomparable], WHERE).encode_checked([Incomparable(3)])
    assert back[0].x == 3


def test_fields_outside_of_the_constructor_come_back() -> None:
    late = Late(1)
    late.seen.append(5)
    assert codec_for(Late, WHERE).encode_checked(late)[1].seen == [5]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def object_cycle() -> Loose:
    loose = Loose(None)
    loose.anything = {"again": loose}
    return loose


class Flags(enum.Flag):
    A = 1
    B = 2


REFUSED: list[tuple[Any, Callable[[], Any], str, str]] = [
    (Any, lambda: NOON, "$", "datetime.datetime and would come back as str"),
    (dict, lambda: {"a": {"when": NOON}}, "$.a.when", "datetime.datetime"),
    (dict[str, Any], lambda: {"a": [1, {"b": (1, 2)}]}, "$.a[1].b", "tuple and would come back as list"),
    (Any, lambda: {"odd key": {1}}, "$['odd key']", "set and would come back as list"),
    (Any, lambda: [Small(x=1)], "$[0]", "Small and would come back as dict"),
    (Any, lambda: [Pair(1, "a")], "$[0]", "Pair"),
    (Any, lambda: {"price": decimal.Decimal("1")}, "$.price", "decimal.Decimal"),
    (Any, lambda: b"x", "$", "bytes"),
    (Any, lambda: {"c": Color.RED}, "$.c", "Color and would come back as str"),
    (Any, lambda: Flags.A | Flags.B, "$", "Flags"),
    (Any, lambda: float("nan"), "$", "is nan, and JSON has no such number"),
    (list[float], lambda: [1.0, float("-inf")], "$[1]", "is -inf"),
    (Model, lambda: Model(x=1, ratio=float("nan")), "$.ratio", "is nan"),
    (Any, lambda: {1: 2}, "$", "key 1 of type int, which would come back as str"),
    (Any, lambda: {"a": {None: 2}}, "$.a", "key None"),
    (dict[int | str, int], lambda: {1: 2, "1": 3}, "$", "two keys have the same JSON text"),
    (str, lambda: "\ud800", "$", "lone surrogate"),
    (Any, lambda: {"a": ["\ud800"]}, "$.a[0]", "lone surrogate"),
    (Any, lambda: {"\ud800": 1}, "$", "lone surrogate"),
    (Any, cycle, "$", "nested too deeply, or contains itself"),
    (Loose, object_cycle, "$", "nested too deeply, or contains itself"),
    (Any, lambda: nested(100_000), "$", "nested too deeply"),
    (Any, lambda: 10**5000, "$", "has no JSON form"),
    (dict[str, Any], lambda: {"a": Nameless()}, "$.a", "Nameless and has no JSON form"),
    (Any, lambda: [len], "$[0]", "has no JSON form"),
    (list[Small], lambda: [Small(x=1), Bigger(x=1)], "$[1]", "Bigger and would come back as"),
    (Approved, lambda: Rejected("x"), "$", "Rejected and would come back as"),
    (Approved | Rejected, lambda: Small(x=1), "$", "Expected one of Approved, Rejected, got `Small`"),
    (Model, lambda: Model(x=1, extra=NOON), "$.extra", "datetime.datetime and would come back as str"),
    (Model, lambda: {"x": 1}, "$", "dict"),
    (int, lambda: "x", "$", "of type str and does not fit the annotation (Expected `int`, got `str`)"),
    (int, lambda: True, "$", "got `bool`"),
    (int | None, lambda: 1.5, "$", "got `float`"),
    (None, lambda: 3, "$", "Expected `null`"),
    (Mode, lambda: "slow", "$", "Invalid enum value"),
    (Mixed, lambda: 3, "$", "Expected `Mixed`"),
    (list[int], lambda: (1, 2), "$", "tuple and would come back as list"),
    (list[Approved], lambda: [Approved("a"), Approved(1)], "$[1].reason", "of type int"),  # type: ignore[arg-type]
    (Order, lambda: Order(Approved("a"), Model(x=1), [Rejected(3)]), "$.others[0].reason", "of type int"),  # type: ignore[arg-type]
    (dict[str, dict[str, dt.datetime]], lambda: {"a": {"b": "2020"}}, "$.a.b", "of type str"),
    (dict[int, Approved | Rejected], lambda: {1: Approved(2)}, "$[1].reason", "of type int"),  # type: ignore[arg-type]
    (Visit, lambda: {"id": 1, "at": NOON, "note": "x"}, "$.note", "would be lost"),
    (Visit, lambda: {"id": 1}, "$", "missing required field `at`"),
    (Annotated[int, pydantic.Field(gt=0)], lambda: 0, "$", "greater than 0"),
    (Annotated[int, msgspec.Meta(ge=1)], lambda: 0, "$", ">= 1"),
    ("NotHere", lambda: Approved("a"), "$", "Approved and would come back as dict"),
]


@pytest.mark.parametrize(("annotation", "make", "path", "text"), REFUSED)
def test_a_value_that_would_not_come_back_is_refused_by_field(
    annotation: Any, make: Callable[[], Any], path: str, text: str
) -> None:
    with pytest.raises(BadValue) as caught:
        codec_for(annotation, WHERE).encode_checked(make())
    message = str(caught.value)
    assert message.startswith(f"{WHERE}: the value at `{path}` ")
    assert text in message
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_what_is_done_about_a_refusal_is_said() -> None:
    with pytest.raises(BadValue, match="annotate it with its type"):
        codec_for(Any, WHERE).encode_checked({"when": NOON})


def test_an_eq_that_raises_is_no_error_of_ours() -> None:
    quiet = decimal.Decimal("sNaN")  # compares by raising InvalidOperation
    assert codec_for(decimal.Decimal, WHERE).encode_checked(quiet)[0] == b'"sNaN"'


def test_members_of_str_and_int_enums_count_as_their_plain_value_where_nothing_is_annotated() -> None:
    data, back = codec_for(Any, WHERE).encode_checked({"level": Level.HIGH})
    assert data == b'{"level":2}' and type(back["level"]) is int and back == {"level": Level.HIGH}


MISFITS: list[tuple[Any, bytes, str]] = [
    (int, b'"x"', "Expected `int`, got `str` at `$`"),
    (dict[str, Small], b'{"a":{"x":"q"}}', "valid integer, unable to parse string as an integer at `$.a.x`"),
    (dict[str, dict[str, list[int]]], b'{"a":{"odd key":[1,"x"]}}', "at `$.a['odd key'][1]`"),
    (dict[str, dict[str, Visit | None]], b'{"a":{"b":{"id":"x"}}}', "Expected `int`, got `str` at `$.a.b.id`"),
    (dict[str, dict[str, tuple | None]], b'{"a":{"b":3}}', "Expected `array | null`, got `int` at `$.a.b`"),
    (dict[str, Line], b'{"a":[1,"x"]}', "Expected `int`, got `str` at `$.a[1]`"),
    (Order, b'{"outcome":{"$type":"Rejected"},"model":{"x":1}}', "missing required field `reason` at `$.outcome`"),
    (Order, b'{"outcome":{"reason":"r"},"model":{"x":"q"}}', "at `$.model.x`"),
    (Approved | Rejected, b'{"nothing":1}', "Expected one of Approved, Rejected, which `$type` names"),
    (Approved | Rejected, b"3", "Expected one of Approved, Rejected"),
    (tuple[Approved | Rejected, int], b"[1]", "Expected an array of length 2, got 1"),
    (Mixed, b'"NOPE"', "Expected one of NUMBER, TEXT, PAIR, got 'NOPE'"),
    (Any, b"{", "truncated"),
    (Any, b'"\xff"', "utf-8"),
    (Any, b"NaN", "invalid character"),
    (Any, b"1e400", "out of range"),
    (Any, b"[" * 100_000, "nested too deeply"),
    (Nameless, b"3", "cannot be made from JSON"),
]


@pytest.mark.parametrize(("annotation", "data", "text"), MISFITS)
def test_json_that_does_not_fit_is_refused_by_field(annotation: Any, data: bytes, text: str) -> None:
    with pytest.raises(BadPayload) as caught:
        codec_for(annotation, "signal order").decode(data)
    assert str(caught.value).startswith("signal order: ")
    assert text in str(caught.value)


def test_encode_refuses_what_has_no_json_form() -> None:
    with pytest.raises(BadValue, match=r"at `\$\.a` is of type tests\.unit\.kernel\.shapes\.Nameless"):
        codec_for(Any, WHERE).encode({"a": Nameless()})


def test_codecs_are_made_once() -> None:
    assert codec_for(list[Order], WHERE) is codec_for(list[Order], WHERE)
    assert isinstance(codec_for(Annotated[int, {}], WHERE), ValueCodec)
