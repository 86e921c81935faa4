"""What a run takes over a checkpoint, beside the author's state."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from aob.errors import CheckpointBusy
from aob.kernel import events as ev, flags
from aob.kernel.limits import CLEANUP_RESERVE

if TYPE_CHECKING:
    from aob.kernel.machine import Machine


class Carry(msgspec.Struct, omit_defaults=True):
    """What the kernel takes over a checkpoint. `applied`: events up to this `seq` are in it."""

    applied: int
    counters: dict[str, int]
    seed: int
    mailbox: dict[str, list[Raw]] = {}
    steps: int = 0
    children: int = 0
    exhausted: str | None = None
    cancel: ev.CancelRequested | None = None
    compensated: bool = False
    spare: int = CLEANUP_RESERVE
    deadline: int | None = None
    fork: ev.Fork | None = None
    deepest: int = 0


OF_THE_PASS_BEFORE: tuple[type[ev.Event], ...] = (ev.Emitted, ev.Changed, ev.UpdateCompleted, ev.Checkpoint)
"""Events that passes leave on their way to their checkpoints, with a `seq` between `applied` and the last one's: they
belong to passes that ended. All others in that window came from outside, and are the next pass's."""

_carry_decoder = msgspec.json.Decoder(Carry)


def carry_of(event: ev.Checkpoint) -> Carry:
    """What a checkpoint takes along."""
    return _carry_decoder.decode(event.carry)


def refuse_busy(machine: Machine, updates: Iterable[str]) -> None:
    """See that the run has nothing that a checkpoint cannot keep.

    Args:
        updates: step ids of those that are under way.

    Raises:
        CheckpointBusy: it has, or the caller is not its main task.
    """
    if asyncio.current_task(machine.loop) is not machine.main:
        raise CheckpointBusy("checkpoint must be called from the workflow function itself, not from a task it started")
    if machine.saga_depth:
        raise CheckpointBusy("checkpoint was called inside a saga; finish the saga first")
    if machine.compensations and machine.flags & flags.NO_UNDO_AT_CHECKPOINT:
        raise CheckpointBusy(
            f"checkpoint cannot keep compensations, which are functions, and {len(machine.compensations)} of the whole "
            "run are registered: register them inside a saga, and finish it first"
        )
    if busy := [*machine.open, *machine.timers.outstanding(), *updates]:
        raise CheckpointBusy(f"checkpoint needs that nothing is outstanding, but these are: {', '.join(busy)}")
