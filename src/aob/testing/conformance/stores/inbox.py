"""Messages to a partition's owner, answers from it, and hearing that something came."""

from __future__ import annotations

import asyncio

from aob.stores.protocol import Store
from aob.stores.rows import Append, Message, RunFilter, partition_of
from aob.testing.conformance.stores.setting import (
    TTL,
    StoreSetting,
    a_message,
    a_run,
    committed,
    started,
    taken,
)

LONG = 36_000.0
"""Seconds that no test waits for; where it would, the runner's own limit ends it."""


class InboxTests(StoreSetting):
    """`send`, `take_reply`, `wait_changed`, and what they do to `append`."""

    async def test_waiting_messages_come_before_a_commit_and_are_taken_with_the_next(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            for n in range(3):
                assert await b.send(a_message(f"r{n}", body=b"%d" % n, reply=f"q{n}", expires=n)) is None
            batch = Append(epochs={0: lease.epoch}, starts=[a_run("mine")])
            refused = await a.append(batch)
            assert not refused.committed
            assert batch.starts[0].key == 0
            assert [(m.run_id, m.kind, m.body, m.reply, m.expires, m.tenant) for m in refused.inbox] == [
                (f"r{n}", "signal", b"%d" % n, f"q{n}", n, "t") for n in range(3)
            ]
            assert await a.get_run("t", "mine") is None
            batch.takes = [m.id for m in refused.inbox]
            await committed(a, batch)
            await a.release([lease])
            await committed(b, Append(epochs={0: (await taken(b, owner="b")).epoch}))

    async def test_messages_are_handed_out_once_to_an_epoch(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            await b.send(a_message())
            assert len((await a.append(Append(epochs={0: lease.epoch}))).inbox) == 1
            await committed(a, Append(epochs={0: lease.epoch}))
            await b.send(a_message("second"))
            assert [m.run_id for m in (await a.append(Append(epochs={0: lease.epoch}))).inbox] == ["second"]

    async def test_messages_that_were_not_taken_come_again_to_the_next_owner(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            await b.send(a_message("kept"))
            await b.send(a_message("dealt with"))
            inbox = (await a.append(Append(epochs={0: lease.epoch}))).inbox
            await committed(a, Append(epochs={0: lease.epoch}, takes=[inbox[1].id]))
            await a.release([lease])
            again = await taken(a)
            assert [m.run_id for m in (await a.append(Append(epochs={0: again.epoch}))).inbox] == ["kept"]

    async def test_waiting_messages_are_shown_to_anybody_until_they_are_taken(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            await b.send(a_message("first", body=b"[1]", reply="q", expires=9))
            await b.send(a_message("elsewhere", partition=1))
            await b.send(a_message("second"))
            for store in (a, b):
                shown = await store.waiting(0)
                assert [m.run_id for m in shown] == ["first", "second"]
                assert (shown[0].body, shown[0].reply, shown[0].expires) == (b"[1]", "q", 9)
            inbox = (await a.append(Append(epochs={0: lease.epoch}))).inbox
            assert [m.id for m in inbox] == [m.id for m in await b.waiting(0)]
            await committed(a, Append(epochs={0: lease.epoch}, takes=[inbox[0].id]))
            assert [m.run_id for m in await b.waiting(0)] == ["second"]

    async def test_messages_sent_before_there_is_an_owner_wait(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            await b.send(a_message())
            lease = await taken(a)
            assert len((await a.append(Append(epochs={0: lease.epoch}))).inbox) == 1

    async def test_messages_of_the_owners_own_store_are_handed_out_too(self) -> None:
        async with self.owned() as (a, lease):
            await committed(a, Append(epochs={0: lease.epoch}))
            await a.send(a_message())
            assert len((await a.append(Append(epochs={0: lease.epoch}))).inbox) == 1

    async def test_other_partitions_messages_are_not_handed_out(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            await b.send(a_message(partition=1))
            await committed(a, Append(epochs={0: lease.epoch}))
            other = await taken(b, 1, "b")
            assert len((await b.append(Append(epochs={1: other.epoch}))).inbox) == 1

    async def test_a_message_can_be_taken_unseen(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease, message = await taken(a), a_message()
            await b.send(message)
            assert message.id > 0
            await committed(a, Append(epochs={0: lease.epoch}, takes=[message.id]))
            await committed(a, Append(epochs={0: lease.epoch}))

    async def test_ids_only_grow_even_when_the_inbox_was_empty(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            last = 0
            for n in range(4):
                await b.send(a_message(f"r{n}"))
                (message,) = (await a.append(Append(epochs={0: lease.epoch}))).inbox
                assert message.id > last
                last = message.id
                await committed(a, Append(epochs={0: lease.epoch}, takes=[message.id]))

    async def test_a_commit_sends_messages_to_its_own_and_other_partitions(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            mine, yours = await taken(a, 0), await taken(b, 1, "b")
            await committed(b, Append(epochs={1: yours.epoch}))
            sends = [a_message("here"), a_message("there", partition=1)]
            await committed(a, Append(epochs={0: mine.epoch}, sends=sends))
            assert [m.run_id for m in (await a.append(Append(epochs={0: mine.epoch}))).inbox] == ["here"]
            assert [m.run_id for m in (await b.append(Append(epochs={1: yours.epoch}))).inbox] == ["there"]

    async def test_a_great_many_messages_come_in_pages_in_order(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            await b.send_many([(a_message(f"r{n}"), None) for n in range(2500)])
            heard: list[Message] = []
            batch = Append(epochs={0: lease.epoch})
            while not (appended := await a.append(batch)).committed:
                heard += appended.inbox
                batch.takes = [m.id for m in heard]
            assert [m.run_id for m in heard] == [f"r{n}" for n in range(2500)]
            await committed(a, Append(epochs={0: lease.epoch}))

    async def test_a_start_is_sent_with_its_pending_run(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            run = a_run("x", status="pending")
            assert await b.send(a_message("x", "start"), run) is None
            assert run.key > 0
            assert await a.get_run("t", "x") == run
            (message,) = (await a.append(Append(epochs={0: lease.epoch}))).inbox
            assert message.kind == "start"

    async def test_a_start_of_a_taken_id_writes_nothing_and_returns_the_run(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease, first = await taken(a), a_run("x")
            await started(a, lease, first)
            again = a_run("x", status="pending")
            assert await b.send(a_message("x", "start"), again) == first
            assert again.key == 0
            await committed(a, Append(epochs={0: lease.epoch}))

    async def test_many_starts_are_sent_together_or_not_at_all(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease, first = await taken(a), a_run("x")
            await started(a, lease, first)
            sends = [(a_message(id, "start"), a_run(id, status="pending")) for id in ("w", "x", "y")]
            conflicts = await b.send_many(sends)
            assert conflicts == [(sends[1][1], first)]
            assert [run.key for _, run in sends] == [0, 0, 0]
            assert len(await b.list_runs(RunFilter())) == 1
            await committed(a, Append(epochs={0: lease.epoch}))
            del sends[1]
            assert await b.send_many(sends) == []
            assert [m.run_id for m in (await a.append(Append(epochs={0: lease.epoch}))).inbox] == ["w", "y"]

    async def test_keys_given_by_several_stores_do_not_meet(self) -> None:
        async with self.opened(2) as (clock, (a, b)):
            lease = await taken(a)
            runs = [a_run(f"r{n}") for n in range(6)]
            for mine, yours in zip(runs[::2], runs[1::2], strict=True):
                inbox = (await a.append(Append(epochs={0: lease.epoch}))).inbox
                takes = [m.id for m in inbox]
                await committed(a, Append(epochs={0: lease.epoch}, starts=[mine], takes=takes))
                clock.seconds += 0.001  # which of two keys that are drawn in one moment is the higher one is chance
                await b.send(a_message(yours.run_id, "start"), yours)
                clock.seconds += 0.001
            keys = [run.key for run in runs]
            assert keys == sorted(set(keys))

    async def test_a_message_that_names_no_partition_goes_to_its_runs(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a, 3)
            await started(a, lease, a_run("x", partition=3))
            for send in (b.send(a_message("x", partition=-1)), b.send(a_message("unknown", partition=-1))):
                await send
            (message,) = (await a.append(Append(epochs={3: lease.epoch}))).inbox
            assert (message.run_id, message.partition) == ("x", 3)
            other = [m.partition for m in await b.waiting() if m.run_id == "unknown"]
            assert other == [partition_of("t", "unknown", b.partitions)]
            sends = [a_message("x", partition=-1)]
            await committed(a, Append(epochs={3: lease.epoch}, takes=[message.id], sends=sends))
            assert [m.run_id for m in (await a.append(Append(epochs={3: lease.epoch}))).inbox] == ["x"]

    async def test_an_answer_is_read_once(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            assert await b.take_reply("q") is None
            await committed(a, Append(epochs={0: lease.epoch}, replies=[("q", b"yes", 2**50)]))
            assert await b.take_reply("q") == b"yes"
            assert await b.take_reply("q") is None

    async def test_answers_that_nobody_fetched_are_swept(self) -> None:
        async with self.opened() as (clock, (a,)):
            lease = await taken(a)
            soon = clock.now_us() + 1_000_000
            replies = [("early", b"1", soon), ("later", b"2", soon + 60_000_000)]
            await committed(a, Append(epochs={0: lease.epoch}, replies=replies))
            clock.seconds += 2
            await a.sweep(lease, 0, 10)
            assert (await a.take_reply("early"), await a.take_reply("later")) == (None, b"2")

    async def test_each_sender_is_heard_once_and_in_order(self) -> None:
        async with self.opened(3) as (_, (a, b, c)):
            lease = await taken(a)

            async def sender(store: Store, name: str) -> None:
                for n in range(40):
                    await store.send(a_message(name, body=b"%d" % n))
                    await asyncio.sleep(0)

            senders = asyncio.gather(sender(b, "b"), sender(c, "c"))
            heard: list[Message] = []
            batch = Append(epochs={0: lease.epoch})
            while len(heard) < 80:
                appended = await a.append(batch)
                heard += appended.inbox
                batch.takes = [*batch.takes, *(m.id for m in appended.inbox)] if appended.inbox else []
                await asyncio.sleep(0)
            await senders
            for name in ("b", "c"):
                assert [m.body for m in heard if m.run_id == name] == [b"%d" % n for n in range(40)]
            assert len({m.id for m in heard}) == 80

    async def test_waiting_ends_when_another_store_sends(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            waiting = asyncio.create_task(a.wait_changed(LONG))
            await asyncio.sleep(0)
            await b.send(a_message())
            await waiting

    async def test_waiting_ends_when_another_store_commits(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            waiting = asyncio.create_task(b.wait_changed(LONG))
            await asyncio.sleep(0)
            await started(a, lease, a_run())
            await waiting

    async def test_a_change_between_two_waits_is_not_missed(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            await b.send(a_message())
            await a.wait_changed(LONG)
            await b.send(a_message("second"))
            await a.wait_changed(LONG)
            inbox = (await a.append(Append(epochs={0: lease.epoch}))).inbox
            assert [m.run_id for m in inbox] == ["r", "second"]

    async def test_every_waiting_task_hears_of_a_change_also_one_that_was_busy(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            heard: asyncio.Queue[str] = asyncio.Queue()
            busy = asyncio.Event()

            async def waiting(name: str) -> None:
                for _ in range(2):
                    await a.wait_changed(LONG)
                    heard.put_nowait(name)
                    if name == "busy":
                        await busy.wait()

            tasks = [asyncio.create_task(waiting(name)) for name in ("busy", "one", "two")]
            await asyncio.sleep(0)
            await b.send(a_message())
            assert {await heard.get() for _ in range(3)} == {"busy", "one", "two"}
            await b.send(a_message())
            assert {await heard.get() for _ in range(2)} == {"one", "two"}
            busy.set()
            assert await heard.get() == "busy"
            await asyncio.gather(*tasks)

    async def test_waiting_ends_by_itself_when_nothing_happens(self) -> None:
        async with self.opened(2) as (_, (a, _)):
            await a.wait_changed(0.01)
            await a.wait_changed(0.01)

    async def test_waiting_ends_when_the_store_is_closed(self) -> None:
        async with self.opened() as (_, (a,)):
            waiting = asyncio.create_task(a.wait_changed(LONG))
            await asyncio.sleep(0)
            await a.close()
            await waiting

    async def test_a_partition_that_becomes_free_is_heard_of(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            await b.wait_changed(0.01)
            waiting = asyncio.create_task(b.wait_changed(LONG))
            await asyncio.sleep(0)
            await a.release([lease])
            await waiting
            assert await b.acquire(0, "b", TTL) is not None
