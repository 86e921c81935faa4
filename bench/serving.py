"""The worker processes that measurements kill: `python -m bench.serving KIND STORE …`.

Each says what happens with the host's monotonic time, a line each: `up`, `ready`, `step`, `done`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic

import aob
from bench import work
from bench.measure import resident_kib, until
from bench.work import WORKFLOWS, counter, paced, seq


def say(word: str, value: float | None = None) -> None:
    """Tell the measuring process."""
    print(word, monotonic() if value is None else value, flush=True)


async def until_ticks(count: int) -> None:
    """Until so many steps have run in this process."""
    await until(lambda: len(work.TICKS) >= count, 0.001)


async def first_step() -> None:
    """Say when the first step of this process ran."""
    await until_ticks(1)
    say("step")


async def start_paced(client: aob.Client, runs: str, steps: str, seconds: str, log: str) -> None:
    names = [f"p{i}" for i in range(int(runs))]
    inputs = [(name, int(steps), float(seconds), log) for name in names]
    await client.start_many(paced, inputs, run_ids=names)


async def go_on(client: aob.Client, runs: str) -> None:
    handles = [await client.get(f"p{i}") for i in range(int(runs))]
    await asyncio.gather(*(handle.result() for handle in handles))
    say("done")


async def start_long(client: aob.Client, steps: str) -> None:
    await client.start(seq, "long", int(steps), run_id="long")
    await until_ticks(int(steps) - 200)
    say("nearly")


async def go_on_long(client: aob.Client) -> None:
    await first_step()


async def start_loop(client: aob.Client, passes: str) -> None:
    await client.start(counter, int(passes) + 10_000_000, run_id="loop")
    total = int(passes)
    done = 0
    for tenth in range(1, 11):
        while done + len(work.TICKS) < total * tenth // 10:
            await asyncio.sleep(0.01)
            done += len(work.TICKS)
            work.TICKS.clear()
        say("tenth")
        say("kib", resident_kib())


async def go_on_loop(client: aob.Client, passes: str) -> None:
    await first_step()
    run = await client.get("loop")
    await run.terminate("measured")


KINDS: dict[str, Callable[..., Awaitable[None]]] = {
    "paced": start_paced,
    "go-on": go_on,
    "long": start_long,
    "go-on-long": go_on_long,
    "loop": start_loop,
    "go-on-loop": go_on_loop,
}


async def main(kind: str, path: str, *args: str) -> None:
    """Serve until told to stop."""
    say("up")
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with aob.connect(f"sqlite:///{Path(path)}") as client, client.serve(*WORKFLOWS):
        say("ready")
        doing = asyncio.ensure_future(KINDS[kind](client, *args))
        await asyncio.wait([doing, asyncio.ensure_future(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
