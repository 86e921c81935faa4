"""One seed's world: a store, nodes, what befalls them, those who call; chaos first, then peace, then judgement."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any

import msgspec

from aob.errors import AobError
from aob.settings import Settings
from aob.stores.protocol import Store
from aob.testing.seeded import SeededProcess
from aob.testing.simulation.backends import BACKENDS, Backend
from aob.testing.simulation.befall import Befall
from aob.testing.simulation.clocks import SimClock
from aob.testing.simulation.drivers import Outside
from aob.testing.simulation.exports import SimExporter, Target
from aob.testing.simulation.faults import Faults
from aob.testing.simulation.ledger import Ledger
from aob.testing.simulation.loop import Deadlock, Life, SimLoop
from aob.testing.simulation.node import Node
from aob.testing.simulation.oracles import judge
from aob.testing.simulation.plan import Plan
from aob.testing.simulation.programs import Author
from aob.testing.simulation.stores import Bells, SimStore
from aob.testing.simulation.tales import Cast
from aob.testing.simulation.witness import Witness
from aob.worker import worker as worker_module

_PATIENCE = 20.0
_HEALED_WITHIN = 4 * 3600.0
_LOOK = 20.0
_MEASURED = 1.0


class Outcome(msgspec.Struct, kw_only=True):
    """What came of a seed.

    Args:
        wrong: what did not hold; empty: all is well.
        trace: a hash of all that happened.
        hours: simulated.
        seen: how often what happened.
        attempts: that were made.
        ends: how each top-level run ended, and its result, or the text of its error.
    """

    plan: Plan
    wrong: list[str]
    trace: str
    hours: float
    steps: int
    commits: int
    seen: dict[str, int]
    attempts: int = 0
    ends: list[tuple[str, Any] | None] = []


class World:
    """Made for one seed, lives once."""

    def __init__(self, plan: Plan, cast: Cast | None = None) -> None:
        self.plan = plan
        self.cast = cast or Cast()
        self.loop = SimLoop()
        self.context = copy_context()
        self.backend: Backend = BACKENDS[plan.store](plan, self.loop)
        self.faults = Faults(plan, self.backend.slow)
        self.bells = Bells(self.loop, self.faults)
        self.witness = Witness(self.loop, self._off())
        self.ledger = Ledger(self._die, plan.stream("stubborn") if plan.has("stubborn") else None)
        self.targets = self._targets()
        self.author = Author(plan)
        self.settings = Settings(
            lease_ttl=plan.lease_ttl * plan.scale,
            blocked_after=0.0,
            threads=1,
            drain_timeout=2.0,
            max_deaths=3 if plan.has("poison") else 1_000,
            retention_days=600 / 86_400 if plan.may("retention") else 0.0,
            sweep_every=120.0,
            resident_runs=2 if plan.has("eviction") else 2_000,
            evict_after=1.0 if plan.has("eviction") else 10.0,
        )
        self.nodes = self._nodes()
        self.outside = Outside(self)
        self.befall = Befall(self)
        self.healed = False

    def _off(self) -> float | None:
        """How far timers may be off: those of a shared store follow its clock, which is right and measured often."""
        if self.plan.may("clock_jumps") or (self.plan.may("skew") and self.backend.one_host):
            return None
        return _MEASURED * self.plan.scale if self.plan.may("skew") else 0.0

    def _nodes(self) -> list[Node]:
        draw, plan = self.plan.stream("clocks"), self.plan
        skew = 300.0 if plan.may("skew") else 0.0
        self.clocks: list[SimClock] = []
        nodes: list[Node] = []
        for number in range(plan.nodes + plan.clients):
            if not self.clocks or not self.backend.one_host:
                offset, rate = skew * (2 * draw.random() - 1), 1 + (0.001 * (2 * draw.random() - 1) if skew else 0)
                self.clocks.append(SimClock(self.loop, offset, 1_000 * draw.random(), rate))
            serves = number < plan.nodes
            nodes.append(Node(self, f"{'worker' if serves else 'client'}{number}", number, self.clocks[-1], serves))
        return nodes

    def _targets(self) -> list[Target]:
        plan = self.plan
        names = ("archive", "warehouse") if plan.has("exporters") else ()
        return [Target(name, self.loop, self.witness, plan.stream(name), plan.strength) for name in names]

    def exporters(self, life: Life) -> list[SimExporter]:
        """What a process exports with."""
        return [SimExporter(target, life, self.witness) for target in self.targets]

    def wrapped(self, inner: Store, life: Life) -> SimStore:
        """A store as a process sees it."""
        return SimStore(
            inner,
            life,
            self.faults,
            self.bells,
            self.witness,
            self.context,
            _PATIENCE * self.plan.scale,
            self.backend.certain,
        )

    def revive(self, node: Node) -> None:
        """A process has ended; another is started soon."""
        after = 1.0 if self.healed else self.befall.revives_after()
        self.loop.call_later(after, node.boot, context=self.context)

    def _die(self, life: Life) -> None:
        self.witness.seen["poison"] += 1
        self.context.run(life.node.kill)

    # --- the story --------------------------------------------------------------------------------------------------

    async def tell(self) -> None:
        """Chaos, peace, and the end."""
        for node in self.nodes:
            node.boot()
        self.outside.begin(self.cast.tales(self))
        self.befall.begin()
        await self._unless_wrong(asyncio.create_task(asyncio.sleep(self.plan.minutes * 60 * self.plan.scale)))
        if self.witness.wrong:
            return
        self.heal()
        await self._unless_wrong(asyncio.create_task(self._wait_for_the_end()))
        if self.witness.wrong:
            return
        store = await self.backend.open(self.clocks[0], SeededProcess(0), self.settings)
        self.witness.wrong += await judge(self, store)
        await store.close()

    async def _unless_wrong(self, task: asyncio.Task[None]) -> None:
        """Wait for it; but when something is wrong there is nothing more to learn."""
        while not task.done() and not self.witness.wrong:
            await asyncio.wait([task], timeout=_LOOK * self.plan.scale)
        if task.done():
            task.result()

    def heal(self) -> None:
        """From now on nothing bad happens."""
        self.healed = self.faults.healed = True
        for target in self.targets:
            target.healed = True
        self.witness.note("healed")
        self.befall.end()

    async def _wait_for_the_end(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_HEALED_WITHIN * self.plan.scale):
                await self.outside.all_said()
                await self._wait_for_exporters()
        await asyncio.sleep(60)

    async def _wait_for_exporters(self) -> None:
        for target in self.targets:
            while any(target.missing()):  # noqa: ASYNC110 (it is not told what is committed)
                await asyncio.sleep(_LOOK)


def simulated(plan: Plan, cast: Cast | None = None) -> Outcome:
    """Live through one seed.

    Args:
        cast: what runs; default: random programs.
    """
    world = World(plan, cast)
    with _without_real_time():
        try:
            world.loop.live(world.tell())
        except Deadlock as e:
            world.witness.wrong.append(f"I19: {e}")
        except AobError as e:
            world.witness.wrong.append(f"the store cannot be read at the end: {e.code}: {e}")
        finally:
            outcome = _outcome(world)
            world.loop.bury()
            world.backend.close()
    return outcome


def _outcome(world: World) -> Outcome:
    wrong = world.witness.wrong + [e for e in world.loop.errors if "Exception in callback" in e]
    return Outcome(
        plan=world.plan,
        wrong=list(dict.fromkeys(wrong)),
        trace=world.witness.trace,
        hours=world.loop.time() / 3600,
        steps=world.loop.steps,
        commits=world.witness.commits,
        seen=dict(sorted(world.witness.seen.items())),
        attempts=world.ledger.attempts.total(),
        ends=[tale.outcome for tale in world.outside.tales],
    )


@contextmanager
def _without_real_time() -> Generator[None]:
    """Nobody tidies up memory for a long life: worlds are short."""
    settle = worker_module.settle_memory
    worker_module.settle_memory = lambda: None
    try:
        yield
    finally:
        worker_module.settle_memory = settle
