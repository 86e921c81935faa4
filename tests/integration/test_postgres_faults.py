"""What the Postgres store does when connections, back ends and servers go away in the middle: each commit and each
message counts once, and whoever was replaced writes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from aob.clock import SystemClock
from aob.errors import LeaseLost, StoreLocked, StoreUnavailable
from aob.process import SystemProcess
from aob.stores.postgres import PostgresStore, faults, open_store
from aob.stores.rows import Append, RunFilter
from aob.testing.conformance.stores.setting import Story, a_message, a_run, committed, datas, started, taken, told
from tests.integration.tcp_proxy import Proxy, proxy
from tests.postgres_cluster import Cluster, in_memory

pytestmark = pytest.mark.needs("postgres")

SCHEMA = "faults"
TTL = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server that may be hurt."""
    cluster = Cluster(parent=in_memory())
    cluster.start()
    yield cluster
    cluster.remove()


@pytest.fixture
def url(server: Cluster) -> str:
    return f"{server.url()}?schema={server.fresh_name()}"


async def opened(url: str, port: int | None = None, more: str = "") -> PostgresStore:
    if port is not None:
        before, _, after = url.partition("@127.0.0.1:")
        url = f"{before}@127.0.0.1:{port}/{after.partition('/')[2]}"
    return await open_store(url + more, clock=SystemClock(), process=SystemProcess())


@asynccontextmanager
async def cuttable(server: Cluster, url: str, more: str = "") -> AsyncGenerator[tuple[Proxy, PostgresStore]]:
    """A store behind a proxy."""
    async with proxy(server.port) as between:
        store = await opened(url, between.port, more)
        try:
            yield between, store
        finally:
            await store.close()


@pytest.mark.parametrize("more", ["", "&pool=1&prepared=off&listen=off"])
@pytest.mark.parametrize("when", ["cut_before", "cut_after"])
class TestACut:
    async def test_each_commit_counts_once(self, server: Cluster, url: str, when: str, more: str) -> None:
        async with cuttable(server, url, more) as (between, store):
            lease, run = await taken(store, ttl=TTL), a_run()
            story = Story(run)
            await started(store, lease, run)
            for n in range(5):
                setattr(between, when, lambda data, mark=b"event-%d" % n: mark in data)
                await told(store, lease, *story.tell(b"event-%d" % n, b"more-%d" % n))
            assert between.cuts == 5
            assert await datas(store, run.key) == [b"%s-%d" % (w, n) for n in range(5) for w in (b"event", b"more")]
            positions = [event.position for event in await store.events(run.key, 0, 100)]
            assert positions == list(range(positions[0], positions[0] + 10))

    async def test_leases_that_are_asked_for_again_are_given(
        self, server: Cluster, url: str, when: str, more: str
    ) -> None:
        async with cuttable(server, url, more) as (between, store):
            setattr(between, when, lambda data: b"owner-x" in data)
            leases = await store.acquire_some("owner-x", TTL, 1_000)
            assert between.cuts == 1
            assert [lease.partition for lease in leases] == list(range(store.partitions))
            await started(store, leases[7], a_run(partition=7))

    async def test_a_start_counts_once(self, server: Cluster, url: str, when: str, more: str) -> None:
        async with cuttable(server, url, more) as (between, store):
            lease = await taken(store, ttl=TTL)
            setattr(between, when, lambda data: b"run-x" in data)
            run = a_run("run-x")
            await started(store, lease, run)
            assert between.cuts == 1
            assert await store.get_run("t", "run-x") == run

    async def test_a_messages_takes_and_answers_count_once(
        self, server: Cluster, url: str, when: str, more: str
    ) -> None:
        async with cuttable(server, url, more) as (between, store):
            lease = await taken(store, ttl=TTL)
            message = a_message()
            await store.send(message)
            setattr(between, when, lambda data: b"answer-x" in data)
            sends = [a_message("other")]
            batch = Append(
                epochs={0: lease.epoch}, takes=[message.id], replies=[("q", b"answer-x", 2**60)], sends=sends
            )
            await committed(store, batch)
            assert between.cuts == 1
            assert [m.run_id for m in await store.waiting()] == ["other"]
            assert await store.take_reply("q") == b"answer-x"

    async def test_each_message_is_sent_once(self, server: Cluster, url: str, when: str, more: str) -> None:
        async with cuttable(server, url, more) as (between, store):
            for n in range(3):
                setattr(between, when, lambda data, mark=b"body-%d" % n: mark in data)
                await store.send(a_message(body=b"body-%d" % n))
            assert between.cuts == 3
            assert [m.body for m in await store.waiting()] == [b"body-0", b"body-1", b"body-2"]

    async def test_a_message_that_is_dealt_with_before_it_is_sent_again_counts_once(
        self, server: Cluster, url: str, when: str, more: str
    ) -> None:
        async with cuttable(server, url, more) as (between, sender):
            owner = await opened(url)
            epochs = {lease.partition: lease.epoch for lease in await owner.acquire_some("owner", TTL, 1_000)}
            dealt: list[bytes] = []

            async def deal() -> None:
                takes: list[int] = []
                while True:
                    appended = await owner.append(Append(epochs=epochs, takes=takes))
                    dealt.extend(m.body for m in appended.inbox)
                    takes = [] if appended.committed else [*takes, *(m.id for m in appended.inbox)]
                    await asyncio.sleep(0)

            dealing = asyncio.create_task(deal())
            sent = [b"body-%d" % n for n in range(8)]
            for body in sent:
                setattr(between, when, lambda data, mark=body: mark in data)
                await sender.send(a_message(body=body))
            await asyncio.sleep(0.1)
            dealing.cancel()
            await asyncio.gather(dealing, return_exceptions=True)
            await owner.close()
            assert between.cuts == len(sent)
            assert dealt == sent

    async def test_a_start_that_is_sent_counts_once(self, server: Cluster, url: str, when: str, more: str) -> None:
        async with cuttable(server, url, more) as (between, store):
            setattr(between, when, lambda data: b"run-x" in data)
            run, message = a_run("run-x", status="pending"), a_message("run-x", "start")
            assert await store.send(message, run) is None
            assert between.cuts == 1
            assert await store.get_run("t", "run-x") == run
            assert [m.id for m in await store.waiting()] == [message.id]
            again = a_run("run-x", status="pending")
            assert await store.send(a_message("run-x", "start"), again) == run


