"""The typed JSON codec of one annotation."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from aob.errors import BadPayload, BadValue
from aob.kernel.codec_blame import TOO_DEEP, Problem, children, difference, name_of, unencodable
from aob.kernel.codec_nodes import node_for, precise_node
from aob.kernel.codec_wire import Wire, located


class ValueCodec:
    """Writes and reads the values of one annotation as canonical JSON; see `codec_for`.

    Args:
        annotation: any annotation; without one, `Any`.
        where: what the values are, for messages, such as `activity fetch, result`.
        note: more for messages, such as why the annotation is not the one in the source.
    """

    __slots__ = ("_decode", "_encode", "_note", "annotation", "where")

    def __init__(self, annotation: Any, where: str, note: str = "") -> None:
        node = node_for(annotation)
        self.annotation, self.where, self._note = annotation, where, note
        self._encode, self._decode = node.encode, node.decode

    def encode(self, value: Any) -> bytes:
        """The value as canonical JSON, without the check that it comes back.

        Raises:
            BadValue: it has no JSON form.
        """
        try:
            return self._encode(value)
        except Exception as exc:
            raise self._refusal(value, exc) from None

    def decode(self, data: Wire) -> Any:
        """The value that recorded or received JSON stands for.

        Raises:
            BadPayload: it does not fit the annotation; the message names the field.
        """
        try:
            return self._decode(data)
        except RecursionError:
            raise BadPayload(f"{self.where}: the JSON is nested too deeply; flatten it.{self._note}") from None
        except Exception as exc:
            path, text = located(self._precise(data, exc))
            raise BadPayload(f"{self.where}: {text} at `{path}`.{self._note}") from None

    def encode_checked(self, value: Any) -> tuple[bytes, Any]:
        """The value's bytes, and the value as it comes back from them.

        Raises:
            BadValue: it would come back as something else, or has no JSON form; the message names the field.
        """
        try:
            data = self._encode(value)
            back = self._decode(data)
            if back == value:
                return data, back
        except Exception:  # said again below, with the field's name
            pass
        return self._checked_slowly(value)

    def _precise(self, data: Wire, exc: Exception) -> Exception:
        """The same error with the keys of mappings in its path, which msgspec leaves out."""
        if "[...]" in str(exc):
            try:
                precise_node(self.annotation).decode(data)
            except Exception as better:
                return better
        return exc

    def _checked_slowly(self, value: Any) -> tuple[bytes, Any]:
        try:
            data = self._encode(value)
            back = self._decode(data)
            problem = difference(value, back)
        except Exception as exc:
            raise self._refusal(value, exc) from None
        if problem:
            raise self._bad_value(problem)
        return data, back

    def _refusal(self, value: Any, exc: Exception) -> BadValue:
        try:
            if isinstance(exc, RecursionError):
                problem = TOO_DEEP
            elif not (problem := unencodable(value)):
                problem = _misfit(value, self._precise(self._encode(value), exc) if "[...]" in str(exc) else exc)
        except RecursionError:
            problem = TOO_DEEP
        return self._bad_value(problem)

    def _bad_value(self, problem: Problem) -> BadValue:
        path, text, advice = problem
        return BadValue(f"{self.where}: the value at `{path}` {text}; {advice}.{self._note}")


def _misfit(value: Any, exc: Exception) -> Problem:
    path, text = located(exc)
    found = _at(value, path)
    kind = f"is of type {found} and does not fit the annotation" if found else "does not fit the annotation"
    return Problem(path, f"{kind} ({text})", "change the value or the annotation")


def _at(value: Any, path: str) -> str | None:
    """The type of what a JSON path leads to, where the path is a plain one."""
    for step in path.removeprefix("$").replace("[", ".[").split(".")[1:]:
        below = children(value) or {}
        key = int(step[1:-1]) if step[1:-1].isdigit() else step
        if key not in below:
            return None
        value = below[key]
    return name_of(value)


@lru_cache(maxsize=8192)
def _cached(annotation: Any, where: str, note: str) -> ValueCodec:
    return ValueCodec(annotation, where, note)


def codec_for(annotation: Any, where: str, note: str = "") -> ValueCodec:
    """The codec of an annotation, made once.

    Args:
        annotation: any annotation; what cannot be typed is treated as `Any`, which takes plain JSON values alone.
        where: what the values are, for messages.
        note: one more sentence for messages.
    """
    try:
        return _cached(annotation, where, note)
    except TypeError:  # unhashable, such as Annotated[int, {}]
        return ValueCodec(annotation, where, note)
