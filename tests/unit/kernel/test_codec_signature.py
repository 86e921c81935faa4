"""Arguments as an object by name, a run's input, and what is refused."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from aob.errors import BadInput, BadPayload, BadValue
from aob.kernel.codec import SignatureCodec
from tests.unit.kernel.shapes import Approved, Loose, Model, Rejected, Small

if TYPE_CHECKING:
    from collections.abc import OnlyForTheTypeChecker

NOON = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)


def plain(a: str, b: int, c: int) -> dict[str, int]: ...
def untyped(a, b): ...
def defaults(a: int, b: int | None = None, c: str = "x") -> None: ...
def typed(model: Model, when: dt.datetime, verdict: Approved | Rejected) -> Approved | Rejected: ...
def by_name(a: int, b: int = 2, *, c: int, d: int = 4) -> None: ...
def first_only(a: int, /, b: int = 2) -> None: ...
def many(a: int, *rest: dt.date, key: str = "k", **others: float) -> None: ...
def nothing() -> None: ...
def one(request: Small) -> Small: ...
def one_default(count: int = 3) -> None: ...
def one_nullable(count: int | None = 3) -> None: ...
def one_by_name(*, count: int) -> None: ...
def only_rest(*rest: int) -> None: ...


class Agent:
    async def act(self, x: int) -> str: ...


CALLS: list[tuple[Any, tuple[Any, ...], dict[str, Any], bytes]] = [
    (plain, ("s", 1, 2), {}, b'{"a":"s","b":1,"c":2}'),
    (plain, ("s",), {"c": 2, "b": 1}, b'{"a":"s","b":1,"c":2}'),
    (untyped, (None, {"z": 1, "y": [1.5]}), {}, b'{"a":null,"b":{"y":[1.5],"z":1}}'),
    (defaults, (1,), {}, b'{"a":1}'),
    (defaults, (1,), {"c": "y"}, b'{"a":1,"c":"y"}'),
    (defaults, (1, None, "x"), {}, b'{"a":1,"b":null,"c":"x"}'),
    (by_name, (1,), {"c": 3}, b'{"a":1,"c":3}'),
    (by_name, (1, 2), {"d": 5, "c": 3}, b'{"a":1,"b":2,"c":3,"d":5}'),
    (first_only, (1,), {"b": 3}, b'{"a":1,"b":3}'),
    (many, (1,), {}, b'{"a":1,"others":{},"rest":[]}'),
    (
        many,
        (1, dt.date(2024, 1, 2)),
        {"key": "q", "x": 1.5},
        b'{"a":1,"key":"q","others":{"x":1.5},"rest":["2024-01-02"]}',
    ),
    (nothing, (), {}, b"{}"),
    (Agent.act, (3,), {}, b'{"x":3}'),
    (Agent().act, (3,), {}, b'{"x":3}'),
    (one_by_name, (), {"count": 3}, b'{"count":3}'),
    (only_rest, (1, 2), {}, b'{"rest":[1,2]}'),
]


def bound(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    codec = SignatureCodec(fn, "w")
    return codec._signature.bind(*args, **kwargs).arguments


@pytest.mark.parametrize(("fn", "args", "kwargs", "data"), CALLS)
def test_arguments_come_back_as_the_same_call(
    fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], data: bytes
) -> None:
    codec = SignatureCodec(fn, "activity f")
    encoded = codec.encode_args(args, kwargs)
    if fn is many and len(args) == 1:
        data = b'{"a":1}'
    assert encoded == data
    assert bound(fn, *codec.decode_args(encoded)) == bound(fn, args, kwargs)


def test_arguments_are_typed() -> None:
    codec = SignatureCodec(typed, "activity f")
    args = (Model(x=1, tags={"a"}), NOON, Rejected("r"))
    assert codec.decode_args(codec.encode_args(args, {})) == (args, {})
    assert codec.result.decode(codec.result.encode(Rejected("r"))) == Rejected("r")
    assert codec.names == ("model", "when", "verdict")
    assert [part.where for part in codec.codecs] == [f"activity f, argument {name!r}" for name in codec.names]


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "text"),
    [
        (plain, ("s", 1.5, 2), {}, "activity f, argument 'b': the value at `$` is of type float"),
        (untyped, (1, {"when": NOON}), {}, "activity f, argument 'b': the value at `$.when` is of type datetime"),
        (by_name, (1,), {"c": "x"}, "activity f, argument 'c': the value at `$` is of type str"),
        (many, (1, dt.date(2024, 1, 2), 3), {}, "activity f, argument 'rest': the value at `$` is of type int"),
        (many, (1,), {"x": "y"}, "activity f, argument 'others': the value at `$` is of type str"),
        (typed, (Model(x=1), NOON, Small(x=1)), {}, "activity f, argument 'verdict': the value at `$` is of type"),
        (typed, (Small(x=1), NOON, Approved("r")), {}, "activity f, argument 'model': the value at `$`"),
    ],
)
def test_an_argument_that_would_not_come_back_is_named(
    fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    codec = SignatureCodec(fn, "activity f")
    with pytest.raises(BadValue) as caught:
        codec.encode_args(args, kwargs)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("fn", "args", "kwargs"),
    [(plain, (1,), {}), (plain, ("s", 1, 2, 3), {}), (plain, ("s", 1, 2), {"d": 1}), (first_only, (), {"a": 1})],
)
def test_a_call_that_does_not_fit_is_a_type_error_as_in_python(
    fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    codec = SignatureCodec(fn, "activity f")
    for encode in (codec.encode_args, codec.encode_input):
        with pytest.raises(TypeError, match=r"argument|parameter"):
            encode(args, kwargs)


@pytest.mark.parametrize(
    ("fn", "data", "text"),
    [
        (plain, b'{"a":"s","b":"x","c":1}', "activity f: Expected `int`, got `str` at `$.b`"),
        (plain, b'{"a":"s","b":1}', "missing required field `c`"),
        (plain, b'{"a":"s","b":1,"c":2,"typo":3}', "`typo`"),
        (plain, b"[]", "got `array`"),
        (untyped, b'{"a":' + b"[" * 100_000, "nested too deeply"),
        (many, b"{}", "argument 'a' is missing"),
        (many, b'{"a":1,"typo":2}', "no argument 'typo'"),
        (many, b'{"a":1,"rest":["x"]}', "activity f, argument 'rest'"),
        (many, b"3", "expected an object by argument name"),
        (typed, b'{"model":{"x":"q"},"when":"2024-01-01T12:00:00Z","verdict":{"reason":"r"}}', "argument 'model'"),
    ],
)
def test_recorded_arguments_that_do_not_fit_are_named(fn: Any, data: bytes, text: str) -> None:
    codec = SignatureCodec(fn, "activity f")
    with pytest.raises(BadPayload) as as_args:
        codec.decode_args(data)
    with pytest.raises(BadInput) as as_input:
        codec.decode_input(data)
    assert text in str(as_args.value) and text in str(as_input.value)


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "data"),
    [
        (one, (Small(x=1),), {}, b'{"x":1}'),
        (one, (), {"request": Small(x=1)}, b'{"x":1}'),
        (plain, ("s",), {"b": 1, "c": 2}, b'{"a":"s","b":1,"c":2}'),
        (nothing, (), {}, b"null"),
        (one_default, (), {}, b"null"),
        (one_default, (4,), {}, b"4"),
        (one_nullable, (None,), {}, b"null"),
        (one_by_name, (), {"count": 4}, b"4"),
        (only_rest, (1, 2), {}, b'{"rest":[1,2]}'),
        (Agent.act, (3,), {}, b"3"),
    ],
)
def test_the_input_is_the_only_parameter_or_an_object_by_name(
    fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], data: bytes
) -> None:
    codec = SignatureCodec(fn, "workflow f")
    assert codec.encode_input(args, kwargs) == data
    assert bound(fn, *codec.decode_input(data)) == bound(fn, args, kwargs)


def test_a_default_is_filled_in_only_where_null_is_a_value() -> None:
    codec = SignatureCodec(one_nullable, "workflow f")
    assert codec.encode_input((), {}) == b"3"
    assert codec.decode_input(b"null") == ((None,), {})


@pytest.mark.parametrize(
    ("fn", "data", "text"),
    [
        (one, b'{"x":"q"}', "workflow f, argument 'request': Input should be a valid integer"),
        (one, b'{"x":"q"}', "at `$.x`"),
        (plain, b'{"a":"s","b":"x","c":1}', "at `$.b`"),
        (nothing, b"3", "workflow f: "),
        (one_default, b'"x"', "Expected `int`"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_by_field(fn: Any, data: bytes, text: str) -> None:
    with pytest.raises(BadInput) as caught:
        SignatureCodec(fn, "workflow f").decode_input(data)
    assert text in str(caught.value)


def test_a_name_that_cannot_be_resolved_counts_as_any_and_is_said() -> None:
    def partly(a: int, b: OnlyForTheTypeChecker) -> OnlyForTheTypeChecker: ...

    codec = SignatureCodec(partly, "activity f")
    assert codec.decode_args(codec.encode_args((1, [2]), {})) == ((1, [2]), {})
    with pytest.raises(BadValue, match=r"'OnlyForTheTypeChecker' could not be resolved"):
        codec.encode_args((1, Small(x=1)), {})
    with pytest.raises(BadValue, match="argument 'a'"):
        codec.encode_args(("x", 1), {})


def test_classes_of_an_enclosing_function_are_found() -> None:
    class Local(Small):
        pass

    def work(a: Local) -> Local:
        return Local(x=a.x)

    codec = SignatureCodec(work, "activity f")
    assert codec.decode_args(codec.encode_args((Local(x=1),), {})) == ((Local(x=1),), {})


def test_input_schemas_name_the_fields() -> None:
    schema = SignatureCodec(typed, "workflow f").input_schema()
    assert schema["required"] == ["model", "when", "verdict"]
    assert schema["properties"]["when"]["type"] == "string"
    assert set(schema["properties"]["model"]["properties"]) == {"x", "tags", "count", "ratio", "extra"}
    assert {"Approved", "Rejected"} <= schema["$defs"].keys()
    assert SignatureCodec(one, "workflow f").input_schema()["properties"]["x"]["type"] == "integer"
    assert SignatureCodec(nothing, "workflow f").input_schema() == {"type": "null"}
    many_of = SignatureCodec(many, "workflow f").input_schema()["properties"]
    assert many_of["rest"]["items"]["format"] == "date" and many_of["others"]["type"] == "object"


def test_a_value_of_a_class_with_open_fields_is_checked_inside() -> None:
    def work(a: Loose) -> None: ...

    with pytest.raises(BadValue, match=r"`\$\.anything\.when`"):
        SignatureCodec(work, "activity f").encode_args((Loose({"when": NOON}),), {})


def test_an_input_that_is_left_out_is_no_arguments_where_none_is_needed() -> None:
    def all_optional(amount: float = 1.0, mode: str = "a") -> None: ...

    def one_needed(amount: float, mode: str = "a") -> None: ...

    assert SignatureCodec(all_optional, "f").decode_input(b"null") == ((), {})
    with pytest.raises(BadInput):
        SignatureCodec(one_needed, "f").decode_input(b"null")
