"""Unions of several classes: which member a value is of, and how its JSON tells."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from aob.kernel.codec_native import Node, raw_dict
from aob.kernel.codec_types import is_typeddict
from aob.kernel.codec_wire import ATOMS, Misfit, Wire, encode_fast, located


@dataclasses.dataclass(slots=True)
class Choice:
    """A member of a union: its class at run time, its tag, and whether it is written as an object with fields."""

    kind: Any
    tag: str
    node: Node
    inline: bool

    def write(self, value: Any) -> bytes:
        data = self.node.encode(value)
        if self.inline and "$type" not in (items := raw_dict(data)):
            return encode_fast({"$type": self.tag, **items})
        return encode_fast({"$type": self.tag, "$value": msgspec.Raw(data)})

    def read(self, items: dict[str, msgspec.Raw]) -> Any:
        if items.keys() == {"$type", "$value"}:
            return self.node.decode(items["$value"])
        return self.node.decode(encode_fast({name: item for name, item in items.items() if name != "$type"}))


class Union:
    """A node for a union that msgspec refuses: plain values as they are, other members with a `$type` key.

    Args:
        atoms: the node of the plain members, where there are any.
        choices: the other members.
    """

    def __init__(self, atoms: Node | None, choices: list[Choice]) -> None:
        self._atoms, self._choices = atoms, choices
        self._by_tag = {choice.tag: choice for choice in choices}

    def encode(self, value: Any) -> bytes:
        if self._atoms is not None and type(value) in ATOMS:
            return self._atoms.encode(value)
        choices = [choice for choice in self._choices if _is_of(value, choice.kind, exactly=True)]
        choices = choices or [choice for choice in self._choices if _is_of(value, choice.kind, exactly=False)]
        if len(choices) > 1:
            choices = [choice for choice in choices if _round_trips(choice.node, value)] or choices
        if choices:
            return choices[0].write(value)
        if self._atoms is not None:
            return self._atoms.encode(value)
        names = ", ".join(choice.tag for choice in self._choices)
        raise Misfit(f"Expected one of {names}, got `{type(value).__name__}`")

    def decode(self, data: Wire) -> Any:
        try:
            items = raw_dict(data)
        except msgspec.ValidationError:
            items = {}
        if "$type" in items and (choice := self._by_tag.get(str(msgspec.json.decode(items["$type"])))):
            return choice.read(items)
        return self._guess(data)

    def _guess(self, data: Wire) -> Any:
        """Reads what an outside caller wrote without a `$type`: the member that keeps most of it."""
        best, kept, reason = None, -1, ""
        nodes = [("plain value", self._atoms)] if self._atoms else []
        for name, node in nodes + [(choice.tag, choice.node) for choice in self._choices]:
            try:
                found = node.decode(data)
                score = _shared_keys(data, node.encode(found))
            except RecursionError:
                raise
            except Exception as exc:
                path, text = located(exc)
                reason = f"as {name}: {text} at `{path}`"
                continue
            if score > kept:
                best, kept = found, score
        if kept < 0:
            tags = ", ".join(self._by_tag)
            raise Misfit(f"Expected one of {tags}, which `$type` names; {reason}")
        return best


def _is_of(value: Any, kind: Any, *, exactly: bool) -> bool:
    if is_typeddict(kind):
        return isinstance(value, dict)
    if not isinstance(kind, type):
        return False
    return type(value) is kind if exactly else isinstance(value, kind)


def _round_trips(node: Node, value: Any) -> bool:
    try:
        return bool(node.decode(node.encode(value)) == value)
    except Exception:
        return False


def _shared_keys(data: Wire, again: bytes) -> int:
    try:
        return len(raw_dict(data).keys() & raw_dict(again).keys())
    except msgspec.ValidationError:
        return 0
