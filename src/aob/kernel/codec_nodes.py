"""From an annotation to the pair of functions that write and read it, made once for each annotation.

msgspec does it alone wherever it can. What it refuses (unions of several classes, enums of mixed values) is taken apart
into nodes, each of which writes and reads bytes; a union's member is told by a `$type` key.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import typing
from collections.abc import Callable
from typing import Any, cast, get_args, get_origin

import msgspec

from aob.kernel.codec_native import (
    Node,
    Pair,
    by_pydantic,
    native,
    native_decoder,
    needs_slow_encoder,
    raw_dict,
    raw_list,
)
from aob.kernel.codec_types import (
    cached,
    fields_of,
    has_rules,
    is_enum,
    is_literal,
    is_model,
    is_namedtuple,
    is_object,
    is_typeddict,
    is_union,
    simplify,
    union_of,
)
from aob.kernel.codec_unions import Choice, Union
from aob.kernel.codec_wire import (
    Misfit,
    Wire,
    encode,
    encode_fast,
    encode_slow,
    located,
    segment,
)

_ATOMIC = (type(None), bool, int, float, str)
_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Iterable)
_SETS = {set: set, frozenset: frozenset, collections.abc.Set: set, collections.abc.MutableSet: set}
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_GENERIC = (tuple, *_LISTS, *_SETS, *_DICTS)


class Later:
    """Stands for a type that contains itself while it is being made."""

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation

    def encode(self, value: Any) -> bytes:
        """See `Node`."""
        return node_for(self._annotation).encode(value)

    def decode(self, data: Wire) -> Any:
        """See `Node`."""
        return node_for(self._annotation).decode(data)


@dataclasses.dataclass(slots=True, frozen=True)
class _Plan:
    """What is being made (to stop at types that contain themselves), and whether to take apart all that can be."""

    making: tuple[Any, ...] = ()
    precise: bool = False


@cached
def node_for(annotation: Any) -> Node:
    """The cached node of an annotation; what nothing can type is treated as `Any`."""
    return _make(annotation, _Plan())


@cached
def precise_node(annotation: Any) -> Node:
    """A slow node whose errors name the keys of mappings, which msgspec's leave out."""
    return _make(annotation, _Plan(precise=True))


def _make(annotation: Any, plan: _Plan) -> Node:
    annotation = simplify(annotation)
    if annotation in plan.making:
        return Later(annotation)
    if is_model(annotation) or has_rules(annotation):
        return by_pydantic(annotation) or native(Any)
    decode = native_decoder(annotation)
    if decode and not plan.precise:
        return Pair(encode_slow if needs_slow_encoder(annotation) else encode, decode)
    inside = _taken_apart(annotation, _Plan((*plan.making, annotation), plan.precise))
    return inside or (native(annotation) if decode else by_pydantic(annotation) or native(Any))


def _taken_apart(annotation: Any, plan: _Plan) -> Node | None:
    origin: Any = get_origin(annotation) or annotation
    args = get_args(annotation)
    below = [] if is_literal(annotation) else [_make(arg, plan) for arg in args if arg is not Ellipsis]
    if is_union(annotation):
        decode = native_decoder(annotation)
        return _without_tags(decode, below) if decode else _union(args, plan)
    if not args and origin in _GENERIC:
        return None
    if origin is typing.Annotated:
        return below[0]
    if origin is tuple:
        return _array(tuple, below[:1] if args[-1] is Ellipsis else below, open_ended=args[-1] is Ellipsis)
    if origin in _LISTS:
        return _array(list, below, open_ended=True)
    if origin in _SETS:
        return _array(_SETS[origin], below, open_ended=True, ordered=False)
    if origin in _DICTS:
        return _mapping(args[0], below[1])
    if is_enum(origin) and not native_decoder(origin):
        return Pair(lambda value: _member_name(origin, value), lambda data: _member(origin, data))
    if is_namedtuple(origin):
        fields = [_make(part, plan) for part in fields_of(annotation).values()]
        return _array(lambda items: origin(*items), fields, open_ended=False)
    if (is_object(origin) and not (plan.precise and _is_array(origin))) or is_typeddict(origin):
        return _object(annotation, origin, plan)
    return None


