"""What a run takes over a checkpoint, beside the author's state."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from aob.kernel import events as ev
from aob.kernel.limits import CLEANUP_RESERVE


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