async def test_a_commit_that_was_on_its_way_is_refused_when_it_comes_late(server: Cluster, url: str) -> None:
    """The connection is cut while the commit waits for a lock; the server goes on with it afterwards."""
    async with cuttable(server, url) as (between, store):
        lease, run = await taken(store, ttl=TTL), a_run()
        await started(store, lease, run)
        holding = await asyncpg.connect(server.url())
        schema = url.partition("schema=")[2]
        transaction = holding.transaction()
        await transaction.start()
        await holding.execute(f'select 1 from "{schema}".worker for update')
        telling = asyncio.create_task(told(store, lease, *Story(run).tell(b"once")))
        for _ in range(500):
            if await holding.fetchval("select count(*) from pg_locks where not granted"):
                break
            await asyncio.sleep(0.01)
        between.cut()
        await asyncio.sleep(0.2)
        await transaction.commit()
        await telling
        assert await datas(store, run.key) == [b"once"]
        await holding.close()


async def test_commits_messages_and_reads_go_through_a_restart_of_the_server(server: Cluster, url: str) -> None:
    store, other = await opened(url), await opened(url)
    lease, run = await taken(store, ttl=TTL), a_run()
    story = Story(run)
    await started(store, lease, run)
    for how in (signal.SIGINT, signal.SIGKILL):
        server.stop(how)
        work = [
            asyncio.create_task(told(store, lease, *story.tell(b"%d" % how))),
            asyncio.create_task(other.send(a_message(body=b"%d" % how, partition=1))),
            asyncio.create_task(other.list_runs(RunFilter())),
        ]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in work)
        server.start()  # in this thread: the server ends with the thread that started it
        await asyncio.gather(*work)
    assert [m.body for m in await store.waiting()] == [b"%d" % signal.SIGINT, b"%d" % signal.SIGKILL]
    assert await datas(store, run.key) == [b"%d" % signal.SIGINT, b"%d" % signal.SIGKILL]
    await store.close()
    await other.close()


