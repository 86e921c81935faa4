"""A worker that exports: `python -m tests.crash.exporting URL FILE DEATH`, until stdin ends.

It kills itself in its DEATH-th export: before it is written when DEATH is odd, else when it is written and synced, but
the cursor has not moved. 0: it lives.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import aob


@aob.activity
async def double(number: int) -> int:
    return 2 * number


@aob.workflow
async def doubles(times: int) -> int:
    number = 1
    for _ in range(times):
        number = await double(number)
    return number


class Mortal(aob.JsonLines):
    """Dies in one of its exports."""

    def __init__(self, path: str, death: int) -> None:
        super().__init__(path)
        self._death = death
        self._until_death = death

    async def export(self, events: Sequence[aob.LogEvent]) -> None:
        self._until_death -= 1
        if self._until_death == 0 and self._death % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        await super().export(events)
        if self._until_death == 0:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(url: str, file: str, death: int) -> None:
    async with aob.connect(url) as client, client.serve(doubles, exporters=[Mortal(file, death)]):
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
