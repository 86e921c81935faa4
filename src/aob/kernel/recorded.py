"""What the history says ahead of time about calls that are answered at once: `emit` and `changed`."""

from __future__ import annotations

from aob.kernel import events as ev


class Recorded:
    """Made when a run first emits, or asks what changed, or has done so in its history."""

    __slots__ = ("_answered", "_changes", "_emits", "_emitted")

    def __init__(self) -> None:
        self._emits: dict[str, int] = {}
        self._emitted: dict[str, int] = {}
        self._changes: set[str] = set()
        self._answered: dict[str, bool] = {}

    def note(self, event: ev.Event) -> None:
        """An event of these kinds stands in the history that will be applied."""
        if type(event) is ev.Changed:
            self._changes.add(event.id)
        elif type(event) is ev.Emitted:
            self._emitted[event.name] = self._emitted.get(event.name, 0) + 1

    def emits_anew(self, name: str) -> bool:
        """The code emits: whether the history does not have it."""
        k = self._emits.get(name, 0) + 1
        self._emits[name] = k
        return k > self._emitted.get(name, 0)

    def changed(self, change_id: str, live: bool) -> tuple[bool, bool]:
        """The answer, and whether it must be recorded."""
        known = self._answered.get(change_id)
        if known is not None:
            return known, False
        recorded = change_id in self._changes
        answer = self._answered[change_id] = recorded or live
        return answer, live and not recorded

    def forget_pass(self, live: bool) -> None:
        """The function starts again after a checkpoint."""
        self._emits.clear()
        self._answered.clear()
        if live:
            self._emitted.clear()
            self._changes.clear()