async def test_waiting_hears_again_after_a_restart(server: Cluster, url: str) -> None:
    store, other = await opened(url), await opened(url)
    await store.wait_changed(0.01)
    server.stop()
    server.start()
    for _ in range(200):
        if store._watch.listening:  # pyright: ignore[reportPrivateUsage]
            break
        await store.wait_changed(0.05)
    else:
        raise AssertionError("it listens no more")
    await other.close()
    await store.close()


async def test_without_the_database_a_lease_is_lost_when_its_time_is_over(server: Cluster, url: str) -> None:
    async with cuttable(server, url) as (between, store):
        lease, run = await taken(store, ttl=0.5), a_run()
        await started(store, lease, run)
        between.refusing = True
        between.cut()
        with pytest.raises(LeaseLost):
            await told(store, lease, *Story(run).tell(b"late"))
        between.refusing = False
        other = await opened(url)
        assert await other.acquire(0, "b", 5.0) is not None
        assert await datas(other, run.key) == []
        await other.close()


async def test_back_ends_that_are_killed_cost_nothing(server: Cluster, url: str) -> None:
    store = await opened(url)
    lease, run = await taken(store, ttl=TTL), a_run()
    story = Story(run)
    await started(store, lease, run)
    killer = await asyncpg.connect(server.url())
    ended = False

    async def kill() -> int:
        killed = 0
        while not ended:
            killed += await killer.fetchval(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'aob'"
            )
            await asyncio.sleep(0.2)
        return killed

    killing = asyncio.create_task(kill())
    for n in range(40):
        await told(store, lease, *story.tell(b"%d" % n))
        await asyncio.sleep(0.02)
    ended = True
    assert await killing > 0
    assert await datas(store, run.key) == [b"%d" % n for n in range(40)]
    await killer.close()
    await store.close()


async def test_a_deadlock_or_another_programs_lock_is_outwaited(server: Cluster, url: str) -> None:
    store = await opened(url)
    schema = url.partition("schema=")[2]
    lease, run = await taken(store, ttl=TTL), a_run()
    await started(store, lease, run)
    await asyncpg_execute(server, "alter system set lock_timeout = '50ms'; ")
    await asyncpg_execute(server, "select pg_reload_conf()")
    try:
        holding = await asyncpg.connect(server.url())
        async with holding.transaction():
            await holding.execute(f'lock table "{schema}".event in exclusive mode')
            telling = asyncio.create_task(told(store, lease, *Story(run).tell(b"1")))
            await asyncio.sleep(0.3)
            assert not telling.done()
        await telling
        assert await datas(store, run.key) == [b"1"]
        await holding.close()
    finally:
        await asyncpg_execute(server, "alter system reset lock_timeout")
        await asyncpg_execute(server, "select pg_reload_conf()")
        await store.close()


async def asyncpg_execute(server: Cluster, sql: str) -> None:
    connection = await asyncpg.connect(server.url())
    await connection.execute(sql)
    await connection.close()


async def test_a_server_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        await opened("postgresql://me:secret@127.0.0.1:1/nothing")
    assert "127.0.0.1:1" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "error", [asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.QueryCanceledError]
)
def test_what_others_hold_up_is_tried_again_by_the_engine_too(error: type[asyncpg.PostgresError]) -> None:
    assert faults.may_go_better(error("no"))
    assert isinstance(faults.translated(error("no"), "db"), StoreLocked)


def test_a_server_without_a_free_connection_is_waited_for_as_one_that_is_away() -> None:
    assert faults.is_lost(asyncpg.TooManyConnectionsError("no"))


async def test_a_server_that_is_starting_is_waited_for() -> None:
    cluster = Cluster(options=("hot_standby=off",), parent=in_memory())
    try:
        cluster.start()
        cluster.stop()
        standby = cluster.data / "standby.signal"  # it recovers until it is told to stop, and takes no connections
        standby.touch()
        starting = asyncio.create_task(asyncio.to_thread(cluster.start))
        while b"consistent recovery state reached" not in cluster.log.read_bytes():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        opening = asyncio.create_task(opened(cluster.url()))
        done, _ = await asyncio.wait([opening], timeout=1.0)
        assert not done, opening.result()
        (cluster.data / "promote").touch()
        os.kill(cluster.pid, signal.SIGUSR1)
        await starting
        await (await opening).close()
    finally:
        cluster.remove()
