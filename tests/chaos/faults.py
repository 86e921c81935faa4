"""Faults that strike a fleet at work. Each ends by itself; some say how often they found what they were after."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

import asyncpg

from aob.stores.postgres.options import address_of
from tests.chaos.disks import ClusterOnDisks
from tests.chaos.fleet import Fleet, Member
from tests.chaos.proxy import Proxy
from tests.chaos.wire import Moment
from tests.postgres_cluster import Cluster

_LOOK_AGAIN = 0.02
Fault = Callable[["Scene"], Awaitable[None]]


class Scene:
    """What a fault may hurt.

    Args:
        to_clients: the proxy that clients connect through.
    """

    def __init__(self, cluster: Cluster, fleet: Fleet, to_clients: Proxy, random: Random) -> None:
        self.cluster = cluster
        self.fleet = fleet
        self.random = random
        self.proxies = [to_clients, *(member.proxy for member in fleet.members)]
        self.schema = f'"{address_of(fleet.url).options.schema}"'
        self.struck: Counter[str] = Counter()

    async def connect(self) -> asyncpg.Connection:
        """A connection of one's own, past the proxies; aob's faults leave it alone."""
        return await asyncpg.connect(address_of(self.fleet.url).dsn, server_settings={"application_name": "chaos"})

    def awake(self) -> list[Member]:
        """Workers that run just now."""
        return [member for member in self.fleet.members if member.pid and not member.asleep]

    def heal(self) -> None:
        """Undo what a fault that was given up half-way has left."""
        for between in self.proxies:
            between.forget_plans()
            between.speak()
        for member in self.fleet.members:
            member.send(signal.SIGCONT)


# --- the server -------------------------------------------------------------------------------------------------------


def restart(how: signal.Signals) -> Fault:
    """Stop the server, and start it after a moment."""

    async def strike(scene: Scene) -> None:
        await asyncio.to_thread(scene.cluster.stop, how)  # back ends may wait for their clients
        try:
            await asyncio.sleep(scene.random.uniform(0, 0.5))
        finally:
            scene.cluster.start()
        scene.struck[f"restart {how.name}"] += 1

    return strike


BACK_ENDS = {
    "idle": "state = 'idle' and query not ilike 'listen%'",
    "appending": "state = 'active' and query like '%append\\_%'",
    "in a transaction": "state = 'idle in transaction'",
    "listening": "query ilike 'listen%'",
}
"""States of back ends, and how `pg_stat_activity` shows them."""


def kill_back_end(state: str, tries: int = 300) -> Fault:
    """End a back end that is in a certain state."""
    question = f"""
        select count(pg_terminate_backend(pid)) from (
            select pid from pg_stat_activity where application_name = 'aob' and {BACK_ENDS[state]} limit 1
        ) as victim"""

    async def strike(scene: Scene) -> None:
        connection = await scene.connect()
        try:
            for _ in range(tries):
                if await connection.fetchval(question):
                    scene.struck[f"killed {state}"] += 1
                    return
                await asyncio.sleep(0.002)
        finally:
            await connection.close()

    return strike


# --- its disks --------------------------------------------------------------------------------------------------------


async def fill_tables(scene: Scene) -> None:
    """No table grows for a while: what needs space is refused, and the server goes on."""
    cluster, told = scene.cluster, scene.fleet.told
    assert isinstance(cluster, ClusterOnDisks)
    before = told["store_full"]
    cluster.tables.fill()
    try:
        await _soon(lambda: told["store_full"] > before, 3.0)
        await asyncio.sleep(scene.random.uniform(0, 2 * scene.fleet.lease_ttl))
    finally:
        cluster.tables.free()
    scene.struck["full: tables"] += told["store_full"] > before


async def fill_wal(scene: Scene) -> None:
    """The log cannot be written: the server ends, maybe more than once, or gives up; it goes on when there is space."""
    cluster = scene.cluster
    assert isinstance(cluster, ClusterOnDisks)
    before = cluster.panics()

    def ended() -> bool:
        cluster.wal.fill()  # anew: old parts of the log go
        return cluster.panics() > before

    try:
        await _soon(ended, 5.0)
        await asyncio.sleep(scene.random.uniform(0, 2 * scene.fleet.lease_ttl))
    finally:
        cluster.wal.free()
        while not cluster.answers():
            if not cluster.runs():
                cluster.start()
            await asyncio.sleep(_LOOK_AGAIN)
    scene.struck["full: log"] += cluster.panics() > before


# --- the network ------------------------------------------------------------------------------------------------------


def cut(moment: Moment) -> Fault:
    """Cut the connection that carries the next commit, of one of the processes."""

    async def strike(scene: Scene) -> None:
        between = scene.random.choice(scene.proxies)
        before = between.cuts[moment.name]
        between.cut_next(moment)
        await _soon(lambda: between.cuts[moment.name] > before, 0.5)
        between.forget_plans()
        scene.struck[f"cut {moment.name}"] += between.cuts[moment.name] - before

    return strike


async def cut_all(scene: Scene) -> None:
    """Cut all connections of one process."""
    scene.random.choice(scene.proxies).cut_all()
    scene.struck["cut ANY"] += 1


async def silence(scene: Scene) -> None:
    """Nothing comes through between one worker and the database until its lease is over; then all of it."""
    between = scene.random.choice(scene.awake() or scene.fleet.members).proxy
    between.fall_silent()
    try:
        await asyncio.sleep(1.5 * scene.fleet.lease_ttl)
    finally:
        between.speak()
    scene.struck["silence"] += 1


# --- other sessions ---------------------------------------------------------------------------------------------------

LOCKS = (
    "lock table {s}.event in share row exclusive mode",
    "lock table {s}.inbox in share mode",
    "lock table {s}.run in access exclusive mode",
    "select 1 from {s}.worker for update",
    "select 1 from {s}.partition for update",
)


def locks(*statements: str) -> Fault:
    """Another session holds locks for a moment; which it takes one after the other, so that deadlocks come about."""

    async def strike(scene: Scene) -> None:
        connection = await scene.connect()
        try:
            chosen = statements or scene.random.sample(LOCKS, 2)
            async with connection.transaction():
                for statement in chosen:
                    await connection.execute(statement.format(s=scene.schema))
                    await asyncio.sleep(scene.random.uniform(0.1, 0.3))
        except asyncpg.PostgresError:  # it lost a deadlock, or the server was restarted
            pass
        finally:
            await connection.close()
        scene.struck["locks"] += 1

    return strike


# --- workers ----------------------------------------------------------------------------------------------------------


async def kill(scene: Scene) -> None:
    """SIGKILL a worker, and see it started again."""
    victims = [member for member in scene.awake() if not member.spared]
    if victims:
        scene.random.choice(victims).send(signal.SIGKILL)
        scene.struck["SIGKILL"] += 1


async def sleep_past_the_lease(scene: Scene) -> None:
    """SIGSTOP a worker until others have taken its partitions, and wake it."""
    victims = scene.awake()
    if not victims:
        return
    victim = scene.random.choice(victims)
    told = scene.fleet.told
    taken, lost = told["lease_taken"], told["lease_lost"]
    victim.send(signal.SIGSTOP)
    try:
        await _soon(lambda: told["lease_taken"] > taken, 4 * scene.fleet.lease_ttl)
    finally:
        victim.send(signal.SIGCONT)
    await _soon(lambda: told["lease_lost"] > lost, 2 * scene.fleet.lease_ttl)
    scene.struck["SIGSTOP"] += 1


async def _soon(done: Callable[[], bool], within: float) -> None:
    """Wait for something, but not for ever."""
    for _ in range(int(within / _LOOK_AGAIN)):
        if done():
            return
        await asyncio.sleep(_LOOK_AGAIN)


OF_THE_SERVER: dict[str, Fault] = {
    "restart": restart(signal.SIGINT),
    "immediate restart": restart(signal.SIGQUIT),
    "crash": restart(signal.SIGKILL),
    **{f"kill a back end: {state}": kill_back_end(state) for state in BACK_ENDS},
    "locks": locks(),
}
OF_DISKS: dict[str, Fault] = {"full: tables": fill_tables, "full: log": fill_wal}
"""Of a `ClusterOnDisks`."""
OF_THE_NETWORK: dict[str, Fault] = {
    **{f"cut {moment.name}": cut(moment) for moment in Moment},
    "cut all": cut_all,
    "silence": silence,
}
OF_WORKERS: dict[str, Fault] = {"SIGKILL": kill, "SIGSTOP": sleep_past_the_lease}
