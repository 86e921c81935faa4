"""A process that signals the runs of another one: `python -m bench.caller STORE COUNT` prints milliseconds."""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter

import aob


async def main(store: str, count: int) -> None:
    """Signal runs one after the other, and wait for the result of each."""
    async with aob.connect(store if "://" in store else f"sqlite:///{store}") as client:
        for i in range(count):
            run = await client.get(f"x{i}")
            began = perf_counter()
            await run.signal("answer", {"answer": i})
            await run.result()
            print((perf_counter() - began) * 1e3, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
