"""What replaying the corpus comes to, for comparing processes: `python -m tests.properties.replaying FILE` prints JSON.

FILE holds a JSON object: by workflow, the lines of its history.
"""

import json
import sys
from pathlib import Path
from typing import Any

from aob.engine.history import Numbered
from aob.kernel import events as ev
from aob.kernel.machine import Machine
from aob.kernel.steps import Abandon, Step
from aob.testing.replays import load, replayed
from tests.properties.corpus import CASES

Lines = list[list[Any]]


def told(machine: Machine) -> dict[str, Any]:
    """What a machine waits for, or how it ended: all that it has decided."""
    mismatch = machine.mismatch
    return {
        "open": sorted([step.id, step.check] for step in machine.open.values()),
        "timers": sorted(machine.timers.outstanding()),
        "due": machine.timers.next_due(),
        "waits": machine.mailbox.waits(),
        "unread": sorted(machine.mailbox.unread()),
        "ended": ended(machine.ended),
        "mismatch": None if mismatch is None else f"{mismatch}\n{mismatch.diff}",
    }


def ended(event: ev.Event | None) -> list[Any] | None:
    """How a run ended, without the moment and the place in the code."""
    if event is None:
        return None
    fields = ev.event_data(event)
    failure = fields.pop("failure", None)
    return [event.KIND, fields, None if failure is None else [failure.get("type"), failure.get("message")]]


def commands(machine: Machine) -> list[str]:
    """What it would do now, in order."""
    names: list[str] = []
    for command in machine.commands:
        if isinstance(command, Step | Abandon):
            step = command.step if isinstance(command, Abandon) else command
            names.append(f"{type(command).__name__} {step.id}")
        else:
            names.append(command.KIND)
    return names


def live(name: str, events: list[Numbered]) -> list[dict[str, Any]]:
    """What the machine said after each event as it came, without any replay."""
    machine = Machine(CASES[name].workflow)
    said: list[dict[str, Any]] = []
    for event, seq in events:
        machine.apply(event, seq)
        said.append(told(machine))
    machine.close()
    return said


def resumed(name: str, events: list[Numbered], length: int) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
    """After a restart behind so many events: what it says then, what it would do, and where the rest leads it."""
    machine = replayed(CASES[name].workflow, events[:length])
    machine.go_live()
    then, do = told(machine), commands(machine)
    for event, seq in events[length:]:
        machine.commands.clear()
        machine.apply(event, seq)
    end = told(machine)
    machine.close()
    return then, do, end


def all_of(histories: dict[str, Lines]) -> dict[str, Any]:
    """Every prefix of every history."""
    out: dict[str, Any] = {}
    for name, lines in histories.items():
        events = load([tuple(line) for line in lines])
        prefixes = [resumed(name, events, length) for length in range(1, len(events) + 1)]
        out[name] = {"live": live(name, events), "resumed": prefixes}
    return out


if __name__ == "__main__":
    print(json.dumps(all_of(json.loads(Path(sys.argv[1]).read_text()))))
