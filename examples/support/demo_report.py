"""What happened in a demonstration, counted from the histories of its runs and from the lines of its outbox."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

FINISHED = frozenset({"step_completed", "step_failed"})
ENDED = frozenset({"run_completed", "run_failed", "run_cancelled", "run_terminated", "run_timed_out"})


class HistoryEvent(Protocol):
    """What is read of an event."""

    @property
    def kind(self) -> str: ...


@dataclass(frozen=True)
class Interruption:
    """What a killed worker left behind."""

    pid: int
    delivered: int
    open_runs: int
    recorded_steps: int

    def sentence(self) -> str:
        """One line for the person who watches."""
        return (
            f"worker {self.pid} killed with SIGKILL after {self.delivered} deliveries; {self.open_runs} runs are open, "
            f"and {self.recorded_steps} of their steps are recorded and will not be repeated"
        )


def interruption(pid: int, delivered: int, histories: Iterable[Sequence[HistoryEvent]]) -> Interruption:
    """The open runs among `histories`, and how many steps these had finished."""
    unfinished = [history for history in histories if not any(event.kind in ENDED for event in history)]
    return Interruption(pid, delivered, len(unfinished), sum(map(finished_steps, unfinished)))


def finished_steps(history: Sequence[HistoryEvent]) -> int:
    """How many steps have a result, or failed for good."""
    return sum(event.kind in FINISHED for event in history)


@dataclass(frozen=True)
class Report:
    """The end of a demonstration.

    Args:
        expected: how many messages there were.
        records: what is in the outbox.
        steps: finished steps of all runs.
        seconds: from the first start to the last result.
        interruption: the kill.
    """

    expected: Sequence[str]
    records: Sequence[Mapping[str, Any]]
    steps: int
    seconds: float
    interruption: Interruption

    @property
    def duplicates(self) -> int:
        """Lines of the outbox beyond the first for the same message."""
        return len(self.records) - len(self._found)

    @property
    def lost(self) -> int:
        """Messages without a line in the outbox."""
        return len(set(self.expected) - set(self._found))

    @property
    def strangers(self) -> int:
        """Lines for messages that nobody sent."""
        return len(set(self._found) - set(self.expected))

    @property
    def good(self) -> bool:
        """Every message was delivered, and once."""
        return not (self.duplicates or self.lost or self.strangers)

    @property
    def _found(self) -> Counter[str]:
        return Counter(record["message_id"] for record in self.records)

    def outcomes(self) -> list[tuple[str, int]]:
        """How many messages ended in which way, the most frequent first."""
        return Counter(record["outcome"] for record in self.records).most_common()

    def categories(self) -> list[tuple[str, int]]:
        """How many messages were about what, the most frequent first."""
        return Counter(record["category"] for record in self.records).most_common()
