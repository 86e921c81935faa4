"""Workflows as a user of the command line has them in a file of his own; tests copy it as flow.py."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import aob


@dataclass
class Order:
    item: str
    count: int = 1
    gift: bool = False


def leave(line: str) -> None:
    with Path("effects.txt").open("a") as file:
        file.write(line + "\n")


def there(name: str) -> bool:
    return Path(name).exists()


@aob.activity
async def shout(text: str) -> str:
    leave(f"shout {text}")
    if text == "bad":
        raise ValueError("bad text")
    return text.upper()


@aob.activity(retry=aob.Retry(initial=0.01, max_attempts=3, jitter=0))
async def flaky(text: str) -> str:
    if aob.info().attempt < 3:
        raise RuntimeError("not yet")
    return text


@aob.activity
async def held(name: str) -> str:
    """Takes until a file of this name is there."""
    leave(f"held {name}")
    # a test makes the file: there is nothing to be woken by
    while not there(name):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return f"{name} done"


@aob.activity
async def needs_file(name: str) -> str:
    leave(f"needs {name}")
    if not there(name):
        raise FileNotFoundError(f"no {name}")
    return "there"


@aob.workflow
async def greet(name: str) -> str:
    return f"Hello {await shout(name)}"


@aob.workflow
async def ship(order: Order) -> dict[str, object]:
    await shout(order.item)
    return {"item": order.item, "count": order.count, "gift": order.gift}


@aob.workflow(timeout=0.05)
async def brief(seconds: float, why: str = "") -> None:
    await aob.sleep(seconds)


@aob.workflow
async def hold(name: str) -> str:
    first = await shout("before")
    return f"{first}, {await held(name)}, {await shout('after')}"


@aob.workflow
async def mend(name: str) -> str:
    first = await shout("first")
    return f"{first} {await needs_file(name)}"


@aob.workflow
async def talk(topic: str) -> dict[str, object]:
    stage = "begun"
    said: list[str] = [topic]

    @aob.query
    def progress() -> dict[str, object]:
        return {"stage": stage, "said": said}

    @aob.update
    def add(text: str, times: int = 1) -> int:
        if times < 1:
            raise ValueError("times must be positive")
        said.extend([text] * times)
        return len(said)

    @add.validator
    def _named(text: str, times: int = 1) -> None:
        if not text:
            raise ValueError("it needs a name")

    await flaky(topic)
    stage = "asking"
    decision = await aob.approval("May I?", data={"topic": topic, "limit": 3}, timeout=3600)
    stage = "waiting"
    paid = await aob.wait_signal("paid")
    return {"said": said, "approved": decision.approved, "by": decision.by, "data": decision.data, "paid": paid}


@aob.workflow
async def nap(seconds: float, size: int = 1) -> str:
    first = await shout("z" * size)
    await aob.sleep(seconds)
    signal = await aob.wait_signal("go")
    return f"{len(first)} {signal} {await shout('awake')}"


@aob.workflow
async def rounds(n: int) -> str:
    done = aob.checkpoint_state(int) or 0
    await shout(f"round {done}")
    if done < n:
        aob.checkpoint(done + 1)
    return f"{done} {await aob.wait_signal('go')}"


if os.environ.get("FLOW_CHANGED"):

    @aob.workflow(name="nap")
    async def changed_nap(seconds: float, size: int = 1) -> str:
        await flaky("new step")
        return await shout("z" * size)

    del nap
