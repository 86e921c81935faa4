"""What the history says ahead of time about calls that are answered at once: `emit` and `changed`."""

from __future__ import annotations

from aob.kernel import events as ev

NOTED: tuple[type[ev.Event], ...] = (ev.Changed, ev.Emitted, ev.Checkpoint)
"""Events to `note` before a replay, in their order."""


class _Pass:
    """What was recorded between two checkpoints."""

    __slots__ = ("changes", "emitted")

    def __init__(self) -> None:
        self.emitted: dict[str, int] = {}
        self.changes: set[str] = set()


class Recorded:
    """Made when a run first emits, asks what changed or checkpoints, or has done so in its history."""

    __slots__ = ("_answered", "_emits", "_noting", "_pass", "_passes")

    def __init__(self) -> None:
        self._emits: dict[str, int] = {}
        self._answered: dict[str, bool] = {}
        self._passes: dict[int, _Pass] = {}
        self._noting = self._pass = 0

    def note(self, event: ev.Event) -> None:
        """An event of these kinds stands in the history that will be applied."""
        if type(event) is ev.Checkpoint:
            self._noting += 1
            return
        noted = self._passes.setdefault(self._noting, _Pass())
        if type(event) is ev.Changed:
            noted.changes.add(event.id)
        elif type(event) is ev.Emitted:
            noted.emitted[event.name] = noted.emitted.get(event.name, 0) + 1

    def emits_anew(self, name: str) -> bool:
        """The code emits: whether the history does not have it."""
        k = self._emits.get(name, 0) + 1
        self._emits[name] = k
        noted = self._passes.get(self._pass)
        return noted is None or k > noted.emitted.get(name, 0)

    def changed(self, change_id: str, live: bool) -> tuple[bool, bool]:
        """The answer, and whether it must be recorded."""
        known = self._answered.get(change_id)
        if known is not None:
            return known, False
        noted = self._passes.get(self._pass)
        recorded = noted is not None and change_id in noted.changes
        answer = self._answered[change_id] = recorded or live
        return answer, live and not recorded

    def forget_pass(self) -> None:
        """The function starts again after a checkpoint."""
        self._emits.clear()
        self._answered.clear()
        self._passes.pop(self._pass, None)
        self._pass += 1
