"""Would today's code carry on with a recorded run? A replay that runs no activity and writes nothing."""

from __future__ import annotations

import re

import msgspec

from aob.engine.history import History
from aob.errors import AobError, NonDeterministic
from aob.kernel import events as ev
from aob.kernel.machine import Machine, Program
from aob.kernel.states import TERMINAL_STATES
from aob.stores.rows import RunRow

_FRAME = re.compile(r'^ *File "(.+)", line (\d+)', re.MULTILINE)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a rehearsal came to.

    Args:
        code: `fits`; `non_deterministic`; `would_fail`: the code fits, and then ends the run with an error at once; or
            the code of the error for which the history cannot be read.
        events: how many events the run has.
        message: what is wrong, for a person.
        diff: recorded against asked, where they differ.
        step: where they differ.
        where: `file:line` of today's code there, where it is known.
    """

    run_id: str
    tenant: str
    workflow: str
    code: str
    events: int = 0
    message: str = ""
    diff: str = ""
    step: str | None = None
    where: str | None = None

    @property
    def fits(self) -> bool:
        """Whether the run would go on."""
        return self.code == "fits"


async def rehearse(history: History, program: Program, row: RunRow) -> Verdict:
    """Replay a run with the code of `program`."""
    machine = Machine(program)
    try:
        seq, _, _ = await history.tail(row)
        if seq:
            await history.replay(machine, row)
    except AobError as e:
        return verdict(row, e.code, message=e.message)
    try:
        if machine.mismatch is not None:
            return _unfit(row, seq, machine.mismatch)
        if seq and row.status not in TERMINAL_STATES:
            machine.go_live()
            if machine.mismatch is None and isinstance(machine.ended, ev.RunFailed):
                failure = machine.ended.failure
                said = f"{failure.type.rpartition(':')[2]}: {failure.message}"
                return verdict(
                    row, "would_fail", events=seq, message=f"today's code ends this run at once: {said}",
                    diff=failure.traceback, step=machine.ended.step, where=_raised_at(failure.traceback),
                )  # fmt: skip
        return verdict(row, "fits", events=seq)
    finally:
        if seq:
            machine.close()


def _unfit(row: RunRow, seq: int, error: NonDeterministic) -> Verdict:
    return verdict(
        row, error.code, events=seq, message=error.message, diff=error.diff, step=error.step, where=error.where
    )


def _raised_at(traceback: str) -> str | None:
    frames = _FRAME.findall(traceback)
    return f"{frames[-1][0]}:{frames[-1][1]}" if frames else None


def verdict(
    row: RunRow, code: str, *, events: int = 0, message: str = "", diff: str = "", step: str | None = None,
    where: str | None = None,
) -> Verdict:  # fmt: skip
    """What is said of a run."""
    return Verdict(
        run_id=row.run_id, tenant=row.tenant, workflow=row.workflow, code=code, events=events, message=message,
        diff=diff, step=step, where=where,
    )  # fmt: skip
