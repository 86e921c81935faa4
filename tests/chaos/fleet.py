"""Worker processes as a supervisor keeps them: each behind a proxy of its own, started again when it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections import Counter, deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.chaos.proxy import Proxy
from tests.conftest import REPOSITORY
from tests.postgres_cluster import Cluster

_URL = re.compile(r"postgresql://\S+")
_PAUSE = 0.2
_PATIENCE = 30.0


class Member:
    """A place in the fleet, and the process that fills it just now.

    Args:
        options: what is added to the store's URL here.
        spared: nobody may kill it.
    """

    def __init__(self, fleet: Fleet, proxy: Proxy, options: str = "", spared: bool = False) -> None:
        self.proxy = proxy
        self.options = options
        self.spared = spared
        self.asleep = False
        self._fleet = fleet
        self._ending = False
        self._process: asyncio.subprocess.Process | None = None
        self._keeping = asyncio.create_task(self._keep())

    @property
    def pid(self) -> int:
        """The process, or 0 while there is none."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    def send(self, number: signal.Signals) -> None:
        """Kill, stop or wake it."""
        self.asleep = number == signal.SIGSTOP or (self.asleep and number != signal.SIGCONT)
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _keep(self) -> None:
        while not self._ending:
            self._process = process = await self._fleet.spawn(self.proxy.port, self.options)
            self.asleep = False
            if self._ending:
                self._tell_to_end()
            assert process.stdout is not None
            async for line in process.stdout:
                self._fleet.heard(json.loads(line))
            await process.wait()
            await asyncio.sleep(_PAUSE)

    def _tell_to_end(self) -> None:
        self.send(signal.SIGCONT)
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def finish(self) -> None:
        """Let it end in order; whoever does not is killed."""
        self._ending = True
        self._tell_to_end()
        try:
            await asyncio.wait_for(asyncio.shield(self._keeping), _PATIENCE)
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self._keeping


class Fleet:
    """All workers; `told` counts what they say, `failures` is why some ended by themselves, `late` how many seconds
    their last timers were late.

    Args:
        settings: environment variables of the workers.
    """

    def __init__(self, url: str, effects: Path, lease_ttl: float, settings: Mapping[str, str]) -> None:
        self.url = url
        self.lease_ttl = lease_ttl
        self.told: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.late: deque[float] = deque(maxlen=100_000)
        self.members: list[Member] = []
        self._effects = effects
        self._settings = settings
        self._noted = asyncio.Event()

    def heard(self, line: dict[str, object]) -> None:
        """A line that a worker printed."""
        what = str(line["what"])
        self.told[what] += 1
        if what == "timers":
            self.late.append(float(str(line["late"])))
        if what in ("failed", "run_parked", "attempt_leaked", "lease_ran_out"):
            why = str(line.get("why") or line.get("reason") or line.get("step"))
            self.failures[f"{what}: {_URL.sub('the database', why)}"] += 1
        self._noted.set()

    async def says(self, what: str, times: int = 1, within: float = 60.0) -> None:
        """Wait until workers have said a thing so often in all.

        Raises:
            TimeoutError: they have not.
        """
        async with asyncio.timeout(within):
            while self.told[what] < times:
                self._noted.clear()
                await self._noted.wait()

    def through(self, port: int) -> str:
        """The store's URL, through a proxy's port."""
        before, _, after = self.url.partition("@127.0.0.1:")
        return f"{before}@127.0.0.1:{port}/{after.partition('/')[2]}"

    async def spawn(self, port: int, options: str) -> asyncio.subprocess.Process:
        """A worker, which dies with this process."""
        paths = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH", ""))))
        return await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig=KILL", "--", sys.executable, "-m", "tests.chaos.worker",
            self.through(port) + options, str(self._effects), str(self.lease_ttl), cwd=REPOSITORY,
            env={**os.environ, **self._settings, "PYTHONPATH": paths},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip


@asynccontextmanager
async def fleet(
    cluster: Cluster, url: str, effects: Path, count: int, lease_ttl: float, kinds: Sequence[str] = ("",),
    settings: Mapping[str, str] | None = None, spared: int = 0,
) -> AsyncGenerator[Fleet]:  # fmt: skip
    """So many workers on a store.

    Args:
        kinds: what is added to the store's URL, in turn.
        settings: environment variables of the workers.
        spared: so many are never killed.
    """
    made = Fleet(url, effects, lease_ttl, settings or {})
    proxies = [Proxy(cluster.port) for _ in range(count)]
    try:
        for place, between in enumerate(proxies):
            await between.start()
            made.members.append(Member(made, between, kinds[place % len(kinds)], place < spared))
        yield made
    finally:
        for between in proxies:
            between.forget_plans()
            between.speak()
        await asyncio.gather(*(member.finish() for member in made.members))
        for between in proxies:
            await between.stop()
