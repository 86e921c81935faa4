"""What the killed workers do: a little of everything, with every effect and every answered call written down.

The two ledgers are files that are appended to with one write each, so that they tell what happened before a SIGKILL.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aob

SENDERS = ("ann", "bob")
SIGNALS = 3
STEPS = 3
PATIENCE = 30


class Ledger:
    """An append-only file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, **fields: Any) -> None:
        line = json.dumps(fields).encode() + b"\n"
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []


class Here:
    """Where this process writes, and what it calls at each numbered point."""

    effects = Ledger(Path(os.devnull))
    hit: Callable[[str], None] = staticmethod(lambda name: None)


def effect(what: str) -> None:
    """Do something that the world sees."""
    info = aob.info()
    Here.hit(f"before the effect of {info.step}")
    Here.effects.note(run=info.run_id, step=info.step, key=info.idempotency_key, attempt=info.attempt, what=what)
    Here.hit(f"after the effect of {info.step}")


# --- activities -------------------------------------------------------------------------------------------------------


@aob.activity
async def do(what: str) -> str:
    effect(what)
    await asyncio.sleep(0)
    return f"did {what}"


@aob.activity
def do_in_thread(what: str) -> str:
    effect(what)
    return f"did {what} in a thread"


@aob.activity(retry=aob.Retry(initial=0.01, jitter=0, max_attempts=0))
async def do_at_the_second_attempt(what: str) -> str:
    effect(what)
    if aob.info().attempt < 2:
        raise ConnectionError("not now")
    return f"did {what} after all"


@aob.activity
async def do_slowly(what: str) -> None:
    await asyncio.sleep(0.04)
    effect(what)


@aob.activity
async def undo(what: str) -> str:
    effect(f"undo {what}")
    return f"undid {what}"


# --- workflows --------------------------------------------------------------------------------------------------------


@aob.workflow
async def steps(name: str) -> list[str]:
    done = [await do(f"{name}-{i}") for i in range(STEPS)]
    done += await asyncio.gather(do(f"{name}-a"), do_in_thread(f"{name}-b"), do_at_the_second_attempt(f"{name}-c"))
    return done


@aob.workflow
async def naps(seconds: float) -> str:
    await aob.sleep(seconds)
    try:
        async with asyncio.timeout(seconds):
            await aob.wait_signal("never")
    except TimeoutError:
        return await do("woke up")
    return "was called"


@aob.workflow
async def mailbox(count: int) -> list[str]:
    got: list[str] = []
    async for text in aob.signals("post", str):
        got.append(text)
        if len(got) == count:
            break
    await do("read the post")
    return got


@aob.workflow
async def family(children: int) -> list[list[str]]:
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(steps(f"child-{i}")) for i in range(children)]
    return [child.result() for child in made]


@aob.workflow
async def booking() -> str:
    try:
        async with aob.saga():
            for what in ("flight", "hotel"):
                await do(what)
                aob.compensate(undo, what)
            raise ValueError("no car")
    except ValueError as e:
        return str(e)


@aob.workflow
async def endless() -> None:
    try:
        await do("begin")
        await aob.wait_signal("never")
    finally:
        await undo("begin")


@aob.workflow(fidelity="full")
async def rounds(count: int) -> int:
    done = aob.checkpoint_state(int) or 0
    await do(f"round {done}")
    aob.emit("round", done)
    number = await aob.side_effect(lambda: 7)
    if done < count:
        aob.checkpoint(done + 1)
    return done * number


@aob.workflow
async def errands(name: str, count: int) -> int:
    for i in range(count):
        await do_slowly(f"{name}-{i}")
    return count


WORKFLOWS = (errands, steps, naps, mailbox, family, booking, endless, rounds)
RUNS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "steps-1": (steps, ("one",)),
    "steps-2": (steps, ("two",)),
    "naps": (naps, (0.02,)),
    "mailbox": (mailbox, (len(SENDERS) * SIGNALS,)),
    "family": (family, (2,)),
    "booking": (booking, ()),
    "rounds": (rounds, (2,)),
    "endless": (endless, ()),
}


def steps_of(name: str) -> list[str]:
    """What `steps` returns."""
    return [
        *(f"did {name}-{i}" for i in range(STEPS)),
        f"did {name}-a",
        f"did {name}-b in a thread",
        f"did {name}-c after all",
    ]


EXPECTED: dict[str, Any] = {
    "steps-1": steps_of("one"),
    "steps-2": steps_of("two"),
    "naps": "did woke up",
    "family": [steps_of("child-0"), steps_of("child-1")],
    "booking": "no car",
    "rounds": 14,
}


# --- the outside ------------------------------------------------------------------------------------------------------


async def called(calls: Ledger, what: str, call: Awaitable[Any], **fields: Any) -> None:
    """A call whose answer is written down; one that was begun and not answered may have been carried out."""
    calls.note(call=what, **fields, outcome="begun")
    try:
        await call
    except aob.RunFinished:
        return
    Here.hit(f"answered {what}")
    calls.note(call=what, **fields, outcome="ok")


async def drive(client: aob.Client, calls: Ledger) -> dict[str, Any]:
    """Start everything, talk to it, and wait for the ends. Safe to repeat: all calls have ids."""
    for run_id, (workflow, args) in RUNS.items():
        await called(calls, "start", client.start(workflow, *args, run_id=run_id), run=run_id)
    post = await client.get("mailbox")
    for number in range(SIGNALS):
        for sender in SENDERS:
            text = f"{sender}-{number}"
            await called(calls, "signal", post.signal("post", text, id=text), run="mailbox", id=text)
    await called(calls, "cancel", (await client.get("endless")).cancel("enough"), run="endless")
    results: dict[str, Any] = {}
    for run_id in RUNS:
        try:
            results[run_id] = await (await client.get(run_id)).result(timeout=PATIENCE)
        except aob.RunFailed as e:
            results[run_id] = e.code
        except TimeoutError:
            page = await client.list()
            stuck = [f"{run.run_id} {run.status} {run.reason}" for run in page if run.ended is None]
            raise TimeoutError(f"after {PATIENCE} s these have not ended: {'; '.join(stuck)}") from None
    return results
