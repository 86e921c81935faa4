"""What befalls processes, clocks and the store as a whole: drawn from the seed, until the world heals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aob.testing.simulation.node import Node
    from aob.testing.simulation.world import World

_EVERY = 90.0


class Befall:
    """Each kind of accident comes by itself, at random intervals."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._revive = world.plan.stream("revive")
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped: dict[Node, None] = {}

    def begin(self) -> None:
        """From now on accidents happen."""
        kinds: dict[str, Callable[[Random], Awaitable[None]]] = {
            "kills": self._kill,
            "pauses": self._pause,
            "deploys": self._deploy,
            "outages": self._outage,
            "clock_jumps": self._jump,
        }
        for name, accident in kinds.items():
            if self._world.plan.may(name):
                coro = self._again_and_again(accident, self._world.plan.stream(name))
                self._tasks.append(asyncio.get_running_loop().create_task(coro))

    def end(self) -> None:
        """No more accidents; whoever was stopped goes on."""
        for task in self._tasks:
            task.cancel()
        for node in list(self._stopped):
            self._go_on(node)
        self._world.faults.outage = False

    def revives_after(self) -> float:
        """Seconds until an ended process is started again."""
        return self._revive.choice((0.1, 1, 10, 60)) * (0.5 + self._revive.random()) * self._world.plan.scale

    async def _again_and_again(self, accident: Callable[[Random], Awaitable[None]], draw: Random) -> None:
        every = _EVERY * self._world.plan.scale / self._world.plan.strength * draw.choice((0.3, 1, 3))
        while True:
            await asyncio.sleep(draw.expovariate(1 / every))
            await accident(draw)

    async def _kill(self, draw: Random) -> None:
        node = draw.choice(self._world.nodes)
        if node.life is not None:
            self._world.witness.seen["kill"] += 1
            node.kill()

    async def _pause(self, draw: Random) -> None:
        node = draw.choice(self._world.nodes)
        life, ttl = node.life, self._world.settings.lease_ttl
        seconds = ttl * draw.choice((0.1, 0.9, 1.5, 4)) * (0.5 + draw.random())
        if life is None or life.stopped:
            return
        self._world.witness.seen["pause"] += 1
        self._world.loop.stop_life(life)
        self._stopped[node] = None
        await asyncio.sleep(seconds)
        if node.life is life:
            self._go_on(node)
        else:
            self._stopped.pop(node, None)

    def _go_on(self, node: Node) -> None:
        self._stopped.pop(node, None)
        if node.life is not None:
            self._world.loop.go_on(node.life)

    async def _deploy(self, draw: Random) -> None:
        for node in self._world.nodes:
            self._world.witness.seen["deploy"] += 1
            node.stop()
            await asyncio.sleep(5 * draw.random())

    async def _outage(self, draw: Random) -> None:
        self._world.witness.seen["outage"] += 1
        self._world.faults.outage = True
        await asyncio.sleep(draw.choice((0.5, 5, 30)) * draw.random() * self._world.plan.scale)
        self._world.faults.outage = False

    async def _jump(self, draw: Random) -> None:
        self._world.witness.seen["clock jump"] += 1
        draw.choice(self._world.clocks).set_to(draw.choice((-3600, -60, -1, 0, 1, 60, 3600)) * draw.random())
