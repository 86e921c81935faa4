"""Large and encrypted payloads: what stands in an event instead of the value, and the way back.

A payload that is not a plain value is stored as `{"$aob": [kind, …]}`: `blob` (a content hash), `sealed` (the codec's
output) or `value` (a user's own value that happens to look like one of these).
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from aob.errors import StoreCorrupt
from aob.kernel import events as ev
from aob.stores.protocol import Store

_MARK = b'{"$aob":'
_LOOKS_MARKED = b'"$aob"'


class PayloadCodec(Protocol):
    """Encrypts payloads on their way to the store; what `aob.connect(codec=…)` takes."""

    def encode(self, data: bytes) -> bytes: ...

    def decode(self, data: bytes) -> bytes: ...


def digest_of(data: bytes) -> str:
    """The content hash under which a blob is kept."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Payloads:
    """Seals what goes to the store and opens what comes from it.

    Args:
        limit: payloads above this size (bytes) go to the blob store.
    """

    def __init__(self, store: Store, codec: PayloadCodec | None, limit: int) -> None:
        self._store = store
        self._codec = codec
        self._limit = limit

    def must_seal(self, data: bytes) -> bool:
        """Whether an encoded event holds something that cannot be stored as it stands."""
        return self._codec is not None or len(data) > self._limit or _LOOKS_MARKED in data

    def seal(self, event: ev.Event) -> tuple[ev.Event, list[tuple[str, bytes]]]:
        """The event as it is stored, and its blobs (content hash, bytes)."""
        blobs: list[tuple[str, bytes]] = []
        changed = {
            name: self._seal_value(value, blobs)
            for name in event.__struct_fields__
            if isinstance(value := getattr(event, name), Raw)
        }
        return (msgspec.structs.replace(event, **changed) if changed else event), blobs

    def seal_bytes(self, data: bytes, blobs: list[tuple[str, bytes]]) -> bytes:
        """One payload as it is stored."""
        return bytes(self._seal_value(Raw(data), blobs))

    def seal_inline(self, value: Raw) -> Raw:
        """One payload for a message: encrypted if there is a codec, but never a blob."""
        data = bytes(value)
        if data.startswith(_MARK):
            data = _marked("value", Raw(data))
        if self._codec is not None:
            data = _marked("sealed", base64.b64encode(self._codec.encode(data)).decode())
        return Raw(data)

    def _seal_value(self, value: Raw, blobs: list[tuple[str, bytes]]) -> Raw:
        data = bytes(self.seal_inline(value))
        if len(data) > self._limit:
            digest = digest_of(data)
            blobs.append((digest, data))
            data = _marked("blob", digest, len(data))
        return Raw(data)

    async def open(self, event: ev.Event, data: bytes) -> ev.Event:
        """An event read from the store, with its payloads as they were."""
        if _LOOKS_MARKED not in data:
            return event
        changed: dict[str, Any] = {}
        for name in event.__struct_fields__:
            value = getattr(event, name)
            if isinstance(value, Raw) and bytes(value).startswith(_MARK):
                changed[name] = Raw(await self.open_bytes(bytes(value)))
        return msgspec.structs.replace(event, **changed) if changed else event

    async def open_bytes(self, data: bytes) -> bytes:
        """One payload as it was.

        Raises:
            StoreCorrupt: its blob is missing or damaged, or it is encrypted and no codec was given.
        """
        while data.startswith(_MARK):
            kind, *rest = msgspec.json.decode(data, type=dict[str, list[Raw]])["$aob"]
            name = msgspec.json.decode(kind)
            if name == "value":
                return bytes(rest[0])
            data = await self._open_kind(name, msgspec.json.decode(rest[0], type=str))
        return data

    async def _open_kind(self, kind: str, text: str) -> bytes:
        if kind == "sealed":
            if self._codec is None:
                raise StoreCorrupt(
                    "a payload is encrypted: open the store with the codec it was written with, aob.connect(…, codec=…)"
                )
            return self._codec.decode(base64.b64decode(text))
        blob = await self._store.blob(text)
        if blob is None or digest_of(blob) != text:
            raise StoreCorrupt(
                f"the blob {text} is {'missing' if blob is None else 'damaged'}: restore a backup of the store"
            )
        return blob


def blobs_of(data: bytes) -> list[str]:
    """The content hash of the blob that one stored payload refers to, if it does."""
    if not data.startswith(_MARK):
        return []
    kind, *rest = msgspec.json.decode(data, type=dict[str, list[Raw]])["$aob"]
    return [msgspec.json.decode(rest[0], type=str)] if bytes(kind) == b'"blob"' else []


def blobs_in(event: ev.Event) -> list[str]:
    """Content hashes of the blobs that a stored event refers to."""
    values = (getattr(event, name) for name in event.__struct_fields__)
    return [digest for value in values if isinstance(value, Raw) for digest in blobs_of(bytes(value))]


def _marked(*parts: object) -> bytes:
    return msgspec.json.encode({"$aob": parts})
