"""Workflows of the engine suite in two versions each, as code is before and after a deploy.

Each waits for `go` in the middle, so that a test can put a deploy there. `New` differs from `Old` as its name says.
"""

from __future__ import annotations

import asyncio

import aob
from aob.testing.conformance.engine_flows import gate, mark
from aob.testing.conformance.engine_shapes import one, two


async def _go() -> None:
    await aob.wait_signal("go")


class Old:
    """The code that began the runs."""

    @staticmethod
    @aob.workflow(name="steps")
    async def steps(trace: str) -> list[str]:
        first = await mark(trace, "first")
        second = await mark(trace, "second")
        await _go()
        return [first, second, await mark(trace, "third")]

    @staticmethod
    @aob.workflow(name="together")
    async def together(trace: str) -> list[str]:
        got = list(await asyncio.gather(one("a"), two("b")))
        await _go()
        return [*got, await mark(trace, "end")]

    @staticmethod
    @aob.workflow(name="in_flight")
    async def in_flight(trace: str) -> str:
        await mark(trace, "before")
        return await gate(trace, "old")

    @staticmethod
    @aob.workflow(name="timer")
    async def timer(trace: str) -> str:
        await aob.sleep(0.01)
        await _go()
        return await mark(trace, "end")

    @staticmethod
    @aob.workflow(name="result")
    async def result(trace: str) -> str:
        return await mark(trace, "end")

    @staticmethod
    @aob.workflow(name="changing")
    async def changing(trace: str) -> list[str]:
        first = await mark(trace, "first")
        await _go()
        return [first, await mark(trace, "last")]

    @staticmethod
    @aob.workflow(name="looping")
    async def looping(trace: str) -> None:
        while True:
            await _go()
            await mark(trace, "old turn")


class Appended:
    """Steps were added behind what was recorded."""

    @staticmethod
    @aob.workflow(name="steps")
    async def steps(trace: str) -> list[str]:
        first = await mark(trace, "first")
        second = await mark(trace, "second")
        await _go()
        return [first, second, await mark(trace, "new"), await mark(trace, "third")]


class Removed:
    """A recorded step is not called any more."""

    @staticmethod
    @aob.workflow(name="steps")
    async def steps(trace: str) -> list[str]:
        first = await mark(trace, "first")
        await _go()
        return [first]

    @staticmethod
    @aob.workflow(name="timer")
    async def timer(trace: str) -> str:
        await _go()
        return await mark(trace, "end")


class Longer:
    """A timer runs longer."""

    @staticmethod
    @aob.workflow(name="timer")
    async def timer(trace: str) -> str:
        await aob.sleep(0.02)
        await _go()
        return await mark(trace, "end")


class Shorter:
    """The code ends before a recorded step."""

    @staticmethod
    @aob.workflow(name="steps")
    async def steps(trace: str) -> list[str]:
        return [await mark(trace, "first")]


class Inserted:
    """A step was put before a recorded one."""

    @staticmethod
    @aob.workflow(name="steps")
    async def steps(trace: str) -> list[str]:
        zero = await one("zero")
        first = await mark(trace, "first")
        second = await mark(trace, "second")
        await _go()
        return [zero, first, second]


class OtherInput:
    """A recorded step is given something else."""

    @staticmethod
    @aob.workflow(name="steps")
    async def steps(trace: str) -> list[str]:
        first = await mark(trace, "first")
        second = await mark(trace, "zweitens")
        await _go()
        return [first, second]


class Renamed:
    """Another activity where a recorded one was."""

    @staticmethod
    @aob.workflow(name="steps")
    async def steps(trace: str) -> list[str]:
        first = await mark(trace, "first")
        second = await two("second")
        await _go()
        return [first, second]


class Reordered:
    """Steps that were called side by side come one after the other, the other way round."""

    @staticmethod
    @aob.workflow(name="together")
    async def together(trace: str) -> list[str]:
        b = await two("b")
        a = await one("a")
        await _go()
        return [a, b, await mark(trace, "end")]


class Exchanged:
    """What was in flight is not called any more; nothing was recorded of it."""

    @staticmethod
    @aob.workflow(name="in_flight")
    async def in_flight(trace: str) -> str:
        await mark(trace, "before")
        return await mark(trace, "instead")


class Elsewise:
    """The same steps, another result."""

    @staticmethod
    @aob.workflow(name="result")
    async def result(trace: str) -> str:
        return f"not {await mark(trace, 'end')}"


class Guarded:
    """Changes behind `aob.changed`."""

    @staticmethod
    @aob.workflow(name="changing")
    async def changing(trace: str) -> list[str]:
        early = aob.changed("early")
        if early:
            await mark(trace, "early")
        first = await mark(trace, "first")
        late = aob.changed("late")
        if late:
            await mark(trace, "late")
        await _go()
        again = aob.changed("early"), aob.changed("late")
        last = await mark(trace, "last")
        return [first, last, f"{early} {late} {again}"]

    @staticmethod
    @aob.workflow(name="looping")
    async def looping(trace: str) -> None:
        turns = aob.checkpoint_state(int) or 0
        while True:
            await _go()
            await mark(trace, "new turn" if aob.changed("turn") else "old turn")
            turns += 1
            if turns == 3:
                aob.checkpoint(turns)


class TwiceGuarded:
    """One more change, after the first was deployed."""

    @staticmethod
    @aob.workflow(name="changing")
    async def changing(trace: str) -> list[str]:
        early = aob.changed("early")
        if early:
            await mark(trace, "early")
        first = await mark(trace, "first")
        late = aob.changed("late")
        if late:
            await mark(trace, "late")
            if aob.changed("later"):
                await mark(trace, "later")
        await _go()
        last = await mark(trace, "last")
        return [first, last, f"{early} {late} {aob.changed('later')}"]
