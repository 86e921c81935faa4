"""Who may append: epochs, expiry, handing over, fencing."""

from __future__ import annotations

from aob.errors import LeaseLost
from aob.stores.rows import Append
from aob.testing.conformance.stores.setting import (
    TTL,
    StoreSetting,
    Story,
    a_run,
    committed,
    datas,
    ended,
    started,
    taken,
    told,
)


async def lost(call: object) -> bool:
    """Whether the call was refused because the lease is gone."""
    try:
        await call  # pyright: ignore[reportGeneralTypeIssues]
    except LeaseLost:
        return True
    return False


class LeaseTests(StoreSetting):
    """Leases."""

    async def test_the_first_lease_has_epoch_1_and_is_clean(self) -> None:
        async with self.opened() as (_, (a,)):
            lease = await taken(a, 3, "me")
            assert (lease.partition, lease.owner, lease.epoch, lease.clean) == (3, "me", 1, True)

    async def test_a_held_partition_is_not_given_away(self) -> None:
        async with self.opened(2) as (clock, (a, b)):
            await taken(a)
            assert await b.acquire(0, "b", TTL) is None
            clock.seconds += TTL - 1
            assert await b.acquire(0, "b", TTL) is None

    async def test_partitions_are_held_one_by_one(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            mine, yours = await taken(a, 0), await taken(b, 1, "b")
            run = a_run()
            await started(a, mine, run)
            await started(b, yours, a_run("s", partition=1))
            await told(a, mine, *Story(run).tell(b"1"))

    async def test_a_released_partition_is_free_at_once_and_clean(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            old = await taken(a)
            await a.release([old])
            lease = await taken(b, owner="b")
            assert lease.epoch > old.epoch
            assert lease.clean

    async def test_a_partition_can_be_handed_over_as_unclean_as_it_was_found(self) -> None:
        async with self.opened(3) as (clock, (a, b, c)):
            await taken(a)
            clock.seconds += TTL + 1
            found = await taken(b, owner="b")
            await b.release([found], clean=False)
            lease = await taken(c, owner="c")
            assert lease.epoch > found.epoch
            assert (found.clean, lease.clean) == (False, False)

    async def test_an_expired_lease_is_taken_over_and_is_not_clean(self) -> None:
        async with self.opened(2) as (clock, (a, b)):
            await taken(a)
            clock.seconds += TTL + 1
            lease = await taken(b, owner="b")
            assert (lease.epoch, lease.clean) == (2, False)

    async def test_an_owner_that_is_gone_without_release_is_replaced_and_is_not_clean(self) -> None:
        async with self.opened(2) as (clock, (a, b)):
            await taken(a)
            await a.close()
            clock.seconds += TTL + 1
            lease = await taken(b, owner="b")
            assert (lease.epoch, lease.clean) == (2, False)

    async def test_renewing_keeps_the_partition(self) -> None:
        async with self.opened(2) as (clock, (a, b)):
            lease = await taken(a)
            for _ in range(3):
                clock.seconds += TTL - 1
                await a.renew([lease], TTL)
            assert await b.acquire(0, "b", TTL) is None
            await started(a, lease, a_run())

    async def test_a_lease_that_expired_unnoticed_still_serves(self) -> None:
        async with self.opened() as (clock, (a,)):
            lease = await taken(a)
            clock.seconds += 100 * TTL
            await started(a, lease, a_run())
            await a.renew([lease], TTL)

    async def test_a_replaced_owner_is_refused_everything(self) -> None:
        async with self.opened(2) as (clock, (a, b)):
            old, run = await taken(a), a_run()
            await started(a, old, run)
            await told(a, old, *Story(run).tell(b"mine"))
            await ended(a, old, run)
            clock.seconds += TTL + 1
            new = await taken(b, owner="b")
            late = Append(epochs={0: old.epoch}, events=Story(run, 1).tell(b"late"))
            assert await lost(a.append(late))
            assert await lost(a.append(Append(epochs={0: old.epoch})))
            assert await lost(a.renew([old], TTL))
            assert await lost(a.sweep(old, 1_000, 10))
            assert await lost(a.delete_run(old, run.key))
            assert await datas(b, run.key) == [b"mine"]
            assert new.epoch > old.epoch

    async def test_a_replaced_owner_is_refused_though_it_wrote_last(self) -> None:
        async with self.opened(2) as (clock, (a, b)):
            old, run = await taken(a), a_run()
            await started(a, old, run)
            story = Story(run)
            for n in range(5):
                await told(a, old, *story.tell(b"%d" % n))
            clock.seconds += TTL + 1
            await taken(b, owner="b")
            assert await lost(a.append(Append(epochs={0: old.epoch}, events=story.tell(b"late"))))
            assert len(await datas(b, run.key)) == 5

    async def test_a_later_epoch_of_the_same_store_counts(self) -> None:
        async with self.opened() as (clock, (a,)):
            old = await taken(a)
            clock.seconds += TTL + 1
            new = await taken(a)
            assert await lost(a.append(Append(epochs={0: old.epoch})))
            await committed(a, Append(epochs={0: new.epoch}))

    async def test_releasing_a_lost_lease_takes_nothing_from_the_new_owner(self) -> None:
        async with self.opened(3) as (clock, (a, b, c)):
            old = await taken(a)
            clock.seconds += TTL + 1
            new = await taken(b, owner="b")
            await a.release([old])
            assert await c.acquire(0, "c", TTL) is None
            await started(b, new, a_run())

    async def test_the_lock_of_a_replaced_owner_does_not_free_the_partition(self) -> None:
        async with self.opened(3) as (clock, (a, b, c)):
            old = await taken(a)
            clock.seconds += TTL + 1
            new = await taken(b, owner="b")
            assert await lost(a.renew([old], TTL))
            await a.close()
            assert await c.acquire(0, "c", TTL) is None
            await b.renew([new], TTL)
            assert await c.acquire(0, "c", TTL) is None

    async def test_after_release_nothing_more_is_written(self) -> None:
        async with self.opened() as (_, (a,)):
            lease = await taken(a)
            await a.release([lease])
            assert await lost(a.append(Append(epochs={0: lease.epoch})))
            assert await lost(a.renew([lease], TTL))

    async def test_an_epoch_that_never_was_is_refused(self) -> None:
        async with self.opened() as (_, (a,)):
            assert await lost(a.append(Append(epochs={0: 1})))
            lease = await taken(a)
            assert await lost(a.append(Append(epochs={0: lease.epoch + 1})))
            assert await lost(a.append(Append(epochs={1: lease.epoch})))

    async def test_events_carry_the_epoch_they_were_committed_under(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            first, run = await taken(a), a_run()
            story = Story(run)
            await started(a, first, run)
            await told(a, first, *story.tell(b"1"))
            await a.release([first])
            second = await taken(b, owner="b")
            await told(b, second, *story.tell(b"2"))
            assert [event.epoch for event in await a.events(run.key, 0, 10)] == [first.epoch, second.epoch]
