"""Canonical JSON bytes: one writer that sorts keys, fields and sets, so that equal values have equal bytes."""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any, cast

import msgspec
import pydantic

from aob.errors import BadPayload
from aob.kernel.codec_types import cached

Wire = bytes | msgspec.Raw

ATOMS = frozenset({str, int, float, bool, type(None)})
_BY_VALUE = frozenset({str, int, float, bool, bytes})
_OUTER = re.compile(r"(.*) - at `(?:key in )?(\$.*)`", re.DOTALL)


class Misfit(ValueError):
    """A value does not fit its type, at a JSON path below the place it was found.

    Args:
        text: what is wrong.
        path: where, such as `$.items[0]`.
    """

    def __init__(self, text: str, path: str = "$") -> None:
        super().__init__(text, path)
        self.text, self.path = text, path


def located(exc: BaseException) -> tuple[str, str]:
    """Splits any error of an encoder or decoder into a JSON path and a text."""
    inside = exc if isinstance(exc, Misfit) else exc.__cause__
    text, outer = str(exc) or type(exc).__name__, "$"
    if match := _OUTER.fullmatch(text):
        text, outer = match.groups()
    return (outer + inside.path[1:], inside.text) if isinstance(inside, Misfit) else (outer, text)


def segment(key: object) -> str:
    """One step of a JSON path: `.name`, `[0]` or `["odd key"]`."""
    if isinstance(key, int):
        return f"[{key}]"
    text = str(key)
    return f".{text}" if text.isidentifier() else f"[{text!r}]"


class Adapter:
    """pydantic's reading and writing of one type, with sets in sorted order and field names rather than aliases."""

    __slots__ = ("_dump", "_has_sets", "_load")

    def __init__(self, annotation: Any) -> None:
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(annotation)
        schema = repr(adapter.core_schema)
        self._has_sets = "'set'" in schema or "'frozenset'" in schema
        self._dump, self._load = adapter.dump_python, adapter.validate_json

    def dump(self, value: object) -> Any:
        """The value as JSON-native Python."""
        plain = self._dump(value, mode="json", by_alias=False, warnings="error")
        if self._has_sets:
            return _sort_sets(self._dump(value, by_alias=False, warnings="error"), plain)
        return plain

    def load(self, data: Wire) -> Any:
        """Reads JSON; a field may be given by its name or its alias."""
        try:
            return self._load(bytes(data), by_alias=True, by_name=True)
        except pydantic.ValidationError as exc:
            first = exc.errors(include_url=False, include_context=False)[0]
            raise Misfit(first["msg"], "$" + "".join(map(segment, first["loc"]))) from None


@cached
def adapter_for(annotation: Any) -> Adapter:
    """The cached adapter of a type; raises what pydantic raises for a type it does not know."""
    return Adapter(annotation)


def _sort_sets(live: Any, plain: Any) -> Any:
    if isinstance(live, (set, frozenset)) and isinstance(plain, list):
        members = cast("list[Any]", plain)
        if any(isinstance(member, frozenset) for member in cast("set[Any]", live)):
            members = [sorted(member, key=encode) for member in members]
        return sorted(members, key=encode)
    if isinstance(live, Mapping) and isinstance(plain, dict):
        return {
            key: _sort_sets(below, value)
            for below, (key, value) in zip(
                cast("Mapping[Any, Any]", live).values(), cast("dict[str, Any]", plain).items(), strict=True
            )
        }
    if isinstance(live, (list, tuple)) and isinstance(plain, list):
        pairs = zip(cast("list[Any]", live), cast("list[Any]", plain), strict=True)
        return [_sort_sets(below, value) for below, value in pairs]
    return plain


def _encode_other(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    try:
        adapter = adapter_for(type(value))
    except pydantic.PydanticUserError:
        raise TypeError(f"{type(value).__name__} is not a JSON value") from None
    return adapter.dump(value)


def decode_other(annotation: Any, plain: Any) -> Any:
    """msgspec's hook for types that it does not know: pydantic models, paths, and whatever pydantic knows.

    Args:
        annotation: the type wanted.
        plain: the JSON value found.
    """
    if annotation is object:
        return plain
    if isinstance(annotation, type) and issubclass(annotation, PurePath) and isinstance(plain, str):
        return annotation(plain)
    try:
        adapter = adapter_for(annotation)
    except pydantic.PydanticUserError:
        raise Misfit(f"{annotation!r} cannot be made from JSON") from None
    return adapter.load(encode(plain))


encode_fast: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=_encode_other, order="sorted").encode
"""The compiled writer. It refuses mappings with other than string keys, and sets that Python cannot sort."""


def encode(value: Any) -> bytes:
    """Writes any supported value as canonical JSON.

    Raises:
        TypeError: a type that has no JSON form.
        ValueError: a value that has none (a lone surrogate, a cycle).
    """
    try:
        return encode_fast(value)
    except TypeError:
        return encode_slow(value)


def encode_slow(value: Any) -> bytes:
    """`encode` for what the compiled writer refuses, or would order by chance (sets of sets)."""
    return encode_fast(_plain(value))


def _plain(value: Any) -> Any:
    if type(value) in ATOMS:
        return value
    if isinstance(value, dict):
        return _plain_mapping(cast("dict[Any, Any]", value))
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("list[Any]", value)]
    if isinstance(value, (set, frozenset)):
        return _plain_set(cast("set[Any]", value))
    if isinstance(value, msgspec.Struct):
        return _plain_struct(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return msgspec.Raw(encode_fast(value))


def _plain_mapping(value: dict[Any, Any]) -> dict[str, Any]:
    result = {
        key if type(key) is str else next(iter(msgspec.to_builtins({key: None}, str_keys=True))): _plain(item)
        for key, item in value.items()
    }
    if len(result) != len(value):
        raise Misfit("two keys have the same JSON text")
    return result


def _plain_set(value: Iterable[Any]) -> list[Any]:
    members = list(value)
    kinds: set[type] = {type(member) for member in members}
    if len(kinds) == 1 and kinds <= _BY_VALUE:
        return sorted(members)
    return [msgspec.Raw(data) for data in sorted(map(encode_slow, members))]


def _plain_struct(value: msgspec.Struct) -> Any:
    config, fields = value.__struct_config__, msgspec.structs.fields(value)
    items = {field.encode_name: _plain(getattr(value, field.name)) for field in fields}
    items = {name: item for name, item in items.items() if item is not msgspec.UNSET}
    tag = {} if config.tag is None else {cast("str", config.tag_field): config.tag}
    return [*tag.values(), *items.values()] if config.array_like else tag | items


_decode_any = msgspec.json.Decoder().decode


def canonical(data: bytes) -> bytes:
    """Rewrites any JSON text in canonical form: keys sorted, no spaces. Of a key given twice the last one counts.

    Raises:
        BadPayload: the text is not JSON.
    """
    try:
        return encode_fast(_decode_any(data))
    except RecursionError:
        raise BadPayload("The JSON is nested too deeply; flatten it.") from None
    except ValueError as exc:
        raise BadPayload(f"This is not valid JSON: {exc}") from None


def checksum(data: bytes) -> int:
    """A 32-bit checksum of canonical bytes, the same in every process."""
    return zlib.crc32(data)
