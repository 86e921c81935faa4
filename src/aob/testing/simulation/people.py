"""Those who decide what runs ask: two of them, of whom one is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any

from aob.client.client import Client
from aob.errors import TicketClosed, TicketNotFound
from aob.stores.protocol import Store

if TYPE_CHECKING:
    from aob.testing.simulation.world import World

_VOTES = {"ann": True, "bob": False}
_SHOWN = 20
_ALL = 100_000

Insist = Callable[[Random, Callable[[Client], Awaitable[Any]]], Awaitable[Any]]


class People:
    """Look at open tickets again and again. Ann approves whatever she is asked, Bob rejects it.

    Args:
        insist: calls on one process after the other until one answers.
    """

    def __init__(self, world: World, insist: Insist) -> None:
        self._world = world
        self._insist = insist
        self._heard: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """They go to work."""
        if self._world.plan.has("approvals"):
            for name in _VOTES:
                self._tasks.append(asyncio.get_running_loop().create_task(self._decide(name)))

    async def _decide(self, name: str) -> None:
        draw = self._world.plan.stream(name)
        while True:
            await asyncio.sleep(draw.choice((1, 20, 90)) * draw.random() * self._world.plan.scale)
            for ticket in await self._insist(draw, _open):
                if draw.random() < 0.7:
                    await self._decide_one(name, ticket, draw)

    async def _decide_one(self, name: str, ticket: str, draw: Random) -> None:
        witness = self._world.witness
        try:
            row = await self._insist(draw, lambda client: client.decide(ticket, _VOTES[name], by=name))
        except (TicketClosed, TicketNotFound):
            witness.seen["decision: too late"] += 1
            return
        witness.seen["decision"] += 1
        before = self._heard.setdefault(ticket, name)
        if before != name or (row.by, row.status) != (name, _status(name)):
            witness.wrong.append(f"I17: {name} was told that {ticket} is {row.status} by {row.by}; {before} was heard")

    async def not_kept(self, store: Store) -> AsyncIterator[str]:
        """At the end: what was decided, and is not so in the store; and what waits, though every run has ended."""
        for ticket, name in self._heard.items():
            row = await store.get_ticket("default", ticket)
            if row is not None and (row.by, row.status) != (name, _status(name)):
                yield f"I17: {name} decided {ticket}, but it is {row.status} by {row.by}"
        for row in await store.tickets("default", "open", None, _ALL):
            yield f"I17: ticket {row.id} is open, though its run has ended"


async def _open(client: Client) -> list[str]:
    return [ticket.id for ticket in await client.tickets(limit=_SHOWN)]


def _status(name: str) -> str:
    return "approved" if _VOTES[name] else "rejected"
