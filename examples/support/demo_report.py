"""What happened in a demonstration, counted from the histories of its runs and from the lines of its outbox."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

FINISHED = frozenset({"step_completed", "step_failed"})
ENDED = frozenset({"run_completed", "run_failed", "run_cancelled", "run_terminated", "run_timed_out"})


class HistoryEvent(Protocol):
    """What is read of an event."""

    @property
    def kind(self) -> str: ...

    @property
    def step(self) -> str | None: ...

    @property
    def data(self) -> Mapping[str, Any]: ...


Histories = Mapping[str, Sequence[HistoryEvent]]
"""Histories by run id."""


@dataclass(frozen=True)
class Interruption:
    """What a killed worker left behind.

    Args:
        pid: the worker's process.
        delivered: how many lines the outbox had.
        histories: of all runs that had been started.
    """

    pid: int
    delivered: int
    histories: Histories

    @property
    def open_runs(self) -> Histories:
        """Those of the runs that had not ended."""
        return {
            run_id: history
            for run_id, history in self.histories.items()
            if not any(event.kind in ENDED for event in history)
        }

    @property
    def recorded_steps(self) -> int:
        """Finished steps of the open runs."""
        return finished_steps(self.open_runs)

    def sentence(self) -> str:
        """One line for the person who watches."""
        return (
            f"worker {self.pid} killed with SIGKILL after {self.delivered} deliveries; "
            f"{len(self.open_runs)} runs are open, with {self.recorded_steps} recorded steps"
        )


def finished_steps(histories: Histories) -> int:
    """How many steps have a result, or failed for good."""
    return sum(event.kind in FINISHED for history in histories.values() for event in history)


@dataclass(frozen=True)
class Report:
    """The end of a demonstration.

    Args:
        sent: the ids of the messages.
        records: what is in the outbox.
        histories: of all runs.
        seconds: from the first start to the last result.
        interruption: the kill.
    """

    sent: Sequence[str]
    records: Sequence[Mapping[str, Any]]
    histories: Histories
    seconds: float
    interruption: Interruption

    @property
    def steps(self) -> int:
        """Finished steps of all runs."""
        return finished_steps(self.histories)

    @property
    def duplicates(self) -> int:
        """Lines of the outbox beyond the first for the same message."""
        return len(self.records) - len(self._found)

    @property
    def lost(self) -> int:
        """Messages without a line in the outbox."""
        return len(set(self.sent) - set(self._found))

    @property
    def strangers(self) -> int:
        """Lines for messages that nobody sent."""
        return len(set(self._found) - set(self.sent))

    @property
    def found_delivered(self) -> int:
        """Deliveries that the killed worker made but could not record: the next attempt found them in the outbox."""
        events = (event for history in self.histories.values() for event in history if event.kind == "step_completed")
        return sum(str(event.step).startswith("deliver_result#") and event.data["result"] is False for event in events)

    @property
    def rewritten(self) -> int:
        """Runs whose history does not begin with what was recorded before the kill, or has a step's result twice."""
        return sum(
            self.histories.get(run_id, ())[: len(before)] != before
            for run_id, before in self.interruption.histories.items()
        ) + sum(_has_a_result_twice(history) for history in self.histories.values())

    @property
    def good(self) -> bool:
        """Every message was delivered, and once, and no recorded step was done again."""
        return not (self.duplicates or self.lost or self.strangers or self.rewritten)

    @property
    def _found(self) -> Counter[str]:
        return Counter(record["message_id"] for record in self.records)

    def outcomes(self) -> list[tuple[str, int]]:
        """How many messages ended in which way, the most frequent first."""
        return Counter(record["outcome"] for record in self.records).most_common()

    def categories(self) -> list[tuple[str, int]]:
        """How many messages were about what, the most frequent first."""
        return Counter(record["category"] for record in self.records).most_common()


def _has_a_result_twice(history: Sequence[HistoryEvent]) -> bool:
    steps = [event.step for event in history if event.kind in FINISHED]
    return len(set(steps)) < len(steps)