def _member_name(kind: type[enum.Enum], value: Any) -> bytes:
    if not isinstance(value, kind):
        raise Misfit(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")
    return encode(value.name)


def _member(kind: type[enum.Enum], data: Wire) -> enum.Enum:
    name = msgspec.json.decode(data)
    if not isinstance(name, str) or name not in kind.__members__:
        raise Misfit(f"Expected one of {', '.join(kind.__members__)}, got {name!r}")
    return kind[name]


def _step(work: Callable[[Any], Any], value: Any, key: object) -> Any:
    """Does a part's work; an error carries the part's path."""
    try:
        return work(value)
    except RecursionError:
        raise
    except Exception as exc:
        path, text = located(exc)
        raise Misfit(text, "$" + segment(key) + path[1:]) from None


def _array(make: Callable[[list[Any]], Any], nodes: list[Node], *, open_ended: bool, ordered: bool = True) -> Node:
    def node_at(index: int) -> Node:
        return nodes[0] if open_ended else nodes[index]

    def check(length: int) -> None:
        if not open_ended and length != len(nodes):
            raise Misfit(f"Expected an array of length {len(nodes)}, got {length}")

    def write(value: Any) -> bytes:
        check(len(value))
        items = [_step(node_at(index).encode, item, index) for index, item in enumerate(value)]
        return encode_fast([msgspec.Raw(item) for item in (items if ordered else sorted(items))])

    def read(data: Wire) -> Any:
        items = raw_list(data)
        check(len(items))
        return make([_step(node_at(index).decode, item, index) for index, item in enumerate(items)])

    return Pair(write, read)


def _mapping(key: Any, node: Node) -> Node:
    keys = native(dict[key, msgspec.Raw])

    def write(value: Any) -> bytes:
        return keys.encode({name: msgspec.Raw(_step(node.encode, item, name)) for name, item in value.items()})

    def read(data: Wire) -> Any:
        return {name: _step(node.decode, item, name) for name, item in keys.decode(data).items()}

    return Pair(write, read)


@dataclasses.dataclass(slots=True)
class _Field:
    name: str
    wire: str
    required: bool
    settable: bool = True


def _is_array(origin: Any) -> bool:
    return issubclass(origin, msgspec.Struct) and origin.__struct_config__.array_like


def _fields(origin: Any) -> list[_Field]:
    if is_typeddict(origin):
        return [_Field(name, name, name in origin.__required_keys__) for name in fields_of(origin)]
    if issubclass(origin, msgspec.Struct):
        return [_Field(field.name, field.encode_name, field.required) for field in msgspec.structs.fields(origin)]
    missing = dataclasses.MISSING
    return [
        _Field(field.name, field.name, field.default is missing and field.default_factory is missing, field.init)
        for field in dataclasses.fields(origin)
    ]


def _object(annotation: Any, origin: Any, plan: _Plan) -> Node:
    fields, hints, typed_dict = _fields(origin), fields_of(annotation), is_typeddict(origin)
    nodes = {field.name: _make(hints.get(field.name, Any), plan) for field in fields}
    tag: dict[str, Any] = {}
    if issubclass(origin, msgspec.Struct) and origin.__struct_config__.tag is not None:
        tag = {str(origin.__struct_config__.tag_field): origin.__struct_config__.tag}

    def write(value: Any) -> bytes:
        plain = dict(tag)
        if not isinstance(value, origin if not typed_dict else dict):
            raise Misfit(f"Expected `{origin.__name__}`, got `{type(value).__name__}`")
        for field in fields:
            item = value.get(field.name, msgspec.UNSET) if typed_dict else getattr(value, field.name)
            if item is not msgspec.UNSET:
                plain[field.wire] = msgspec.Raw(_step(nodes[field.name].encode, item, field.name))
        return encode_fast(plain)

    def read(data: Wire) -> Any:
        found, given, rest = raw_dict(data), dict[str, Any](), dict[str, Any]()
        for field in fields:
            if field.wire in found:
                item = _step(nodes[field.name].decode, found[field.wire], field.name)
                (given if field.settable else rest)[field.name] = item
            elif field.required and field.settable:
                raise Misfit(f"Object missing required field `{field.name}`")
        result = origin(**given)
        for name, item in rest.items():
            object.__setattr__(result, name, item)
        return result

    return Pair(write, read)


def _union(args: tuple[Any, ...], plan: _Plan) -> Node:
    members = [simplify(arg) for arg in args]
    atomic = [part for part in members if part in _ATOMIC or is_literal(part)]
    return Union(_atoms(atomic) if atomic else None, _choices([m for m in members if m not in atomic], plan))


def _without_tags(decode: Callable[[Wire], Any], nodes: list[Node]) -> Node:
    """A union that msgspec tells apart alone, read for the error of the member that gets furthest."""

    def read(data: Wire) -> Any:
        if bytes(data)[:1] not in (b"{", b"["):
            return decode(data)
        errors: list[Exception] = []
        for node in nodes:
            try:
                return node.decode(data)
            except Exception as exc:
                errors.append(exc)
        raise max(errors, key=lambda exc: len(located(exc)[0]))

    return Pair(encode, read)


def _atoms(members: list[Any]) -> Node:
    if decode := native_decoder(union_of(members)):
        return Pair(encode, decode)
    wide = {part for part in members if part in _ATOMIC}
    wide |= {type(value) for part in members for value in get_args(part)}
    return native(union_of(wide))


def _choices(members: list[Any], plan: _Plan) -> list[Choice]:
    names = [cast("str", getattr(part, "__name__", repr(part))) for part in members]
    return [
        Choice(
            kind=get_origin(part) or part,
            tag=name if not get_args(part) and names.count(name) == 1 else _full_name(part),
            node=_make(part, plan),
            inline=is_object(part) or is_typeddict(part),
        )
        for name, part in zip(names, members, strict=True)
    ]


def _full_name(part: Any) -> str:
    return repr(part) if get_args(part) else f"{part.__module__}.{part.__qualname__}"
