"""What the engine asks of whoever runs activities; `aob.worker` is one."""

from __future__ import annotations

from typing import Any, Protocol

from aob.engine.active import ActiveRun
from aob.kernel.steps import Step


class Attempt(Protocol):
    """One try at a step."""

    run: ActiveRun
    step: Step
    number: int
    started_us: int
    stopping: bool


class Outcomes(Protocol):
    """Where attempts report to."""

    def attempt_succeeded(self, attempt: Attempt, data: bytes, value: Any) -> None:
        """The attempt returned `value`, encoded as `data`; `value` is the decoded copy."""
        ...

    def attempt_failed(self, attempt: Attempt, error: BaseException) -> None:
        """The attempt raised."""
        ...

    def attempt_stopped(self, attempt: Attempt) -> None:
        """The attempt was told to stop, and has."""
        ...

    def attempt_is_long(self, attempt: Attempt) -> None:
        """The attempt has been running for some seconds."""
        ...


class Executor(Protocol):
    """Runs attempts."""

    def start(self, run: ActiveRun, step: Step, outcomes: Outcomes) -> Attempt:
        """Begin an attempt; it reports to `outcomes`, never before this returns."""
        ...

    def stop(self, attempt: Attempt) -> None:
        """Tell the attempt to stop."""
        ...
