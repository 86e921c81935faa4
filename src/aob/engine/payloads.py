"""Large and encrypted values: what stands in the store instead of a value of the user's, and the way back.

A payload that is not a plain value is stored as `{"$aob": [kind, …]}`: `blob` (a content hash), `sealed` (the codec's
output) or `value` (a user's own value that happens to look like one of these). A failure is such a payload behind its
type, and a text in a field of its own (a reason, a name, a title) is `$aob:sealed:…` or `$aob:value:…`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any, Protocol, cast

import msgspec
from msgspec import Raw

from aob.errors import StoreCorrupt
from aob.kernel import events as ev
from aob.kernel.failures import Failure
from aob.stores.protocol import Store

_KEY = "$aob"
_MARK = b'{"$aob":'
_TEXT = "$aob:"
_LOOKS_MARKED = b'"$aob'
_TEXTS = ("reason", "by")
"""Fields of events that hold what a person said, or who."""
HIDDEN = "sealed"
"""What stands for a text that cannot be opened here, where lists show it."""


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
        self.codec = codec
        self._limit = limit

    # --- events and their payloads ----------------------------------------------------------------

    def must_seal(self, data: bytes) -> bool:
        """Whether an encoded event holds something that cannot be stored as it stands."""
        return self.codec is not None or len(data) > self._limit or _LOOKS_MARKED in data

    def seal(self, event: ev.Event) -> tuple[ev.Event, list[tuple[str, bytes]]]:
        """The event as it is stored, and its blobs (content hash, bytes)."""
        blobs: list[tuple[str, bytes]] = []
        changed = {name: self._seal_field(value, blobs) for name, value in _fields(event)}
        return (msgspec.structs.replace(event, **changed) if changed else event), blobs

    def seal_bytes(self, data: bytes, blobs: list[tuple[str, bytes]]) -> bytes:
        """One payload as it is stored."""
        return bytes(self._seal_value(Raw(data), blobs))

    def _seal_field(self, value: Any, blobs: list[tuple[str, bytes]]) -> Any:
        if isinstance(value, Raw):
            return self._seal_value(value, blobs)
        if isinstance(value, str):
            return self.seal_text(value)
        if isinstance(value, Failure):
            return self._seal_failure(value, blobs)
        if isinstance(value, ev.Fork):
            return msgspec.structs.replace(value, overrides=self._seal_field(value.overrides, blobs))
        return {key: self._seal_value(item, blobs) for key, item in value.items()}

    def _seal_value(self, value: Raw, blobs: list[tuple[str, bytes]]) -> Raw:
        data = bytes(value)
        if data.startswith(_MARK):
            data = _marked("value", Raw(data))
        data = self._encrypted(data)
        if len(data) > self._limit:
            digest = digest_of(data)
            blobs.append((digest, data))
            data = _marked("blob", digest, len(data))
        return Raw(data)

    def _seal_failure(self, failure: Failure, blobs: list[tuple[str, bytes]]) -> Failure:
        """With a codec, all but the error's type and code. What is left out is a payload in the place of `state`."""
        if self.codec is None and _KEY not in (failure.state or ()):
            return failure
        data = msgspec.json.encode(failure)
        body = bytes(self._seal_value(Raw(data), blobs)) if self.codec is not None else _marked("value", Raw(data))
        return Failure(
            failure.type, state=msgspec.json.decode(body), non_retryable=failure.non_retryable, code=failure.code
        )

    async def open(self, event: ev.Event, data: bytes) -> ev.Event:
        """An event read from the store, with its payloads as they were."""
        if not may_be_marked(data):
            return event
        changed = {name: await self._open_field(value) for name, value in _fields(event)}
        return msgspec.structs.replace(event, **changed) if changed else event

    async def _open_field(self, value: Any) -> Any:
        if isinstance(value, Raw):
            return Raw(await self.open_bytes(bytes(value)))
        if isinstance(value, str):
            return self.open_text(value)
        if isinstance(value, Failure):
            body = _body_of(value)
            return value if body is None else msgspec.json.decode(await self.open_bytes(body), type=Failure)
        if isinstance(value, ev.Fork):
            return msgspec.structs.replace(value, overrides=await self._open_field(value.overrides))
        return {key: Raw(await self.open_bytes(bytes(item))) for key, item in value.items()}

    async def open_bytes(self, data: bytes) -> bytes:
        """One payload as it was.

        Raises:
            StoreCorrupt: its blob is missing or damaged, or it is encrypted and no codec was given, or another one.
        """
        while data.startswith(_MARK):
            kind, *rest = _parts(data)
            if kind == "value":
                return bytes(rest[0])
            text = msgspec.json.decode(rest[0], type=str)
            data = self._decrypted(text) if kind == "sealed" else await self._blob(text)
        return data

    async def _blob(self, digest: str) -> bytes:
        blob = await self._store.blob(digest)
        if blob is None or digest_of(blob) != digest:
            raise StoreCorrupt(
                f"the blob {digest} is {'missing' if blob is None else 'damaged'}: restore a backup of the store"
            )
        return blob

    # --- texts in columns of their own ------------------------------------------------------------

    def seal_text(self, text: str) -> str:
        """A text as it is stored."""
        if self.codec is not None:
            return f"{_TEXT}sealed:{self._base64(text.encode())}"
        return f"{_TEXT}value:{text}" if text.startswith(_TEXT) else text

    def open_text(self, text: str) -> str:
        """A text as it was.

        Raises:
            StoreCorrupt: it is encrypted, and no codec was given, or another one.
        """
        if not text.startswith(_TEXT):
            return text
        kind, _, rest = text.removeprefix(_TEXT).partition(":")
        return rest if kind == "value" else self._decrypted(rest).decode()

    def shown_text(self, text: str | None) -> str | None:
        """A text for a list, which is shown without the codec, too."""
        if text is None or (self.codec is None and text.startswith(f"{_TEXT}sealed:")):
            return None if text is None else HIDDEN
        return self.open_text(text)

    # --- messages ---------------------------------------------------------------------------------

    def seal_message(self, body: Any) -> bytes:
        """A message's body, or an answer, as it waits in the store: encrypted if there is a codec, but never a blob."""
        return self._encrypted(msgspec.json.encode(body))

    def open_message(self, data: bytes) -> bytes:
        """The body as JSON.

        Raises:
            StoreCorrupt: it is encrypted, and no codec was given, or another one.
        """
        return self._decrypted(msgspec.json.decode(_parts(data)[1], type=str)) if is_sealed(data) else data

    # --- the codec --------------------------------------------------------------------------------

    def _encrypted(self, data: bytes) -> bytes:
        return data if self.codec is None else _marked("sealed", self._base64(data))

    def _base64(self, data: bytes) -> str:
        assert self.codec is not None
        return base64.b64encode(self.codec.encode(data)).decode()

    def _decrypted(self, text: str) -> bytes:
        if self.codec is None:
            raise StoreCorrupt(
                "a payload is encrypted: open the store with the codec it was written with, aob.connect(…, codec=…)"
            )
        try:
            return self.codec.decode(base64.b64decode(text))
        except Exception as e:
            raise StoreCorrupt(
                f"the codec cannot decode a payload ({type(e).__name__}: {e}): open the store with the codec, and the "
                "key, that it was written with"
            ) from e


