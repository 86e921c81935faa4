"""Reading: runs, lists, histories, tickets."""

from __future__ import annotations

from aob.errors import StoreCorrupt
from aob.stores.protocol import Store
from aob.stores.rows import Append, RunFilter, TicketRow
from aob.testing.conformance.stores.setting import StoreSetting, Story, a_run, committed, datas, started, taken, told


def a_ticket(id: str, **fields: object) -> TicketRow:
    """A ticket of tenant t."""
    values: dict[str, object] = {
        "id": id, "tenant": "t", "run_id": "r", "workflow": "w", "step": "ask#1", "title": "May I?", "data": b"{}",
        "created": 5,
    }  # fmt: skip
    return TicketRow(**values | fields)  # pyright: ignore[reportArgumentType]


async def ids(store: Store, **where: object) -> list[str]:
    """Run ids of a list."""
    return [run.run_id for run in await store.list_runs(RunFilter(**where))]  # pyright: ignore[reportArgumentType]


class ReadTests(StoreSetting):
    """Everything that only reads."""

    async def test_lists_are_newest_first_in_pages(self) -> None:
        async with self.owned() as (a, lease):
            await started(a, lease, *(a_run(f"r{n}") for n in range(5)))
            assert await ids(a) == ["r4", "r3", "r2", "r1", "r0"]
            page = await a.list_runs(RunFilter(limit=2))
            assert [run.run_id for run in page] == ["r4", "r3"]
            assert await ids(a, limit=2, before=page[-1].key) == ["r2", "r1"]
            assert await ids(a, before=1) == []

    async def test_lists_filter_by_every_field_and_all_together(self) -> None:
        async with self.owned() as (a, lease):
            attributes = {"color": "red", "size": "1"}
            await started(
                a, lease,
                a_run("one", status="waiting", attributes=attributes),
                a_run("two", workflow="v", parent="one", attributes={"color": "red"}),
                a_run("three", tenant="u", status="failed", ended=3),
                a_run("four", attributes={"size": "red"}),
            )  # fmt: skip
            assert await ids(a, tenant="t") == ["four", "two", "one"]
            assert await ids(a, status=("waiting", "failed")) == ["three", "one"]
            assert await ids(a, tenant="t", status=("failed",)) == []
            assert await ids(a, workflow="v") == ["two"]
            assert await ids(a, parent="one") == ["two"]
            assert await ids(a, attributes={"color": "red"}) == ["two", "one"]
            assert await ids(a, attributes=attributes) == ["one"]
            assert await ids(a, tenant="u", attributes=attributes) == []

    async def test_attributes_with_odd_names_are_found(self) -> None:
        async with self.owned() as (a, lease):
            odd = {'a"b.c[0]': "'; drop table run --", "": ""}
            await started(a, lease, a_run("odd", attributes=odd), a_run("even"))
            for name, value in odd.items():
                assert await ids(a, attributes={name: value}) == ["odd"]

    async def test_open_runs_are_those_of_the_partition_that_have_not_ended(self) -> None:
        async with self.opened() as (_, (a,)):
            here, there = await taken(a, 0), await taken(a, 1)
            runs = [a_run("w"), a_run("x", ended=9, status="failed"), a_run("y", status="parked"), a_run("z")]
            await started(a, here, *runs)
            await started(a, there, a_run("other", partition=1))
            assert [run.run_id for run in await a.open_runs([0], 0, 10)] == ["w", "y", "z"]
            assert [run.run_id for run in await a.open_runs([0], 0, 2)] == ["w", "y"]
            assert [run.run_id for run in await a.open_runs([0], runs[0].key, 1)] == ["y"]
            runs[3].ended = 10
            await committed(a, Append(epochs={0: here.epoch}, summaries=[runs[3]]))
            assert [run.run_id for run in await a.open_runs([0], 0, 10)] == ["w", "y"]

    async def test_events_are_read_from_and_to_a_seq(self) -> None:
        async with self.owned() as (a, lease):
            run = a_run()
            await started(a, lease, run)
            await told(a, lease, *Story(run).tell(*(b"%d" % n for n in range(1, 10))))
            assert await datas(a, run.key, 0, 3) == [b"1", b"2", b"3"]
            assert await datas(a, run.key, 3, 2) == [b"4", b"5"]
            assert await datas(a, run.key, 7) == [b"8", b"9"]
            assert await datas(a, run.key, 9) == await datas(a, run.key, 99) == []
            assert await datas(a, run.key, 0, 100, 2) == [b"1", b"2"]
            assert await datas(a, run.key, 2, 100, 4) == [b"3", b"4"]
            assert await datas(a, run.key, 4, 100, 4) == await datas(a, run.key, 4, 100, 3) == []
            assert await datas(a, 12345) == []
            last = await a.last_event(run.key)
            assert last == (await a.events(run.key, 8, 1))[0]
            assert await a.last_event(12345) is None

    async def test_a_fork_begins_with_what_it_shares(self) -> None:
        async with self.owned() as (a, lease):
            origin = a_run("origin")
            story = Story(origin)
            shared = story.tell(b"1", b"2", b"3")
            await committed(a, Append(epochs={0: lease.epoch}, starts=[origin], events=shared))
            fork = a_run("fork", origin=origin.key, origin_seq=2)
            own = Story(fork, 2, shared[1][4]).tell(b"3'", b"4'")
            await committed(a, Append(epochs={0: lease.epoch}, starts=[fork], events=own))
            await told(a, lease, *story.tell(b"4"))
            second = a_run("second", origin=fork.key, origin_seq=3)
            tail = Story(second, 3, own[0][4]).tell(b"4''")
            await committed(a, Append(epochs={0: lease.epoch}, starts=[second], events=tail))
            early = a_run("early", origin=fork.key, origin_seq=1)
            await started(a, lease, early)
            lasts = [await a.last_event(run.key) for run in (origin, fork, second, early)]
            assert [last.data for last in lasts if last] == [b"4", b"4'", b"4''", b"1"]
            assert await datas(a, origin.key) == [b"1", b"2", b"3", b"4"]
            assert await datas(a, fork.key) == [b"1", b"2", b"3'", b"4'"]
            assert await datas(a, second.key) == [b"1", b"2", b"3'", b"4''"]
            assert await datas(a, early.key) == [b"1"]
            for after in range(5):
                for until in range(5):
                    for limit in range(5):
                        whole = [b"1", b"2", b"3'", b"4''"]
                        assert await datas(a, second.key, after, limit, until) == whole[after:until][:limit]

    async def test_a_changed_event_is_never_served(self) -> None:
        async with self.owned() as (a, lease):
            run, whole = a_run(), a_run("whole")
            await started(a, lease, run, whole)
            (_, seq, kind, version, chain, data), *rest = Story(run).tell(b"1", b"2", b"3")
            await told(a, lease, (run, seq, kind, version, chain ^ 1, data), *rest, *Story(whole).tell(b"1"))
            for after, limit in ((0, 1), (0, 10), (1, 1)):
                try:
                    await a.events(run.key, after, limit)
                except StoreCorrupt as e:
                    assert f"key {run.key}" in str(e)
                    assert "event" in str(e)
                else:
                    raise AssertionError("a damaged history was served")
            assert await datas(a, whole.key) == [b"1"]

    async def test_a_missing_event_is_never_passed_over(self) -> None:
        async with self.owned() as (a, lease):
            run = a_run()
            await started(a, lease, run)
            first, _, third = Story(run).tell(b"1", b"2", b"3")
            await told(a, lease, first, third)
            assert await datas(a, run.key, 0, 1) == [b"1"]
            for after in (0, 1):
                try:
                    await a.events(run.key, after, 10)
                except StoreCorrupt as e:
                    assert "event 2" in str(e)
                else:
                    raise AssertionError("a history with a gap was served")

    async def test_tickets_are_listed_newest_first_and_by_every_field(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease = await taken(a)
            tickets = [
                a_ticket("one"),
                a_ticket("two", run_id="s", status="approved"),
                a_ticket("one", tenant="u"),
                a_ticket("three", assignees=["me", "ü"], schema=b"{}", deadline=9),
            ]
            await committed(a, Append(epochs={0: lease.epoch}, tickets=tickets))
            assert await b.tickets(None, None, None, 10) == tickets[::-1]
            assert await b.tickets("t", None, None, 10) == [tickets[3], tickets[1], tickets[0]]
            assert await b.tickets("t", "open", None, 10) == [tickets[3], tickets[0]]
            assert await b.tickets("t", "approved", None, 10) == [tickets[1]]
            assert await b.tickets("t", None, "s", 10) == [tickets[1]]
            assert await b.tickets("t", None, None, 1) == [tickets[3]]
            assert await b.get_ticket("u", "one") == tickets[2]
            assert await b.get_ticket("v", "one") is None

    async def test_a_decided_ticket_keeps_its_place(self) -> None:
        async with self.owned() as (a, lease):
            one, two = a_ticket("one"), a_ticket("two")
            await committed(a, Append(epochs={0: lease.epoch}, tickets=[one, two]))
            one.status, one.by, one.reason, one.closed = "approved", "me", "fine", 9
            one.data, one.assignees, one.deadline = b"[1]", ["you"], 99
            await committed(a, Append(epochs={0: lease.epoch}, tickets=[one]))
            assert await a.tickets("t", None, None, 10) == [two, one]
            assert await a.get_ticket("t", "one") == one
