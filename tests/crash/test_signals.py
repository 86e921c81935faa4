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


async def send(url: str, sender: int, count: int) -> None:
    """One sender's signals, in a client of its own; of every third the answer is lost, so it is sent once more."""
    async with aob.connect(url) as client:
        run = await client.get("mail")
        for number in range(count):
            text = f"{sender}:{number}"
            named = number % 3 != 1
            for _ in range(2 if number % 3 == 0 else 1):
                await run.signal("post", text, id=text if named else None)


async def post(directory: Path, count: int) -> tuple[list[str], int]:
    """What the run got, and how often its worker was killed."""
    url, deaths = url_of(directory), 0
    async with aob.connect(url) as client:
        run = await client.start(mailbox, SENDERS * count, run_id="mail")
        senders = asyncio.gather(*(send(url, sender, count) for sender in range(SENDERS)))
        while not senders.done():
            async with working(directory) as worker:
                await worker.says("lease_taken")
                await asyncio.wait([senders], timeout=0.05)
            deaths += 1
        await senders
        async with working(directory) as worker:
            got = await run.result(timeout=20)
            await worker.finish()
    return got, deaths


async def check(directory: Path, count: int, deaths: int) -> None:
    got, died = await post(directory, count)
    assert died >= deaths
    assert {text: n for text, n in Counter(got).items() if n > 1} == {}
    for sender in range(SENDERS):
        mine = [text for text in got if text.startswith(f"{sender}:")]
        assert mine == [f"{sender}:{number}" for number in range(count)]
    assert problems(await seen_in(directory)) == []


@pytest.mark.crash
async def test_signals_arrive_once_and_in_each_senders_order(tmp_path: Path) -> None:
    await check(tmp_path, 100, deaths=2)


@pytest.mark.crash
@pytest.mark.needs("exhaustive")
@pytest.mark.timeout(1_200)
async def test_ten_thousand_signals(tmp_path: Path) -> None:
    await check(tmp_path, 1_250, deaths=3)
