"""I7, I2: signals of many senders, while their worker is killed again and again: each once, each sender's in order."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

import aob
from aob.testing.oracle import problems
from tests.crash.lives import seen_in
from tests.crash.scenario import mailbox
from tests.crash.workers import url_of, working

SENDERS = 8


class Lives:
    """Counts the worker's lives; the n-th part of the signals is sent when the n-th life has begun."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._begun = [asyncio.Event() for _ in range(count)]

    def begin(self, number: int) -> None:
        self._begun[number].set()

    async def turn(self, number: int, of: int) -> None:
        await self._begun[number * self.count // of].wait()


async def send(url: str, sender: int, count: int, lives: Lives) -> None:
    """One sender's signals, in a client of its own; of every third the answer is lost, so it is sent once more."""
    async with aob.connect(url) as client:
        run = await client.get("mail")
        for number in range(count):
            await lives.turn(number, count)
            text = f"{sender}:{number}"
            named = number % 3 != 1
            for _ in range(2 if number % 3 == 0 else 1):
                await run.signal("post", text, id=text if named else None)


async def post(directory: Path, count: int, deaths: int) -> list[str]:
    """What the run got, though its worker was killed so often while it was sent."""
    url, lives = url_of(directory), Lives(deaths + 1)
    async with aob.connect(url) as client:
        run = await client.start(mailbox, SENDERS * count, run_id="mail")
        senders = asyncio.gather(*(send(url, sender, count, lives) for sender in range(SENDERS)))
        for number in range(deaths):
            async with working(directory) as worker:
                await worker.says("lease_taken")
                lives.begin(number)
                await asyncio.wait([senders], timeout=0.05)
        async with working(directory) as worker:
            lives.begin(deaths)
            await senders
            got = await run.result(timeout=20)
            await worker.finish()
    return got


async def check(directory: Path, count: int, deaths: int) -> None:
    got = await post(directory, count, deaths)
    assert {text: n for text, n in Counter(got).items() if n > 1} == {}
    for sender in range(SENDERS):
        mine = [text for text in got if text.startswith(f"{sender}:")]
        assert mine == [f"{sender}:{number}" for number in range(count)]
    assert problems(await seen_in(directory)) == []


@pytest.mark.crash
async def test_signals_arrive_once_and_in_each_senders_order(tmp_path: Path) -> None:
    await check(tmp_path, 100, deaths=3)


@pytest.mark.crash
@pytest.mark.needs("exhaustive")
@pytest.mark.timeout(1_200)
async def test_ten_thousand_signals(tmp_path: Path) -> None:
    await check(tmp_path, 1_250, deaths=20)
