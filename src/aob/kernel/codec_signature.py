"""The typed JSON codec of one function: its arguments, its input form, and its result."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import msgspec

from aob.errors import BadInput, BadPayload
from aob.kernel.codec_native import native_decoder, needs_slow_encoder
from aob.kernel.codec_schema import hoisted, schema_of
from aob.kernel.codec_types import has_rules, hints_of, parts, simplify, union_of
from aob.kernel.codec_value import ValueCodec, codec_for
from aob.kernel.codec_wire import Wire, encode_fast, located

_EMPTY = inspect.Parameter.empty
_PLAIN = inspect.Parameter.POSITIONAL_OR_KEYWORD
_BY_NAME = inspect.Parameter.KEYWORD_ONLY
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, _PLAIN)
_ARGS, _KWARGS = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD

_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raw_items = msgspec.json.Decoder(list[msgspec.Raw]).decode

Call = tuple[tuple[Any, ...], dict[str, Any]]


class SignatureCodec:
    """Writes and reads the arguments of one function as a JSON object by parameter name.

    Args:
        fn: the function; a first parameter `self` is left out.
        where: what it is, for messages, such as `activity fetch`.
    """

    __slots__ = (
        "_by_position",
        "_decode",
        "_only",
        "_parameters",
        "_signature",
        "_struct",
        "codecs",
        "names",
        "result",
        "where",
    )

    def __init__(self, fn: Callable[..., Any], where: str) -> None:
        signature = inspect.signature(fn)
        parameters = list(signature.parameters.values())
        if parameters and parameters[0].name == "self":
            del parameters[0]
        hints, unresolved = hints_of(fn)

        def codec(name: str, what: str) -> ValueCodec:
            return codec_for(hints.get(name, Any), f"{where}, {what}", _note(unresolved.get(name)))

        self.where = where
        self.names = tuple(parameter.name for parameter in parameters)
        self.codecs = tuple(codec(name, f"argument {name!r}") for name in self.names)
        self.result = codec("return", "result")
        self._signature, self._parameters = signature.replace(parameters=parameters), parameters
        self._only = len(parameters) == 1 and parameters[0].kind not in (_ARGS, _KWARGS)
        self._by_position = all(parameter.kind is _PLAIN and parameter.default is _EMPTY for parameter in parameters)
        self._struct, self._decode = _compiled(parameters, [codec.annotation for codec in self.codecs])

    def encode_args(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The arguments as an object by parameter name; defaults are not filled in.

        Raises:
            BadValue: one of them does not round-trip; the message names it.
            TypeError: they do not fit the signature.
        """
        try:
            call = self._struct(*args, **kwargs)
            data = encode_fast(call)
            if self._decode(data) == call:
                return data
        except Exception:  # said again below, with the argument's name
            pass
        return self._encode_one_by_one(args, kwargs)

    def bind_wire(self, args: list[msgspec.Raw], kwargs: dict[str, msgspec.Raw]) -> msgspec.Raw:
        """Arguments that came as JSON, as an object by parameter name.

        Raises:
            BadInput: they do not fit the signature.
        """
        try:
            fields: dict[str, Any] = dict(self._signature.bind(*args, **kwargs).arguments)
        except TypeError as e:
            raise BadInput(f"{self.where}: {e}") from None
        return msgspec.Raw(encode_fast(fields))

    def decode_args(self, data: Wire) -> Call:
        """The arguments to call the function with, from `encode_args`.

        Raises:
            BadPayload: they do not fit the signature; the message names the argument.
        """
        if self._struct is _not_compiled:
            return self._decode_one_by_one(data)
        try:
            call: tuple[Any, ...] = msgspec.structs.astuple(self._decode(data))
        except RecursionError:
            raise BadPayload(f"{self.where}: the JSON is nested too deeply; flatten it.") from None
        except Exception as exc:
            path, text = located(exc)
            raise BadPayload(f"{self.where}: {text} at `{path}`.") from None
        if self._by_position:
            return call, {}
        return self._call(dict(zip(self.names, call, strict=True)))

    def encode_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The input of a run: the value of the only parameter, else the object by name, or null without parameters.

        A default is not filled in, unless leaving it out could not be told from passing None.

        Raises:
            BadValue: an argument does not round-trip.
            TypeError: they do not fit the signature.
        """
        if not self.names:
            self._signature.bind(*args, **kwargs)
            return b"null"
        if not self._only:
            return self.encode_args(args, kwargs)
        if len(args) == 1 and not kwargs and self._parameters[0].kind in _BY_POSITION:
            return self.codecs[0].encode_checked(args[0])[0]
        given = self._signature.bind(*args, **kwargs).arguments
        if given:
            return self.codecs[0].encode_checked(given[self.names[0]])[0]
        return self.codecs[0].encode_checked(self._parameters[0].default)[0] if self._takes_null else b"null"

    def decode_input(self, data: Wire) -> Call:
        """The arguments to call the function with, from a run's input.

        Raises:
            BadInput: the input does not fit; the message names the field.
        """
        try:
            if not self.names and bytes(data) == b"null":
                return (), {}
            if not self._only:
                if bytes(data) == b"null" and not any(_required(p) for p in self._parameters):
                    return (), {}
                return self.decode_args(data)
            if self._parameters[0].default is not _EMPTY and bytes(data) == b"null" and not self._takes_null:
                return (), {}
            value = self.codecs[0].decode(data)
        except BadPayload as exc:
            raise BadInput(exc.message) from None
        return ((), {self.names[0]: value}) if self._parameters[0].kind not in _BY_POSITION else ((value,), {})

    def input_schema(self) -> dict[str, Any]:
        """A JSON Schema of the input, as good as can be had."""
        if not self.names:
            return {"type": "null"}
        if self._only:
            return schema_of(self.codecs[0].annotation)
        pairs = list(zip(self._parameters, self.codecs, strict=True))
        return hoisted(
            {
                "type": "object",
                "properties": {parameter.name: _schema(parameter, codec) for parameter, codec in pairs},
                "required": [parameter.name for parameter in self._parameters if _required(parameter)],
                "additionalProperties": False,
            }
        )

    @property
    def _takes_null(self) -> bool:
        try:
            self.codecs[0].decode(b"null")
        except BadPayload:
            return False
        return True

    def _encode_one_by_one(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        given = self._signature.bind(*args, **kwargs).arguments
        fields: dict[str, Any] = {}
        for parameter, codec in zip(self._parameters, self.codecs, strict=True):
            if parameter.name not in given:
                continue
            value = given[parameter.name]
            if parameter.kind is _ARGS:
                fields[parameter.name] = [_raw(codec, item) for item in cast("tuple[Any, ...]", value)]
            elif parameter.kind is _KWARGS:
                fields[parameter.name] = {k: _raw(codec, item) for k, item in cast("dict[str, Any]", value).items()}
            else:
                fields[parameter.name] = _raw(codec, value)
        return encode_fast(fields)

    def _decode_one_by_one(self, data: Wire) -> Call:
        try:
            fields = _raw_fields(data)
            given: dict[str, Any] = {}
            for parameter, codec in zip(self._parameters, self.codecs, strict=True):
                if parameter.name in fields:
                    given[parameter.name] = _read(parameter, codec, fields.pop(parameter.name))
                elif _required(parameter):
                    raise BadPayload(f"{self.where}: argument {parameter.name!r} is missing.")
        except (ValueError, RecursionError) as exc:
            raise BadPayload(f"{self.where}: expected an object by argument name ({exc}).") from None
        if fields:
            raise BadPayload(f"{self.where}: there is no argument {next(iter(fields))!r}.")
        return self._call(given)

    def _call(self, given: dict[str, Any]) -> Call:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        by_position = True
        for parameter in self._parameters:
            value = given.get(parameter.name, msgspec.UNSET)
            if value is msgspec.UNSET:
                by_position = False
            elif parameter.kind is _ARGS:
                args.extend(value)
            elif parameter.kind is _KWARGS:
                kwargs.update(value)
            elif by_position and parameter.kind in _BY_POSITION:
                args.append(value)
            else:
                kwargs[parameter.name] = value
        return tuple(args), kwargs


def _note(unresolved: str | None) -> str:
    return f" (Its annotation {unresolved!r} could not be resolved, so it counts as Any.)" if unresolved else ""


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is _EMPTY and parameter.kind not in (_ARGS, _KWARGS)


def _raw(codec: ValueCodec, value: Any) -> msgspec.Raw:
    return msgspec.Raw(codec.encode_checked(value)[0])


def _read(parameter: inspect.Parameter, codec: ValueCodec, data: msgspec.Raw) -> Any:
    if parameter.kind is _ARGS:
        return [codec.decode(item) for item in _raw_items(data)]
    if parameter.kind is _KWARGS:
        return {name: codec.decode(item) for name, item in _raw_fields(data).items()}
    return codec.decode(data)


def _schema(parameter: inspect.Parameter, codec: ValueCodec) -> dict[str, Any]:
    schema = schema_of(codec.annotation)
    if parameter.kind is _ARGS:
        return {"type": "array", "items": schema}
    return {"type": "object", "additionalProperties": schema} if parameter.kind is _KWARGS else schema


def _not_compiled(*_args: Any, **_kwargs: Any) -> Any:
    raise TypeError


def _compiled(
    parameters: list[inspect.Parameter], annotations: list[Any]
) -> tuple[Callable[..., Any], Callable[[Wire], Any]]:
    """A msgspec struct of the parameters, which binds, writes and reads them in one go; and its reader."""
    nothing = _not_compiled, _not_compiled
    if any(parameter.kind not in (_PLAIN, _BY_NAME) for parameter in parameters):
        return nothing
    if any(needs_slow_encoder(a) or any(map(has_rules, parts(a))) for a in annotations):
        return nothing
    fields = list(map(_field, parameters, annotations))
    count = sum(parameter.kind is _PLAIN for parameter in parameters)
    try:
        struct = msgspec.defstruct("Args", fields[:count], forbid_unknown_fields=True)
        if fields[count:]:
            struct = msgspec.defstruct("Args", fields[count:], bases=(struct,), kw_only=True)
    except Exception:  # whatever msgspec finds wrong with the types of users
        return nothing
    decode = native_decoder(struct)
    return (struct, decode) if decode else nothing


def _field(parameter: inspect.Parameter, annotation: Any) -> Any:
    kind = simplify(annotation)
    if parameter.default is _EMPTY:
        return (parameter.name, kind)
    return (parameter.name, union_of((kind, msgspec.UnsetType)), msgspec.UNSET)
