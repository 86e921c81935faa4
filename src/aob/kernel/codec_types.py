"""What annotations are made of: resolving them, and walking their parts."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import inspect
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

import msgspec

T = TypeVar("T")

_NOTHING = (typing.NoReturn, typing.Never)
_ORDERED = (
    str, int, float, bool, bytes, type(None), decimal.Decimal, uuid.UUID,
    datetime.date, datetime.datetime, datetime.time, datetime.timedelta,
)  # fmt: skip
_RULES = ("pydantic", "pydantic_core", "annotated_types")


def cached(fn: Callable[[Any], T]) -> Callable[[Any], T]:
    """`lru_cache` that also takes annotations that cannot be hashed, and works them out each time."""
    memo = lru_cache(maxsize=4096)(fn)

    def call(annotation: Any) -> T:
        try:
            hash(annotation)
        except TypeError:  # such as Annotated[int, {}]
            return fn(annotation)
        return memo(annotation)

    return call


def hints_of(fn: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The annotations of a function by parameter name, and those that could not be resolved, as text."""
    scope = _scope(fn)
    try:
        return typing.get_type_hints(fn, localns=scope, include_extras=True), {}
    except Exception:  # a name that only a type checker sees
        return _hints_one_by_one(fn, scope)


def _hints_one_by_one(fn: Callable[..., Any], scope: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    hints: dict[str, Any] = {}
    unresolved: dict[str, str] = {}
    for name, annotation in inspect.get_annotations(inspect.unwrap(fn)).items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= typing.get_type_hints(holder, getattr(fn, "__globals__", {}), scope, include_extras=True)
        except Exception:
            unresolved[name] = str(annotation)
    return hints, unresolved


def _scope(fn: Callable[..., Any]) -> dict[str, Any]:
    inner = inspect.unwrap(fn)
    code, cells = getattr(inner, "__code__", None), getattr(inner, "__closure__", None) or ()
    scope: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
        try:
            scope[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return scope


def simplify(annotation: Any) -> Any:
    """Takes off what says nothing about the value: NewType, Required, Final, a free TypeVar, an unknown name."""
    while True:
        origin = get_origin(annotation)
        if annotation is None:
            return type(None)
        if annotation is inspect.Parameter.empty or annotation in _NOTHING or annotation is object:
            return Any
        if annotation is typing.LiteralString:
            return str
        if isinstance(annotation, (str, typing.ForwardRef)):
            return Any
        if isinstance(annotation, typing.TypeVar):
            constraints = annotation.__constraints__
            annotation = annotation.__bound__ or (union_of(constraints) if constraints else Any)
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif origin in (typing.Required, typing.NotRequired, typing.Final):
            annotation = get_args(annotation)[0]
        elif origin is collections.abc.Iterable:
            annotation = list[get_args(annotation)[0]]
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        elif origin is Annotated and not has_rules(annotation):
            kept = [item for item in annotation.__metadata__ if isinstance(item, msgspec.Meta)]
            if kept:
                return annotation
            annotation = annotation.__origin__
        else:
            return annotation


def union_of(members: Iterable[Any]) -> Any:
    """The union of types that are known at run time alone."""
    return cast("Any", Union)[tuple(members)]


def has_rules(annotation: Any) -> bool:
    """Whether an `Annotated` carries pydantic's or annotated-types' constraints."""
    return get_origin(annotation) is Annotated and any(
        type(item).__module__.partition(".")[0] in _RULES for item in annotation.__metadata__
    )


def is_union(annotation: Any) -> bool:
    """`X | Y` and `Union[X, Y]`."""
    return get_origin(annotation) in (Union, types.UnionType)


def is_model(annotation: Any) -> bool:
    """A pydantic model or pydantic dataclass, without importing the whole of pydantic to ask."""
    origin = get_origin(annotation) or annotation
    return isinstance(origin, type) and hasattr(origin, "__pydantic_validator__")


def is_object(annotation: Any) -> bool:
    """A class whose instances are written as a JSON object with named fields."""
    origin = get_origin(annotation) or annotation
    return isinstance(origin, type) and (
        is_model(origin) or dataclasses.is_dataclass(origin) or issubclass(origin, msgspec.Struct)
    )


def is_namedtuple(annotation: Any) -> bool:
    """A class made by `NamedTuple` or `namedtuple`."""
    return isinstance(annotation, type) and tuple in annotation.__mro__ and hasattr(annotation, "_fields")


def is_literal(annotation: Any) -> bool:
    """`Literal["a", "b"]`."""
    return get_origin(annotation) is typing.Literal


def is_enum(annotation: Any) -> bool:
    """An enum class."""
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)


def is_typeddict(annotation: Any) -> bool:
    """A TypedDict, of `typing` or of `typing_extensions`."""
    return isinstance(annotation, type) and dict in annotation.__mro__ and hasattr(annotation, "__required_keys__")


def fields_of(annotation: Any) -> dict[str, Any]:
    """The field types of a class, with its type parameters filled in; empty for anything else."""
    origin = get_origin(annotation) or annotation
    if not (is_object(origin) or is_namedtuple(origin) or is_typeddict(origin)):
        return {}
    try:
        hints = typing.get_type_hints(origin, include_extras=True)
    except Exception:
        hints = cast("dict[str, Any]", getattr(origin, "__annotations__", {}))
    given = dict(zip(getattr(origin, "__parameters__", ()), get_args(annotation), strict=False))
    return {
        name: substitute(hint, given)
        for name, hint in hints.items()
        if get_origin(hint) is not typing.ClassVar and not name.startswith("__")
    }


def substitute(annotation: Any, given: dict[Any, Any]) -> Any:
    """Fills type parameters in."""
    if isinstance(annotation, typing.TypeVar):
        return given.get(annotation, annotation)
    if given and (free := getattr(annotation, "__parameters__", ())) and get_origin(annotation):
        return annotation[tuple(given.get(parameter, parameter) for parameter in free)]
    return annotation


def parts(annotation: Any, seen: set[Any] | None = None) -> Iterator[Any]:
    """The annotation and everything inside it, fields of classes too, each once."""
    seen = set() if seen is None else seen
    annotation = simplify(annotation)
    key = repr(annotation) if get_origin(annotation) else id(annotation)
    if key in seen:
        return
    seen.add(key)
    yield annotation
    inside = () if is_literal(annotation) else get_args(annotation)
    for part in (*inside, *fields_of(annotation).values()):
        if part is not Ellipsis:
            yield from parts(part, seen)


def orders_by_chance(annotation: Any) -> bool:
    """Whether it is a set whose members Python may sort without an error and yet in no fixed order."""
    if get_origin(annotation) not in (set, frozenset, collections.abc.Set, collections.abc.MutableSet):
        return False
    return not all(
        part in _ORDERED or is_enum(part) or get_origin(part) is tuple
        for part in parts(get_args(annotation)[0])
        if part is not Ellipsis
    )
