"""The outside world: starts runs, sends to them, changes its mind; each call is repeated until it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from aob.client.client import Client
from aob.client.run import Run
from aob.client.views import Event
from aob.engine.history import HistoryGone
from aob.errors import (
    AlreadyCompensated,
    CallerError,
    NotFinished,
    NoWorker,
    OperatorError,
    RunCancelled,
    RunExists,
    RunFailed,
    RunFinished,
    RunNotFound,
    RunTerminated,
    RunTimedOut,
    StepNotFound,
)
from aob.kernel.events import TERMINAL
from aob.stores.chain import GAP
from aob.testing.simulation.node import Down, Node
from aob.testing.simulation.people import People
from aob.testing.simulation.programs import Op, walk
from aob.testing.simulation.tales import Tale

if TYPE_CHECKING:
    from aob.testing.simulation.world import World

T = TypeVar("T")
_AGAIN = (Down, OperatorError, NoWorker)
_RETRIES = 30
_LOOKS = 20
_ENDS: dict[type[RunFailed], str] = {
    RunCancelled: "cancelled", RunTerminated: "terminated", RunTimedOut: "timed_out",
}  # fmt: skip


class Outside:
    """Everybody who calls.

    Args:
        world: where.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._draw = world.plan.stream("outside")
        self.tales: list[Tale] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.people = People(world, self.insist)

    async def all_said(self) -> None:
        """Wait until nobody has anything to do."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, tales: list[Tale]) -> None:
        """Everybody goes to work."""
        self.tales = tales
        self._operator = asyncio.get_running_loop().create_task(self._operate())
        self.people.begin()
        for tale in tales:
            for coro in self._roles(tale):
                task = asyncio.get_running_loop().create_task(coro)
                task.add_done_callback(self._done)
                self._tasks.append(task)

    def _done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, RunNotFound) and self._world.plan.may("retention"):
            return
        if error is not None:
            self._world.witness.wrong.append(
                f"a call got an answer that it may not get: {type(error).__name__}: {error}"
            )

    # --- roles ------------------------------------------------------------------------------------------------------

    def _roles(self, tale: Tale) -> list[Any]:
        if tale.drive is not None:
            return [self._starter(tale, Random(f"{self._world.plan.seed} {tale.run_id}")), self._driver(tale)]
        plan, seed = self._world.plan, f"{self._world.plan.seed} {tale.run_id}"
        roles: list[Any] = [self._starter(tale, Random(f"{seed} start"))]
        for op in walk(tale.program):
            if op[0] == "signals":
                roles += [self._sender(tale, op, n, Random(f"{seed} {op[1]} {n}")) for n in range(op[2])]
            elif op[0] == "updates":
                roles += [self._updater(tale, op, i, Random(f"{seed} {op[1]} {i}")) for i in range(len(op[2]))]
        draw = Random(f"{seed} roles")
        poisonous = any(op[0] == "poison" for op in tale.program)
        if poisonous:  # whatever reaches it wakes it, and it kills again
            return roles
        if plan.has("repeats") and not plan.may("retention") and draw.random() < 0.4:
            roles.append(self._repeater(tale, Random(f"{seed} repeat")))
        if plan.has("pauses") and draw.random() < 0.3:
            roles.append(self._pauser(tale, Random(f"{seed} pause")))
        if plan.has("cancels") and draw.random() < 0.2:
            tale.ends.add("cancelled")
            roles.append(self._ender(tale, Random(f"{seed} cancel"), _cancel))
        if plan.has("terminates") and draw.random() < 0.1:
            tale.ends.add("terminated")
            roles.append(self._ender(tale, Random(f"{seed} terminate"), _terminate))
        if plan.has("queries") and draw.random() < 0.3:
            roles.append(self._asker(tale, Random(f"{seed} query")))
        if plan.has("readers") and draw.random() < 0.3:
            roles.append(self._reader(tale, Random(f"{seed} reader")))
        # nobody sends to a fork, and what it shares may have left runs under its origin's name
        unheard = not any(op[0] in ("signals", "updates", "detached") for op in walk(tale.program))
        if plan.has("forks") and unheard and draw.random() < 0.3:
            roles.append(self._forker(tale, Random(f"{seed} fork")))
        return roles

    async def _starter(self, tale: Tale, draw: Random) -> None:
        await asyncio.sleep(tale.begins)
        await self.insist(draw, lambda client: self._start(client, tale))
        tale.start.set()
        tale.outcome = await self._until_over(tale, draw)

    async def _until_over(self, tale: Tale, draw: Random) -> tuple[str, Any]:
        """The run's last end: what is broken is mended, one thing after the other, and the run retried."""
        outcome: tuple[str, Any] = ("", None)
        for _ in range(_RETRIES):
            outcome = await self.insist(draw, lambda client: self._outcome(client, tale), again=(TimeoutError,))
            if outcome[0] != "failed" or not tale.retried:
                return outcome
            if tale.broken:
                self._world.ledger.whole.add(tale.broken.pop(0))
            await asyncio.sleep(draw.choice((0, 1, 30)) * draw.random())
            self._world.witness.seen["retry"] += 1
            try:
                await self.insist(draw, lambda client: _on(client, tale, lambda run: run.retry()))
            except (RunFinished, NotFinished):
                continue  # an earlier call that nobody answered did it, or is about to
            except AlreadyCompensated:
                tale.ends.add("failed")
                return outcome
        return outcome

    async def _start(self, client: Client, tale: Tale) -> Run[Any]:
        return await client.start(tale.workflow, *tale.args, run_id=tale.run_id, **tale.kwargs)

    async def _outcome(self, client: Client, tale: Tale) -> tuple[str, Any]:
        run = await client.get(tale.run_id)
        try:
            return "completed", await run.result(timeout=120 * self._world.plan.scale)
        except RunFailed as e:
            # not the run's status: a retry that nobody answered may have opened it again. Nor the error itself, which
            # would hold on to its world
            return _ENDS.get(type(e), "failed"), f"{type(e).__name__}: {e}"

    async def _driver(self, tale: Tale) -> None:
        draw = Random(f"{self._world.plan.seed} {tale.run_id} drive")
        await tale.start.wait()
        drive = tale.drive

        async def call(client: Client) -> None:
            assert drive is not None
            await drive(await client.get(tale.run_id))

        await self.tell(tale, draw, call)

    async def _sender(self, tale: Tale, op: Op, sender: int, draw: Random) -> None:
        await self._until_started(tale, draw)
        for i in range(op[3]):
            id = f"{op[1]}.{sender}.{i}"
            tale.sent.append(("signal", id))

            async def send(client: Client, i: int = i, id: str = id) -> None:
                run = await client.get(tale.run_id)
                await run.signal(op[1], [sender, i], id=id)

            while await self.tell(tale, draw, send):
                if not tale.retried or await self._arrived(tale, draw, id):
                    break
            else:
                return
            tale.acked.append(("signal", id))
            await asyncio.sleep(draw.choice((0, 0, 1, 30)) * draw.random())

    async def _arrived(self, tale: Tale, draw: Random, id: str) -> bool:
        """Whether a signal reached its run, and did not meet an end that was not the last; then it must be sent again,
        as it must when nobody knows."""
        for _ in range(_LOOKS):
            if tale.outcome is not None:
                return True
            try:
                events = await self.insist(draw, lambda client: _history(client, tale))
            except RunNotFound:
                return True
            if any(e.kind == GAP or (e.kind == "signal_received" and e.data["id"] == id) for e in events):
                return True
            if next((e.kind for e in reversed(events) if e.kind != "late"), "") in TERMINAL:
                return False
            await asyncio.sleep(1)
        return False

    async def _updater(self, tale: Tale, op: Op, i: int, draw: Random) -> None:
        await self._until_started(tale, draw)
        id = f"{op[1]}.{i}"
        tale.sent.append(("update", id))

        async def update(client: Client) -> None:
            run = await client.get(tale.run_id)
            await run.update("add", op[1], op[2][i], id=id)

        if await self.tell(tale, draw, update):
            tale.acked.append(("update", id))

    async def _repeater(self, tale: Tale, draw: Random) -> None:
        await self._until_started(tale, draw)
        await asyncio.sleep(draw.choice((0, 1, 60, 600)) * draw.random())
        run: Run[Any] = await self.insist(draw, lambda client: self._start(client, tale))
        if run.run_id != tale.run_id:
            self._world.witness.wrong.append(f"I16: start of {tale.run_id} returned {run.run_id}")
        other = [*tale.program, ["step", 0, 0, 0]]
        try:
            await self.insist(draw, lambda client: client.start(tale.workflow, other, run_id=tale.run_id))
        except RunExists:
            return
        self._world.witness.wrong.append(f"I16: {tale.run_id} was started again with another input")

    async def _pauser(self, tale: Tale, draw: Random) -> None:
        await self._until_started(tale, draw)
        await asyncio.sleep(draw.choice((0, 1, 60, 600)) * draw.random())
        if await self.tell(tale, draw, lambda client: _on(client, tale, lambda run: run.pause("a while"))):
            await asyncio.sleep(draw.choice((1, 60, 600)) * draw.random())
            while await self.tell(tale, draw, lambda client: _on(client, tale, lambda run: run.resume())):
                await asyncio.sleep(1)
                if not await self.insist(draw, lambda client: _is_paused(client, tale)):
                    return

    async def _ender(self, tale: Tale, draw: Random, end: Callable[[Run[Any]], Awaitable[None]]) -> None:
        await self._until_started(tale, draw)
        await asyncio.sleep(draw.choice((0, 1, 60, 600)) * draw.random())
        await self.tell(tale, draw, lambda client: _on(client, tale, end))

    async def _asker(self, tale: Tale, draw: Random) -> None:
        await self._until_started(tale, draw)
        for _ in range(3):
            await asyncio.sleep(draw.choice((0, 1, 60, 300)) * draw.random())

            async def ask(client: Client) -> None:
                count = await (await client.get(tale.run_id)).query("progress")
                if not 0 <= count <= len(tale.program):
                    self._world.witness.wrong.append(f"a query of {tale.run_id} was answered with {count}")

            await self.tell(tale, draw, ask)

    async def _reader(self, tale: Tale, draw: Random) -> None:
        """Follows a run's events from process to process; each is seen once, in order, or covered by a gap."""
        await self._until_started(tale, draw)
        seen: list[tuple[int, int]] = []

        async def read(client: Client) -> None:
            run = await client.get(tale.run_id)
            async for event in run.events(after=seen[-1][1] if seen else 0):
                seq = event.seq or 0
                seen.append((event.data["from"] if event.kind == GAP else seq, seq))

        await self.insist(draw, read)
        last = 0
        for first, seq in seen:
            if not first <= last + 1 <= seq or (first < seq and not self._world.plan.may("retention")):
                self._world.witness.wrong.append(f"I11: a reader of {tale.run_id} saw events {seen}")
                return
            last = seq

    async def _forker(self, tale: Tale, draw: Random) -> None:
        """Forks the run at some step, or as it is now; the fork must come to the same."""
        await self._until_started(tale, draw)
        await asyncio.sleep(draw.choice((0, 1, 60, 600)) * draw.random())
        fork = Tale(f"{tale.run_id}.f", tale.program, 0.0, tale.workflow)
        fork.ends |= tale.ends - {"terminated"}
        try:
            events = await self.insist(draw, lambda client: _history(client, tale))
            at = draw.choice([None, *(e.step for e in events if e.kind in ("step_completed", "timer_fired"))])
            await self.insist(draw, lambda client: _on(client, tale, lambda run: _fork(run, at, fork.run_id)))
        except RunExists:
            pass  # a call that nobody answered made it
        except (StepNotFound, HistoryGone, RunNotFound):
            return
        self._world.witness.seen["fork"] += 1
        self.tales.append(fork)
        while await self.insist(draw, lambda client: _is_paused(client, fork)):
            await self.tell(fork, draw, lambda client: _on(client, fork, lambda run: run.resume()))
            await asyncio.sleep(5)
        fork.outcome = await self._until_over(fork, draw)

    async def _operate(self) -> None:
        """Somebody looks after parked runs: mends what is broken, and resumes them."""
        draw = Random(f"{self._world.plan.seed} operator")
        while True:
            await asyncio.sleep(120 * self._world.plan.scale)
            for run_id in await self.insist(draw, _parked):
                self._world.witness.seen["parked"] += 1
                self._world.ledger.mended.add(run_id)

                async def resume(client: Client, run_id: str = run_id) -> None:
                    await (await client.get(run_id)).resume()

                try:
                    await self.insist(draw, resume)
                except CallerError as e:
                    self._world.witness.note("operator", run_id, e.code)

    # --- calling ----------------------------------------------------------------------------------------------------

    async def _until_started(self, tale: Tale, draw: Random) -> None:
        await asyncio.sleep(tale.begins)
        await tale.start.wait()
        await asyncio.sleep(draw.choice((0, 1, 10, 120)) * draw.random())

    async def tell(self, tale: Tale, draw: Random, fn: Callable[[Client], Awaitable[object]]) -> bool:
        """Insist, unless the run has ended for good: then False."""
        while True:
            try:
                await self.insist(draw, fn)
            except RunNotFound:
                return False
            except RunFinished:
                if tale.outcome is not None or not tale.retried:
                    return False
                await asyncio.sleep(5)
            else:
                return True

    async def insist(
        self, draw: Random, fn: Callable[[Client], Awaitable[T]], again: tuple[type[Exception], ...] = ()
    ) -> T:
        """Call on one node after the other until one answers."""
        while True:
            node = self._node(draw)
            if node is not None:
                try:
                    return await node.call(fn)
                except (*_AGAIN, *again):
                    self._world.witness.seen["call repeated"] += 1
            await asyncio.sleep(0.2 + 2 * draw.random())

    def _node(self, draw: Random) -> Node | None:
        up = [node for node in self._world.nodes if node.up]
        return draw.choice(up) if up else None


async def _on(client: Client, tale: Tale, fn: Callable[[Run[Any]], Awaitable[None]]) -> None:
    await fn(await client.get(tale.run_id))


async def _history(client: Client, tale: Tale) -> list[Event]:
    return await (await client.get(tale.run_id)).history()


async def _parked(client: Client) -> list[str]:
    return [run.run_id for run in (await client.list(status="parked")).runs]


async def _is_paused(client: Client, tale: Tale) -> bool:
    try:
        return (await (await client.get(tale.run_id)).status()) == "paused"
    except RunNotFound:
        return False


async def _fork(run: Run[Any], at: str | None, run_id: str) -> None:
    await run.fork(at=at, run_id=run_id)


async def _cancel(run: Run[Any]) -> None:
    await run.cancel("enough")


async def _terminate(run: Run[Any]) -> None:
    await run.terminate("enough")
