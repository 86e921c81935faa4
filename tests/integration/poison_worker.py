"""A worker with workflows that end it: `python poison_worker.py URL`."""

import asyncio
import os
import sys

import aob


@aob.activity
async def slow(i: int) -> int:
    await asyncio.sleep(0.05)
    return i


@aob.activity
async def end_the_worker() -> None:
    os._exit(3)


@aob.workflow
async def innocent(i: int) -> int:
    for _ in range(3):
        await slow(i)
    return i


@aob.workflow
async def bad_step() -> None:
    await end_the_worker()


@aob.workflow
async def bad_turn() -> None:
    os._exit(4)


async def main(url: str) -> None:
    async with aob.connect(url) as client, client.serve(innocent, bad_step, bad_turn) as worker:
        await worker.ended()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
