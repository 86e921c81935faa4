"""What a caller gives to start a run, as the request that travels."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Raw

from aob.client.run import annotation_of
from aob.clock import from_datetime
from aob.engine.ids import check_run_id
from aob.engine.starts import StartRequest, start_request
from aob.errors import BadInput, CallerError
from aob.kernel.codec import codec_for
from aob.kernel.texts import check_text
from aob.workflow.definitions import Workflow


def request_of(
    workflow: Workflow[..., Any] | str, definition: Workflow[..., Any] | None, args: tuple[Any, ...],
    kwargs: dict[str, Any], run_id: str, tenant: str, attributes: Mapping[str, str] | None,
) -> StartRequest:  # fmt: skip
    """A start of a workflow.

    Args:
        workflow: what the caller named, and `definition` its code, if this process knows it.

    Raises:
        BadRunId, BadInput, BadValue.
    """
    name, labels = check_run_id(run_id), _labels(attributes)
    for what, given in (("tenant", tenant), ("workflow", workflow if isinstance(workflow, str) else workflow.name)):
        check_text(what, given)
        if "\0" in given:
            raise BadInput(f"{given!r} cannot name a {what}: the character 0 cannot be stored")
    if not isinstance(workflow, str):
        return start_request(workflow, workflow.codec.encode_input(args, kwargs), name, tenant, labels)
    # by name, the input is the JSON that was given: the same in every process, whether it knows the code or not
    encoded = _plain_input(*_by_name(definition, args, kwargs))
    if definition is None:
        return StartRequest(
            workflow=workflow, input=Raw(encoded), run_id=name, tenant=tenant, attributes=labels, named=True
        )
    definition.codec.decode_input(encoded)
    return start_request(definition, encoded, name, tenant, labels)


def moment_of(at: datetime) -> int:
    """`start_at=` in microseconds since 1970."""
    try:
        return from_datetime(at)
    except ValueError as e:
        raise CallerError(f"start_at: {e}") from e


def signal_of(given: tuple[Any, ...]) -> tuple[str, Raw, str | None]:
    """`signal=` with its payload encoded."""
    name, payload, signal_id = (*given, None, None, None)[:3]
    if not isinstance(name, str) or len(given) > 3:
        raise CallerError(f"signal= is (name, payload, id), not {given!r}")
    check_text("signal", name, signal_id)
    body = codec_for(annotation_of(payload), f"signal {name}").encode_checked(payload)[0]
    return name, Raw(body), signal_id


def arguments_of(workflow: Workflow[..., Any] | str, value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """One of the inputs of `start_many`, as arguments."""
    one = isinstance(workflow, str) or len(workflow.codec.names) == 1
    if one:
        return (value,), {}
    if isinstance(value, tuple):
        return value, {}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return (), value  # pyright: ignore[reportUnknownVariableType]
    if value is None:
        return (), {}
    return (value,), {}


def _labels(attributes: Mapping[str, str] | None) -> dict[str, str]:
    labels = dict(attributes or {})
    for key, value in labels.items():
        if not isinstance(key, str) or not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadInput(f"attributes are strings, but {key!r} is {value!r}")
        check_text("attribute", key, value)
    return labels


def _by_name(
    definition: Workflow[..., Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Several arguments, by the names that the definition gives them."""
    if definition is None or len(args) + len(kwargs) < 2:
        return args, kwargs
    return (), {**dict(zip(definition.codec.names, args, strict=False)), **kwargs}


def _plain_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The input of a workflow that is known by name alone: the only argument, or the named ones."""
    if len(args) > 1 or (args and kwargs):
        raise BadInput(
            "a workflow given by name takes one argument, or arguments by name: its parameters are not known here"
        )
    value = args[0] if args else kwargs or None
    return codec_for(annotation_of(value), "input").encode_checked(value)[0]
