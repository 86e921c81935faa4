"""Random workflows with a known final value: what a program is, how one is drawn, and what it must return.

A program is a list of operations, plain JSON: [kind, argument, ...]. `flows.flow` carries it out; `expected` says what
comes of it. An operation with several lawful outcomes has `{"any": [...]}` as its value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from aob.testing.simulation.plan import Plan

Op = list[Any]
Program = list[Op]

_DEEPEST = 2


class Author:
    """Draws programs.

    Args:
        plan: whose features are used.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._draw = plan.stream("programs")
        self._count = 0
        self._kinds: list[tuple[str, Callable[[int], Op]]] = [
            ("steps", self._step),
            ("steps", self._quick),
            ("failing", self._failing),
            ("failing", self._caught),
            ("timers", self._sleep),
            ("signals", self._signals),
            ("children", self._child),
            ("detached", self._detached),
            ("gather", self._gather),
            ("gather", self._group),
            ("timeouts", self._times_out),
            ("timeouts", self._race),
            ("side_effects", self._side_effect),
            ("side_effects", self._random),
            ("sagas", self._saga),
            ("updates", self._updates),
            ("approvals", self._ask),
            ("retries", self._broken),
        ]

    def program(self, depth: int = 0) -> Program:
        """A program; `depth` 0 is a top-level run's."""
        usable = [make for feature, make in self._kinds if self._plan.has(feature)] or [self._quick]
        ops: Program = []
        for _ in range(self._draw.randint(1, 5 if depth == 0 else 2)):
            ops.append(self._draw.choice(usable)(depth))
            if depth == 0 and self._plan.has("checkpoints") and self._draw.random() < 0.3:
                ops.append(["checkpoint"])
        return ops

    def number(self) -> int:
        """A number that is used once."""
        self._count += 1
        return self._count

    def _seconds(self, *of: float) -> float:
        return round(self._draw.choice(of) * (0.5 + self._draw.random()), 6)

    # --- operations -------------------------------------------------------------------------------------------------

    def _quick(self, _: int) -> Op:
        return ["step", self.number(), 0, 0]

    def _step(self, _: int) -> Op:
        return ["step", self.number(), self._seconds(0.01, 1, 10, 60), 0]

    def _failing(self, _: int) -> Op:
        return ["step", self.number(), self._seconds(0, 0, 1, 10), self._draw.randint(1, 3)]

    def _caught(self, _: int) -> Op:
        return ["fails", self.number()]

    def _sleep(self, _: int) -> Op:
        return ["sleep", self._seconds(0.001, 1, 30, 300, 600)]

    def _signals(self, depth: int) -> Op:
        if depth:
            return self._sleep(depth)
        return ["signals", f"s{self.number()}", self._draw.randint(1, 3), self._draw.randint(1, 4)]

    def _child(self, depth: int) -> Op:
        return ["child", self.program(depth + 1)] if depth < _DEEPEST else self._quick(depth)

    def _detached(self, depth: int) -> Op:
        return ["detached", self.number(), self._sleep(depth)] if depth == 0 else self._quick(depth)

    def _some(self, depth: int) -> Program:
        return [op for op in self.program(depth + 1) if op[0] not in ("checkpoint", "updates")]

    def _gather(self, depth: int) -> Op:
        return ["gather", *self._some(depth)] if depth < _DEEPEST else self._quick(depth)

    def _group(self, depth: int) -> Op:
        return ["group", *self._some(depth)] if depth < _DEEPEST else self._quick(depth)

    def _times_out(self, _: int) -> Op:
        return ["never", f"n{self.number()}", self._seconds(1, 30, 300)]

    def _race(self, _: int) -> Op:
        return ["race", self._seconds(1, 10), self.number(), self._seconds(1, 10)]

    def _side_effect(self, _: int) -> Op:
        return ["side_effect", self.number()]

    def _random(self, _: int) -> Op:
        return ["random", self.number()]

    def _saga(self, _: int) -> Op:
        return ["saga", [self.number() for _ in range(self._draw.randint(1, 3))], self._draw.random() < 0.6]

    def _updates(self, depth: int) -> Op:
        if depth:
            return self._quick(depth)
        return ["updates", f"u{self.number()}", [self._draw.randint(1, 9) for _ in range(self._draw.randint(1, 3))]]

    def _ask(self, _: int) -> Op:
        return ["ask", self.number(), self._draw.choice((0, 30, 300))]

    def _broken(self, _: int) -> Op:
        return ["broken", self.number()]


def walk(program: Program) -> Iterator[Op]:
    """Every operation of a program, those inside others too, but not its children's."""
    for op in program:
        yield op
        if op[0] in ("gather", "group"):
            yield from walk(op[1:])


def broken_in(program: Program) -> Iterator[int]:
    """The numbers of what fails for good until somebody mends it, of children, too."""
    for op in walk(program):
        if op[0] == "broken":
            yield op[1]
        elif op[0] == "child":
            yield from broken_in(op[1])


def undoes(program: Program) -> bool:
    """Whether a saga of it, or of its children, takes effects back."""
    return any((op[0] == "saga" and op[2]) or (op[0] == "child" and undoes(op[1])) for op in walk(program))


def expected(program: Program) -> list[Any]:
    """What a program returns."""
    return [_value(op) for op in program if op[0] != "checkpoint"]


def _value(op: Op) -> Any:
    match op[0]:
        case "step":
            return op[1] * 7 + 1
        case "signals":
            return sorted([sender, i] for sender in range(op[2]) for i in range(op[3]))
        case "child":
            return expected(op[1])
        case "gather" | "group":
            return [_value(each) for each in op[1:]]
        case "race":
            return {"any": ["timed out", op[2] * 7 + 1]}
        case "poison" | "broken":
            return op[1]
        case "saga":
            return ["undone", *reversed(op[1])] if op[2] else ["done", *op[1]]
        case "updates":
            return sum(op[2])
        case kind:
            return _CONSTANT[kind]


_CONSTANT: dict[str, Any] = {
    "fails": "caught",
    "sleep": "slept",
    "detached": "left",
    "never": "timed out",
    "side_effect": True,
    "random": True,
    "ask": {"any": ["ann: True", "bob: False", "timeout: False"]},
}


def fits(wanted: Any, got: Any) -> bool:
    """Whether a value is one of those that are lawful."""
    if isinstance(wanted, dict):
        return any(fits(each, got) for each in wanted["any"])  # pyright: ignore[reportUnknownVariableType]
    if isinstance(wanted, list) and isinstance(got, list):
        pairs: list[Any] = [*zip(wanted, got, strict=False)]  # pyright: ignore[reportUnknownArgumentType]
        return len(wanted) == len(got) and all(fits(w, g) for w, g in pairs)  # pyright: ignore[reportUnknownArgumentType]
    return wanted == got
