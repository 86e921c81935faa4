"""The two libraries that do the work: a node of msgspec, and a node of pydantic."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from aob.kernel.codec_types import orders_by_chance, parts
from aob.kernel.codec_wire import Wire, adapter_for, decode_other, encode

raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
raw_dict = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Node(Protocol):
    """Writes and reads one type."""

    @property
    def encode(self) -> Callable[[Any], bytes]:
        """The value as canonical JSON."""
        ...

    @property
    def decode(self) -> Callable[[Wire], Any]:
        """The value that JSON stands for, typed."""
        ...


@dataclasses.dataclass(slots=True, frozen=True)
class Pair:
    """A node made of two functions."""

    encode: Callable[[Any], bytes]
    decode: Callable[[Wire], Any]


def native_decoder(annotation: Any) -> Callable[[Wire], Any] | None:
    """msgspec's compiled reader of an annotation, or None where msgspec refuses it."""
    try:
        return msgspec.json.Decoder(annotation, dec_hook=decode_other).decode
    except Exception:  # msgspec runs descriptors and resolves names of user classes: anything may come out
        return None


def needs_slow_encoder(annotation: Any) -> bool:
    """Whether sets inside would be written in an order of chance by the compiled writer."""
    return any(map(orders_by_chance, parts(annotation)))


def native(annotation: Any) -> Node:
    """A node of msgspec alone; raises what msgspec raises for what it refuses."""
    return Pair(encode, msgspec.json.Decoder(annotation, dec_hook=decode_other).decode)


def by_pydantic(annotation: Any) -> Node | None:
    """A node of pydantic alone, or None for what pydantic does not know."""
    try:
        adapter = adapter_for(annotation)
    except Exception:
        return None
    dump = adapter.dump
    return Pair(lambda value: encode(dump(value)), adapter.load)
