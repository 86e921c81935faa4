"""What clients ask of the fleet, again and again until they are answered, and what must come of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import aob
from aob.settings import load as load_settings
from tests.chaos.flows import account, mailbox, order, order_of, rounds
from tests.crash.scenario import Ledger

T = TypeVar("T")
SENDERS = 3
SIGNALS = 4
UPDATES = 3
ROUNDS = 3
_PAUSE = 0.05
_KEYS = 200_000
"""So many keys of steps are compared with each other at least, in a load that goes on for hours."""
_MAY_PASS = (aob.OperatorError, aob.NoWorker)


class Load:
    """Units of work: each starts a run, talks to it, waits for its end and checks what came of it.

    Args:
        clients: whose connections may be cut.
        effects: where the workers write what they did.
        side_by_side: how many units are under way at a time.
        keep: keep what workers wrote of runs that were checked.
    """

    def __init__(
        self, clients: list[aob.Client], effects: Path, random: Random, side_by_side: int, keep: bool = True
    ) -> None:
        self.problems: list[str] = []
        self.again: Counter[str] = Counter()
        self.finished = self.effects = 0
        self.open: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self._clients = clients
        self._effects = effects
        self._random = random
        self._keep = keep
        self._number = 0
        self._stopped = False
        self._tasks = [asyncio.create_task(self._work()) for _ in range(side_by_side)]

    async def stop(self, within: float) -> None:
        """Begin nothing new, and wait until everything has ended; what has not is a problem."""
        self._stopped = True
        _, pending = await asyncio.wait(self._tasks, timeout=within)
        if pending:
            self.problems += [f"{run} is stuck: {doing}" for run, doing in self.open.items()]
            self.problems += sorted({f"a client waits: {at}" for at in map(_waits_at, asyncio.all_tasks()) if at})
        for task in pending:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                self.problems.append(f"a client was told {type(outcome).__name__}: {outcome}")

    async def _work(self) -> None:
        while not self._stopped:
            self._number += 1
            name = f"{self._number:05}"
            unit = (self._order, self._mailbox, self._account, self._rounds)[self._number % 4]
            await unit(name)
            self.open.pop(name, None)
            self.finished += 1
            await asyncio.sleep(self._random.uniform(0, 0.1))

    def _client(self) -> aob.Client:
        return self._random.choice(self._clients)

    async def _until_answered(self, run: str, doing: str, call: Callable[[], Awaitable[T]]) -> T:
        self.open[run] = doing
        while True:
            try:
                return await call()
            except _MAY_PASS as e:
                self.again[f"{doing.split()[0]}: {type(e).__name__}"] += 1
                await asyncio.sleep(_PAUSE)

    async def _started(self, workflow: Any, argument: Any, run: str) -> None:
        """Start a run, now and then from two clients at once or once more: there is one all the same."""

        async def start() -> None:
            client = self._client()
            await self._until_answered(run, "start", lambda: client.start(workflow, argument, run_id=run))

        times = self._random.choice((1, 1, 2))
        await asyncio.gather(*(start() for _ in range(times)))
        if self._random.random() < 0.2:
            await start()

    async def _result(self, run: str) -> Any:
        client = self._client()
        return await self._until_answered(run, "result", lambda: _result_of(client, run))

    # --- units --------------------------------------------------------------------------------------------------------

    async def _order(self, run: str) -> None:
        await self._started(order, run, run)
        self._expect(run, await self._result(run), order_of(run))
        self._check_effects(run, 4)
        self._check_effects(f"{run}~part.1", 2)
        self._check_effects(f"{run}~part.2", 2)

    async def _mailbox(self, run: str) -> None:
        await self._started(mailbox, SENDERS * SIGNALS, run)
        await asyncio.gather(*(self._send(run, f"{sender}") for sender in range(SENDERS)))
        got = await self._result(run)
        for sender in map(str, range(SENDERS)):
            mine = [text for text in got if text.startswith(f"{sender}:")]
            self._expect(f"{run} (signals)", mine, [f"{sender}:{number}" for number in range(SIGNALS)])
        self._check_effects(run, 1)

    async def _send(self, run: str, sender: str) -> None:
        """One sender's signals, one after the other; some go out twice."""
        client = self._client()
        for number in range(SIGNALS):
            text = f"{sender}:{number}"

            async def send(text: str = text) -> None:
                await (await client.get(run)).signal("post", text, id=text)

            for _ in range(self._random.choice((1, 1, 2))):
                try:
                    await self._until_answered(run, f"signal {text}", send)
                except aob.RunFinished:
                    break  # this was its last one, and it came with an earlier try
            await asyncio.sleep(self._random.uniform(0, 0.02))

    async def _account(self, run: str) -> None:
        await self._started(account, run, run)
        amounts = list(range(1, UPDATES + 1))
        await asyncio.gather(*(self._book(run, amount) for amount in amounts))
        client = self._client()
        balance = await self._until_answered(run, "query", lambda: _asked(client, run))
        self._expect(f"{run} (query)", balance, sum(amounts))

        async def close() -> None:
            await (await client.get(run)).signal("close", id="close")

        await self._until_answered(run, "signal close", close)
        self._expect(run, sorted(await self._result(run)), amounts)
        self._check_effects(run, UPDATES)

    async def _book(self, run: str, amount: int) -> None:
        client = self._client()

        async def book() -> int:
            return await (await client.get(run)).update("book", amount, id=str(amount))

        answer = await self._until_answered(run, f"update {amount}", book)
        self._expect(f"{run} (update)", answer, amount)

    async def _rounds(self, run: str) -> None:
        await self._started(rounds, ROUNDS, run)
        self._expect(run, await self._result(run), ROUNDS)
        self._check_effects(run, ROUNDS)

    # --- checks -------------------------------------------------------------------------------------------------------

    def _expect(self, what: str, got: object, expected: object) -> None:
        if got != expected:
            self.problems.append(f"{what}: {got!r} instead of {expected!r}")

    def _check_effects(self, run: str, steps: int) -> None:
        """See that every step of a run had its effect, under one key that no other step has."""
        ledger = Ledger(self._effects / run)
        keys: dict[str, set[str]] = {}
        for line in ledger.lines():
            keys.setdefault(line["step"], set()).add(line["key"])
        self.effects += len(keys)
        self._expect(f"{run} (steps with an effect)", len(keys), steps)
        for step, used in keys.items():
            self._expect(f"{run} {step} (keys)", len(used), 1)
            for key in used:
                self._expect(f"the key {key}", f"{run} {step}", self.keys.setdefault(key, f"{run} {step}"))
        if not self._keep:
            if len(self.keys) > _KEYS:
                self.keys.clear()
            ledger.path.unlink(missing_ok=True)


def _waits_at(task: asyncio.Task[Any]) -> str:
    """What a task is waiting in, from the outside in, where it does one of the calls of this load."""
    coro: Any = task.get_coro()
    frames: list[str] = []
    while (frame := getattr(coro, "cr_frame", None)) is not None:
        frames.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}")
        coro = coro.cr_await
    return " > ".join(frames) if "_until_answered" in "".join(frames) else ""


async def _result_of(client: aob.Client, run: str) -> Any:
    return await (await client.get(run)).result()


async def _asked(client: aob.Client, run: str) -> int:
    return await (await client.get(run)).query("balance")


@asynccontextmanager
async def clients(url: str, count: int) -> AsyncGenerator[list[aob.Client]]:
    """Clients with connections of their own."""
    async with AsyncExitStack() as stack:
        settings = load_settings()
        yield [await stack.enter_async_context(aob.connect(url, settings=settings)) for _ in range(count)]
