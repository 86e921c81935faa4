"""Does today's code still replay yesterday's history?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, cast

import msgspec

from aob.client.run import Run
from aob.client.views import Event
from aob.clock import from_datetime
from aob.engine.history import Numbered, kept
from aob.errors import CallerError, UnknownEvent
from aob.kernel import events as ev
from aob.kernel.machine import Machine, carry_of
from aob.workflow.definitions import Workflow

Stored = tuple[int, str, int, Any]
"""An event as it is kept in a file: `[seq, kind, version, fields]`, fields in the order of the format."""

_CLASSES = {cls.KIND: cls for cls in ev.EVENTS}


class BadHistory(CallerError):
    """What was given is no run's history."""

    code = "bad_history"


def replay(workflow: Workflow[..., Any], history: str | PathLike[str] | Iterable[Event | Stored]) -> None:
    """Replay a recorded history with the code of `workflow`; no activity runs and nothing is written.

    Args:
        history: what `run.history()` returned, or a file: what `save` wrote, or `aob run history RUN --json`.

    Raises:
        NonDeterministic: the code does not fit; the error has the `diff` and its text shows it.
        NewerRun, UnknownEvent: a newer aob wrote the history.
        BadHistory: it is no history.
    """
    machine = replayed(workflow, load(history))
    try:
        found = machine.mismatch
        if found is not None:
            text = f"{found.message}\n\n{found.diff}\n" if found.diff else found.message
            raise type(found)(text, diff=found.diff, run_id=found.run_id, step=found.step)
    finally:
        machine.close()


async def save(run: Run[Any], path: str | PathLike[str]) -> None:
    """Write a run's history to a file, an event a line, for `replay` to be given for ever after."""
    client = run._client  # pyright: ignore[reportPrivateUsage]
    row = await run._row()  # pyright: ignore[reportPrivateUsage]
    lines = [dumped(event, seq) async for event, seq in client.history.read(row)]
    _write(Path(path), lines)


def _write(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"\n".join(lines) + b"\n")


def dumped(event: ev.Event, seq: int) -> bytes:
    """An event as a line of a file."""
    fields = msgspec.Raw(ev.encode_event(event))
    return msgspec.json.encode([seq, event.KIND, event.VERSION, fields])


def load(history: str | PathLike[str] | Iterable[Event | Stored]) -> list[Numbered]:
    """A history in any of its forms, as the kernel takes it.

    Raises:
        BadHistory, UnknownEvent.
    """
    given = _read(Path(history)) if isinstance(history, str | PathLike) else history
    events = [_event(item) for item in given]
    if not events or not isinstance(events[0][0], ev.RunStarted):
        raise BadHistory("a history begins with its run_started event, and this one does not")
    return events


def replayed(workflow: Workflow[..., Any], events: list[Numbered]) -> Machine:
    """A machine to which recorded events were applied, as after a restart; it is left in replay."""
    machine = Machine(workflow)
    events = kept(events)
    at = next((i for i in range(len(events) - 1, -1, -1) if isinstance(events[i][0], ev.Checkpoint)), None)
    machine.begin_replay(events)
    if at is not None:
        started, checkpoint = events[0][0], events[at][0]
        assert isinstance(started, ev.RunStarted) and isinstance(checkpoint, ev.Checkpoint)
        machine.restore(started, checkpoint, events[at][1])
        applied = carry_of(checkpoint).applied
        events = [e for e in events if e[1] > applied and e[1] != events[at][1]]
    for event, seq in events:
        machine.apply(event, seq)
    return machine


def _read(path: Path) -> Iterator[Any]:
    text = path.read_bytes().strip()
    try:
        if text.startswith(b"[{"):
            yield from msgspec.json.decode(text)
        else:
            for line in text.splitlines():
                yield msgspec.json.decode(line)
    except msgspec.DecodeError as e:
        raise BadHistory(f"{path} is no exported history: {e}") from e


def _event(item: Any) -> Numbered:
    if isinstance(item, Event):
        return _from_view(item.seq, from_datetime(item.at), item.kind, item.step, item.data)
    if isinstance(item, Mapping):
        return _from_json(cast("Mapping[str, Any]", item))
    try:
        seq, kind, version, fields = item
    except (TypeError, ValueError):
        raise BadHistory(f"this is no event: {item!r:.200}") from None
    data = fields.encode() if isinstance(fields, str) else msgspec.json.encode(fields)
    return ev.decode_event(kind, version, data), seq


def _from_json(item: Mapping[str, Any]) -> Numbered:
    try:
        view = msgspec.convert({"step": None, **item}, Event)
    except msgspec.ValidationError as e:
        raise BadHistory(f"this is no event: {dict(item)!r:.200}: {e}") from e
    return _event(view)


def _from_view(seq: int | None, at: int, kind: str, step: str | None, data: Mapping[str, Any]) -> Numbered:
    cls = _CLASSES.get(kind)
    if cls is None or seq is None:
        raise UnknownEvent(f"the history holds an event {kind!r} that this aob does not know")
    given = {**data, "at": at, "step": step}
    fields: list[Any] = []
    for field in msgspec.structs.fields(cls):
        if field.encode_name in given:
            fields.append(given[field.encode_name])
        elif field.default is not msgspec.NODEFAULT:
            fields.append(field.default)
        elif field.default_factory is not msgspec.NODEFAULT:
            fields.append(field.default_factory())
        else:
            raise BadHistory(f"event {seq} ({kind}) has no {field.name}")
    return ev.decode_event(kind, cls.VERSION, msgspec.json.encode(fields)), seq
