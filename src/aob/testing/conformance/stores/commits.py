"""An owner's commits: whole or not at all, in order, once."""

from __future__ import annotations

from aob.errors import StoreCorrupt, StoreUnavailable
from aob.stores.rows import Append, Keyed, RunFilter
from aob.testing.conformance.stores.setting import (
    StoreSetting,
    Story,
    a_message,
    a_run,
    committed,
    datas,
    started,
    taken,
    told,
)


class CommitTests(StoreSetting):
    """`append`, apart from leases and the inbox."""

    async def test_starts_get_keys_in_order_and_can_be_read_elsewhere(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            runs = [a_run(f"r{n}") for n in range(5)]
            await started(a, await taken(a), *runs)
            keys = [run.key for run in runs]
            assert keys == sorted(set(keys))
            assert keys[0] > 0
            assert await b.get_run("t", "r3") == runs[3]

    async def test_every_column_of_a_run_comes_back(self) -> None:
        async with self.opened() as (_, (a,)):
            run = a_run(
                "ü~☃", partition=2, status="waiting", created=2**52, updated=7, due=2**60, input_hash=b"\x00\xff",
                attributes={"k": "v", "": "ü"}, parent="p", reason="why", checkpoint=4, deaths=2,
            )  # fmt: skip
            await started(a, await taken(a, 2), run)
            assert await a.get_run("t", "ü~☃") == run

    async def test_a_start_and_its_events_go_together(self) -> None:
        async with self.owned() as (a, lease):
            runs = [a_run("x"), a_run("y")]
            events = [event for run in runs for event in Story(run).tell(b"1", b"2")]
            await committed(a, Append(epochs={0: lease.epoch}, starts=runs, events=events))
            assert await datas(a, runs[0].key) == await datas(a, runs[1].key) == [b"1", b"2"]

    async def test_events_keep_the_order_of_commits(self) -> None:
        async with self.owned() as (a, lease):
            x, y = a_run("x"), a_run("y")
            await started(a, lease, x, y)
            story_x, story_y = Story(x), Story(y)
            await told(a, lease, *story_x.tell(b"1"), *story_y.tell(b"2"), *story_x.tell(b"3"))
            await told(a, lease, *story_y.tell(b"4"))
            found = [*await a.events(x.key, 0, 10), *await a.events(y.key, 0, 10)]
            assert [e.data for e in sorted(found, key=lambda e: e.position)] == [b"1", b"2", b"3", b"4"]
            assert [e.seq for e in found] == [1, 2, 1, 2]
            assert len({e.position for e in found}) == 4

    async def test_every_column_of_an_event_comes_back(self) -> None:
        async with self.owned() as (a, lease):
            run = a_run()
            await started(a, lease, run)
            ((_, _, kind, _, chain, data),) = Story(run).tell(b"\x00\xff", kind="kind")
            await told(a, lease, (run, 1, kind, 7, chain, data))
            (event,) = await a.events(run.key, 0, 10)
            assert (event.run, event.seq, event.epoch) == (run.key, 1, lease.epoch)
            assert (event.kind, event.version, event.chain, event.data) == ("kind", 7, chain, b"\x00\xff")

    async def test_a_taken_id_is_a_conflict_and_the_rest_is_committed(self) -> None:
        async with self.owned() as (a, lease):
            first = a_run("x", workflow="first")
            await started(a, lease, first)
            again, other = a_run("x", workflow="second"), a_run("y")
            batch = Append(
                epochs={0: lease.epoch}, starts=[again, other],
                events=[*Story(again).tell(b"lost"), *Story(other).tell(b"kept")],
                blobs=[(again, "sha256:1", b"lost")], seen=[(again, "lost")],
            )  # fmt: skip
            appended = await a.append(batch)
            assert appended.committed
            assert appended.conflicts == [(again, first)]
            assert (again.key, await datas(a, other.key), await datas(a, first.key)) == (0, [b"kept"], [])
            assert await a.get_run("t", "x") == first
            assert await a.blob("sha256:1") is None

    async def test_two_starts_of_one_id_in_a_batch_conflict_with_each_other(self) -> None:
        async with self.owned() as (a, lease):
            first, second = a_run("x"), a_run("x")
            appended = await a.append(Append(epochs={0: lease.epoch}, starts=[first, second]))
            assert appended.committed
            assert appended.conflicts[0][0] is second
            assert appended.conflicts[0][1].key == first.key > 0
            assert second.key == 0

    async def test_the_same_id_of_another_tenant_is_another_run(self) -> None:
        async with self.owned() as (a, lease):
            mine, yours = a_run("x"), a_run("x", tenant="u")
            await started(a, lease, mine, yours)
            assert await a.get_run("u", "x") == yours
            assert await a.get_run("v", "x") is None

    async def test_all_or_nothing_refuses_everything_for_one_conflict(self) -> None:
        async with self.owned() as (a, lease):
            first = a_run("x")
            await started(a, lease, first)
            again, other = a_run("x"), a_run("y")
            batch = Append(
                epochs={0: lease.epoch}, starts=[other, again], events=Story(other).tell(b"1"),
                sends=[a_message()], replies=[("q", b"1", 2**50)], all_or_nothing=True,
            )  # fmt: skip
            appended = await a.append(batch)
            assert not appended.committed
            assert appended.conflicts == [(again, first)]
            assert (other.key, again.key) == (0, 0)
            assert await a.get_run("t", "y") is None
            assert await a.take_reply("q") is None
            batch.starts = [other]
            await committed(a, batch)
            assert await datas(a, other.key) == [b"1"]

    async def test_summaries_change_what_can_change_and_nothing_else(self) -> None:
        async with self.owned() as (a, lease):
            run = a_run("x", attributes={"k": "1"})
            await started(a, lease, run)
            for name, value in {
                "status": "failed", "updated": 9, "ended": 10, "due": 11, "reason": "because", "checkpoint": 12,
                "deaths": 13, "attributes": {"k": "2", "l": "3"},
            }.items():  # fmt: skip
                setattr(run, name, value)
            await committed(a, Append(epochs={0: lease.epoch}, summaries=[run]))
            assert await a.get_run("t", "x") == run
            run.attributes, run.ended, run.due, run.reason = {}, None, None, None
            await committed(a, Append(epochs={0: lease.epoch}, summaries=[run]))
            assert await a.get_run("t", "x") == run

    async def test_a_seq_is_written_once_or_the_whole_batch_is_refused(self) -> None:
        async with self.owned() as (a, lease):
            run = a_run()
            await started(a, lease, run)
            await told(a, lease, *Story(run).tell(b"first"))
            batch = Append(
                epochs={0: lease.epoch}, starts=[a_run("y")], events=Story(run).tell(b"second"),
                replies=[("q", b"1", 2**50)],
            )  # fmt: skip
            try:
                await a.append(batch)
            except StoreCorrupt as e:
                assert "nothing was written" in str(e)
            else:
                raise AssertionError("a second event with the same seq was taken")
            assert await datas(a, run.key) == [b"first"]
            assert await a.get_run("t", "y") is None
            assert await a.take_reply("q") is None
            await told(a, lease, *Story(run, 1, (await a.events(run.key, 0, 1))[0].chain).tell(b"next"))

    async def test_a_command_id_counts_once_or_the_whole_batch_is_refused(self) -> None:
        async with self.owned() as (a, lease):
            run, other = a_run(), a_run("other")
            await started(a, lease, run, other)
            await committed(a, Append(epochs={0: lease.epoch}, seen=[(run, "c1"), (other, "c1"), (run, "c2")]))
            assert await a.seen(run.key) == {"c1", "c2"}
            try:
                again = Append(epochs={0: lease.epoch}, seen=[(run, "c1")], events=Story(run).tell(b"twice"))
                await a.append(again)
            except StoreCorrupt:
                assert await datas(a, run.key) == []
            else:
                raise AssertionError("a command counted twice")

    async def test_an_empty_batch_is_fine(self) -> None:
        async with self.owned() as (a, lease):
            await committed(a, Append(epochs={0: lease.epoch}))
            assert await a.list_runs(RunFilter()) == []

    async def test_blobs_are_kept_once_and_read_anywhere(self) -> None:
        async with self.opened(2) as (_, (a, b)):
            lease, run = await taken(a), a_run()
            await started(a, lease, run)
            big = bytes(range(256)) * 4096
            blobs: list[tuple[Keyed, str, bytes]] = [
                (run, "sha256:1", big),
                (run, "sha256:2", b""),
                (run, "sha256:1", big),
            ]
            await committed(a, Append(epochs={0: lease.epoch}, blobs=blobs))
            assert await b.blob("sha256:1") == big
            assert await b.blob("sha256:2") == b""
            assert await b.blob("sha256:3") is None

    async def test_what_is_handed_out_is_not_what_is_kept(self) -> None:
        async with self.owned() as (a, lease):
            run = a_run(attributes={"k": "v"})
            await started(a, lease, run)
            run.status = "changed"
            run.attributes["k"] = "changed"
            found = await a.get_run("t", "r")
            assert found is not None
            assert (found.status, found.attributes) == ("running", {"k": "v"})
            found.attributes["k"] = "changed"
            (listed,) = await a.list_runs(RunFilter())
            assert listed.attributes == {"k": "v"}

    async def test_a_closed_store_says_so(self) -> None:
        async with self.opened() as (_, (a,)):
            lease = await taken(a)
            await a.close()
            await a.close()
            for call in (a.append(Append(epochs={0: lease.epoch})), a.get_run("t", "r"), a.wait_changed(60)):
                try:
                    await call
                except StoreUnavailable as e:
                    assert "closed" in str(e)
                else:
                    raise AssertionError("a closed store answered")
