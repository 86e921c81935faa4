"""What the fleet does under chaos: workflows whose results are known beforehand, and whose effects are written down."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import aob
from tests.crash.scenario import Ledger

PATIENT = aob.Retry(initial=0.02, max_delay=0.5, max_attempts=0)


class World:
    """Where this process writes down what it did to the world: a file for each run."""

    effects = Path(os.devnull)


def effect(what: str) -> str:
    """Do something that the world sees."""
    info = aob.info()
    here = Ledger(World.effects / info.run_id)
    here.note(step=info.step, key=info.idempotency_key, attempt=info.attempt, what=what)
    return what


@aob.activity
async def do(what: str) -> str:
    await asyncio.sleep(0.01)
    return effect(what)


@aob.activity
def do_in_thread(what: str) -> str:
    return effect(what)


@aob.activity(retry=PATIENT)
async def do_at_the_second_attempt(what: str) -> str:
    effect(what)
    if aob.info().attempt < 2:
        raise ConnectionError("not now")
    return what


@aob.workflow
async def part(name: str) -> list[str]:
    return [await do(f"{name}-x"), await do_in_thread(f"{name}-y")]


@aob.workflow
async def order(name: str) -> list[str]:
    """Steps one after the other and side by side, a timer, two children."""
    done = [await do(f"{name}-a")]
    done += await asyncio.gather(do(f"{name}-b"), do_in_thread(f"{name}-c"), do_at_the_second_attempt(f"{name}-d"))
    await aob.sleep(0.1)
    for children in await asyncio.gather(part(f"{name}-1"), part(f"{name}-2")):
        done += children
    return done


ORDER_STEPS = 4


def order_of(name: str) -> list[str]:
    """What `order` returns."""
    parts = [f"{name}-{n}-{what}" for n in (1, 2) for what in "xy"]
    return [*(f"{name}-{what}" for what in "abcd"), *parts]


@aob.workflow
async def mailbox(count: int) -> list[str]:
    """Signals, in the order in which they came."""
    got: list[str] = []
    async for text in aob.signals("post", str):
        got.append(text)
        if len(got) == count:
            break
    await do("read the post")
    return got


@aob.workflow
async def account(name: str) -> list[int]:
    """Updates, until signal `close`."""
    booked: list[int] = []

    @aob.query
    def balance() -> int:
        return sum(booked)

    @aob.update
    async def book(amount: int) -> int:
        await do(f"{name}-{amount}")
        booked.append(amount)
        return amount

    await aob.wait_signal("close")
    return booked


@aob.workflow
async def rounds(count: int) -> int:
    """Checkpoints, each behind a step and a timer that a signal overtakes or not."""
    done = aob.checkpoint_state(int) or 0
    await do(f"round {done}")
    try:
        async with asyncio.timeout(0.05):
            await aob.wait_signal("never")
    except TimeoutError:
        pass
    if done + 1 < count:
        aob.checkpoint(done + 1)
    return done + 1


WORKFLOWS = (order, part, mailbox, account, rounds)
