"""JSON Schemas of annotations, as well as they can be had."""

from __future__ import annotations

from typing import Any, cast, get_args

import msgspec
import pydantic

from aob.kernel.codec_types import has_rules, is_model, is_union, simplify


def schema_of(annotation: Any) -> dict[str, Any]:
    """The JSON Schema of an annotation; `{}`, which allows anything, where there is none to be had."""
    annotation = simplify(annotation)
    try:
        if is_model(annotation) or has_rules(annotation):
            return hoisted(_from_pydantic(annotation))
        return hoisted(msgspec.json.schema(annotation, schema_hook=_from_pydantic))
    except Exception:  # neither library says what it raises for types of users
        if is_union(annotation):
            return hoisted({"anyOf": [schema_of(part) for part in get_args(annotation)]})
    try:
        return hoisted(_from_pydantic(annotation))
    except Exception:
        return {}


def _from_pydantic(annotation: Any) -> dict[str, Any]:
    return pydantic.TypeAdapter(annotation).json_schema(by_alias=False)


def hoisted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the definitions of all its parts at its root, which is where references look for them."""
    found: dict[str, Any] = {}
    result = cast("dict[str, Any]", _without_definitions(schema, found))
    return result | {"$defs": found} if found else result


def _without_definitions(part: Any, found: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_without_definitions(item, found) for item in cast("list[Any]", part)]
    if not isinstance(part, dict):
        return part
    items = cast("dict[str, Any]", part)
    definitions = cast("dict[str, Any]", items.get("$defs", {}))
    found.update({name: _without_definitions(item, found) for name, item in definitions.items()})
    return {name: _without_definitions(item, found) for name, item in items.items() if name != "$defs"}