def is_sealed(data: bytes) -> bool:
    """Whether a message's body is encrypted."""
    return data.startswith(_MARK)


def blobs_of(data: bytes) -> list[str]:
    """The content hash of the blob that one stored payload refers to, if it does."""
    if not data.startswith(_MARK):
        return []
    kind, *rest = _parts(data)
    return [msgspec.json.decode(rest[0], type=str)] if kind == "blob" else []


def may_be_marked(data: bytes) -> bool:
    """Whether a stored event may hold something that is not a plain value."""
    return _LOOKS_MARKED in data


def blobs_in(event: ev.Event) -> list[str]:
    """Content hashes of the blobs that a stored event refers to."""
    return [digest for _, value in _fields(event) for payload in _stored(value) for digest in blobs_of(payload)]


def _stored(value: Any) -> Iterator[bytes]:
    """The payloads in a field."""
    if isinstance(value, Raw):
        yield bytes(value)
    elif isinstance(value, Failure):
        yield _body_of(value) or b""
    elif isinstance(value, ev.Fork):
        yield from _stored(value.overrides)
    elif isinstance(value, dict):
        yield from map(bytes, cast("dict[str, Raw]", value).values())


def _fields(event: ev.Event) -> Iterator[tuple[str, Any]]:
    """The fields that hold what users gave."""
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if (
            isinstance(value, Raw | Failure | ev.Fork)
            or (isinstance(value, str) and name in _TEXTS)
            or (isinstance(value, dict) and name == "overrides")
        ):
            yield name, value


def _body_of(failure: Failure) -> bytes | None:
    """What stands in a stored failure for all that was left out."""
    return msgspec.json.encode(failure.state) if _KEY in (failure.state or ()) else None


def _parts(data: bytes) -> tuple[str, *tuple[Raw, ...]]:
    kind, *rest = msgspec.json.decode(data, type=dict[str, list[Raw]])[_KEY]
    return msgspec.json.decode(kind, type=str), *rest


def _marked(*parts: object) -> bytes:
    return msgspec.json.encode({_KEY: parts})
