"""Approvals: a ticket is decided once, by a person or by its deadline, and history says by whom and why."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import aob
from aob.client.client import Client
from aob.client.views import Ticket
from aob.errors import NoWorker, TicketClosed, TicketNotFound
from aob.testing.conformance import engine_flows as flows
from aob.testing.conformance.engine_b_cancel import note
from aob.testing.conformance.engine_b_setting import BesideSetting, a_while, failure, has, of_kind, sound
from aob.testing.conformance.engine_harness import eventually, outcome, refused


@dataclass
class Refund:
    customer: str
    euros: int


@aob.workflow
async def refunds(trace: str, euros: int) -> list[Any]:
    """Asks for a refund, and pays it."""
    refund = Refund("ann", euros)
    decision = await aob.approval(f"Refund {euros}?", data=refund, assignees=["bob", "eve"])
    paid = decision.data if decision.approved else None
    if paid is not None:
        await note(trace, f"paid {paid.euros}")
    return [decision.approved, decision.by, decision.reason, None if paid is None else paid.euros]


@aob.workflow
async def asks(on_timeout: Any, seconds: float, escalate_to: Any = "") -> list[Any]:
    """One approval that says how it came out."""
    try:
        decision = await aob.approval(
            "May I?", data=1, assignees=["ann"], timeout=seconds, on_timeout=on_timeout, escalate_to=escalate_to
        )
    except aob.ApprovalTimeout as e:
        return ["error", str(e)]
    return [decision.approved, decision.by, decision.reason, decision.data]


class ApprovalTests(BesideSetting):
    """Tickets, from the question to the record of the answer."""

    async def test_approval_is_asked_listed_and_decided_from_everywhere(self) -> None:
        async with self.beside(refunds) as (engine, client, other):
            trace = engine.trace()
            for n, decider in enumerate((client, other)):
                run = await client.start(refunds, trace.path, 70 + n, run_id=f"r{n}")
                ticket = await asked(other)
                assert (ticket.title, ticket.data, ticket.assignees, ticket.status) == (
                    f"Refund {70 + n}?", {"customer": "ann", "euros": 70 + n}, ["bob", "eve"], "open",
                )  # fmt: skip
                assert (ticket.id, ticket.run_id, ticket.step) == (f"r{n}~approval#1", f"r{n}", "approval#1")
                closed = await decider.decide(ticket.id, True, by="bob", reason="was late")
                assert (closed.status, closed.by, closed.reason) == ("approved", "bob", "was late")
                assert await outcome(run) == [True, "bob", "was late", 70 + n]
                assert await other.tickets() == []
            assert trace.lines() == ["paid 70", "paid 71"]

    async def test_approval_and_its_rejection_stand_in_history_with_who_and_why(self) -> None:
        async with self.serving(refunds) as client:
            run = await client.start(refunds, "unused", 70)
            await client.decide((await asked(client)).id, False, by="eve", reason="too much")
            assert await outcome(run) == [False, "eve", "too much", None]
            (event,) = await of_kind(run, "step_completed")
            assert (event.step, event.data["by"]) == ("approval#1", "eve")
            assert event.data["result"] == {"approved": False, "by": "eve", "reason": "too much"}
            (scheduled,) = await of_kind(run, "step_scheduled")
            assert scheduled.data["input"]["title"] == "Refund 70?"
            (ticket,) = await client.tickets(status="rejected")
            assert (ticket.by, ticket.reason, ticket.closed) == ("eve", "too much", event.at) or ticket.closed
            await sound(run)

    async def test_approval_waits_across_crashes_and_is_asked_once(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(refunds)
            await client.start(refunds, trace.path, 70, run_id="r")
            ticket = await asked(client)
            for _ in range(2):
                client = await engine.restart()
                await a_while(0.05)
                assert await asked(client) == ticket
            await client.decide(ticket.id, True, by="bob")
            client = await engine.restart()
            run = await client.get("r")
            assert await outcome(run) == [True, "bob", "", 70]
            assert trace.lines().count("paid 70") >= 1
            assert len(await of_kind(run, "step_scheduled")) == 1

    async def test_approval_while_nobody_serves(self) -> None:
        async with self.engine() as engine:
            trace = engine.trace()
            client = await engine.open(refunds)
            await client.start(refunds, trace.path, 70, run_id="r")
            ticket = await asked(client)
            await engine.close()
            client = await engine.open()
            assert (await client.decide(ticket.id, True, by="bob")).status == "approved"
            await refused(client.decide(ticket.id, False, by="eve"), TicketClosed)
            client = await engine.open(refunds)
            assert await outcome(await client.get("r")) == [True, "bob", "", 70]

    async def test_approval_is_decided_once_however_many_decide(self) -> None:
        async with self.beside(refunds) as (engine, client, other):
            trace = engine.trace()
            run = await client.start(refunds, trace.path, 70)
            ticket = await asked(client)
            got = await asyncio.gather(
                *(c.decide(ticket.id, n % 3 == 0, by=f"p{n}") for n, c in enumerate([client, other] * 5)),
                return_exceptions=True,
            )
            won = [t for t in got if isinstance(t, Ticket)]
            assert len(won) == 1
            assert all(isinstance(e, TicketClosed) for e in got if not isinstance(e, Ticket))
            approved, by, *_ = await outcome(run)
            assert (approved, by) == (won[0].status == "approved", won[0].by)
            for c in (client, other):
                assert str(won[0].by) in await refused(c.decide(ticket.id, True, by="late"), TicketClosed)
            assert len(trace.lines()) == int(approved)
            await sound(run)

    async def test_approval_of_no_ticket_is_refused(self) -> None:
        async with self.beside(refunds) as (_, client, other):
            for c in (client, other):
                assert "nothing" in await refused(c.decide("nothing~approval#1", True, by="bob"), TicketNotFound)

    # --- edited data ------------------------------------------------------------------------------

    async def test_approval_data_may_be_edited_and_must_fit_its_type(self) -> None:
        async with self.beside(refunds) as (engine, client, other):
            trace = engine.trace()
            for n, c in enumerate((client, other)):
                run = await client.start(refunds, trace.path, 70 + n, run_id=f"r{n}")
                ticket = await asked(client)
                for wrong in ({"customer": "ann"}, {"customer": "ann", "euros": "many"}, 7):
                    await refused(c.decide(ticket.id, True, by="bob", data=wrong), aob.BadPayload)
                assert (await asked(client)).status == "open"
                edited: Any = Refund("ann", 5) if n else {"customer": "ann", "euros": 5}
                await c.decide(ticket.id, True, by="bob", data=edited)
                assert await outcome(run) == [True, "bob", "", 5]
                event = (await of_kind(run, "step_completed"))[0]
                assert event.data["result"]["data"] == {"customer": "ann", "euros": 5}
            client = await engine.restart(refunds)
            assert await outcome(await client.get("r0")) == [True, "bob", "", 5]

    async def test_approval_type_is_what_was_asked_for(self) -> None:
        @aob.workflow
        async def picks() -> list[Any]:
            decision = await aob.approval("Which?", data=["a", "b"], type=str)
            return [decision.data, (await aob.approval("Anything?", data={"x": 1})).data]

        async with self.serving(picks) as client:
            run = await client.start(picks)
            ticket = await asked(client)
            await refused(client.decide(ticket.id, True, by="bob", data=["a"]), aob.BadPayload)
            await client.decide(ticket.id, True, by="bob", data="a")
            ticket = await asked(client)
            await client.decide(ticket.id, True, by="bob", data=[1, {"y": None}])
            assert await outcome(run) == ["a", [1, {"y": None}]]

    async def test_approval_edits_need_the_code_that_checks_them(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(refunds)
            await client.start(refunds, "unused", 70, run_id="r")
            ticket = await asked(client)
            await engine.close()
            client = await engine.open()
            await refused(client.decide(ticket.id, True, by="bob", data={"customer": "x", "euros": 1}), NoWorker)
            assert (await asked(client)).status == "open"

    # --- time -------------------------------------------------------------------------------------

    async def test_approval_defaults_when_nobody_decides_in_time(self) -> None:
        async with self.serving(asks) as client:
            runs = {d: await client.start(asks, d, 0.1) for d in ("reject", "approve", "fail")}
            assert (await outcome(runs["reject"]))[:2] == [False, "timeout"]
            assert (await outcome(runs["approve"]))[:2] == [True, "timeout"]
            assert (await outcome(runs["fail"]))[0] == "error"
            for default, run in runs.items():
                (event,) = await of_kind(run, "emitted")
                assert event.data["name"] == "approval_timed_out"
                assert event.data["data"]["default"] == default
                ticket = await closed(client, run.run_id)
                assert (ticket.status, ticket.by) == ("expired", None)
                await refused(client.decide(ticket.id, True, by="late"), TicketClosed)
                await sound(run)

    async def test_approval_deadline_passes_while_nobody_serves(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(asks)
            await client.start(asks, "reject", 0.3, run_id="r")
            ticket = await asked(client)
            assert ticket.deadline is not None
            await engine.close()
            await a_while(0.4)
            client = await engine.open()
            await refused(client.decide(ticket.id, True, by="late"), TicketClosed)
            client = await engine.open(asks)
            assert (await outcome(await client.get("r")))[:2] == [False, "timeout"]
            assert (await closed(client, "r")).status == "expired"

    async def test_approval_before_its_deadline_stops_the_clock(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(asks)
            run = await client.start(asks, "fail", 2.0, run_id="r")
            await client.decide((await asked(client)).id, True, by="ann")
            assert await outcome(run) == [True, "ann", "", 1]
            await a_while(2.2)
            client = await engine.restart()
            assert await outcome(await client.get("r")) == [True, "ann", "", 1]
            assert await of_kind(await client.get("r"), "timer_fired") == []

    async def test_approval_racing_its_deadline_comes_out_one_way(self) -> None:
        async with self.beside(asks) as (_, client, other):
            for n in range(12):
                run = await client.start(asks, "reject", 0.1, run_id=f"r{n}")
                await has(run, "step_scheduled")
                (ticket,) = await client.tickets(status=None, run_id=f"r{n}")
                assert ticket.deadline is not None
                left = (ticket.deadline - aob.now()).total_seconds()
                await asyncio.sleep(max(left + (n - 6) * 0.001, 0))
                try:
                    await (other if n % 2 else client).decide(ticket.id, True, by="bob")
                    want = [True, "bob"]
                except TicketClosed:
                    want = [False, "timeout"]
                assert (await outcome(run))[:2] == want
                shown = await closed(client, f"r{n}")
                assert (shown.status, shown.by) == (("approved", "bob") if want[0] else ("expired", None))
                await sound(run)

    async def test_approval_escalates_along_its_chain(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(asks)
            run = await client.start(asks, "escalate", 0.6, [["bob"], ["eve", "joe"]], run_id="r")
            seen: list[list[str]] = []
            for level in range(3):
                ticket = await asked(client, "r", f"approval#{level + 1}")
                seen.append(ticket.assignees)
                if level == 1:
                    client = await engine.restart()
                    run = await client.get("r")
            await client.decide((await asked(client, "r", "approval#3")).id, True, by="joe", reason="at last")
            assert seen == [["ann"], ["bob"], ["eve", "joe"]]
            assert await outcome(run) == [True, "joe", "at last", 1]
            to = [e.data["data"]["to"] for e in await of_kind(run, "emitted")]
            assert to == [["bob"], ["eve", "joe"]]
            await eventually(lambda client=client: _none_open(client), "the tickets of before to be closed")
            statuses = sorted(t.status for t in await client.tickets(status=None))
            assert statuses == ["approved", "expired", "expired"]
            await sound(run)

    async def test_approval_that_nobody_on_the_chain_gives_is_rejected(self) -> None:
        async with self.serving(asks) as client:
            run = await client.start(asks, "escalate", 0.1, "bob")
            assert (await outcome(run))[:2] == [False, "timeout"]
            names = [e.data["name"] for e in await of_kind(run, "emitted")]
            assert names == ["approval_escalated", "approval_timed_out"]

    async def test_approval_that_cannot_work_is_refused(self) -> None:
        async with self.serving(asks) as client:
            for how in ("escalate", "maybe"):
                error = await failure(await client.start(asks, how, 1.0))
                assert "approval" in str(error.__cause__)
            assert await client.tickets(status=None) == []

    # --- ends -------------------------------------------------------------------------------------

    async def test_approval_is_withdrawn_when_its_run_ends_or_waits_no_more(self) -> None:
        @aob.workflow
        async def waits(how: str) -> str:
            asking = asyncio.create_task(aob.approval("May I?"))
            await aob.wait_signal("go")
            if how == "stops":
                asking.cancel()
                await aob.wait_signal("end")
            if how == "fails":
                raise ValueError("no")
            return how

        async with self.beside(waits) as (engine, client, other):
            for how in ("returns", "fails", "stops", "cancel", "terminate", "terminate there"):
                run_id = how.replace(" ", "-")
                run = await client.start(waits, how, run_id=run_id)
                ticket = await asked(client, run_id)
                if how == "cancel":
                    await run.cancel()
                elif how.startswith("terminate"):
                    await (run if how == "terminate" else await other.get(run_id)).terminate()
                else:
                    await run.signal("go")
                assert (await closed(client, run_id)).status == "withdrawn"
                await refused(client.decide(ticket.id, True, by="late"), TicketClosed)
                if how == "stops":
                    client = await engine.restart(waits)
                    other = await engine.open()
                    run = await client.get(run_id)
                    await run.signal("end")
                    assert await outcome(run) == "stops"
                await sound(run)
            assert await client.tickets() == []

    async def test_approval_is_withdrawn_though_its_code_is_not_served_when_its_run_ends(self) -> None:
        async with self.engine() as engine:
            client = await engine.open(refunds)
            await client.start(refunds, "unused", 70, run_id="r")
            await asked(client)
            await engine.close()
            client = await engine.open()
            await (await client.get("r")).terminate("while nobody served")
            client = await engine.open(flows.twice)
            assert (await closed(client, "r")).status == "withdrawn"

    async def test_approval_during_a_pause_counts_at_resume(self) -> None:
        async with self.beside(refunds) as (engine, client, other):
            trace = engine.trace()
            run = await client.start(refunds, trace.path, 70, run_id="r")
            ticket = await asked(client)
            await run.pause()
            await other.decide(ticket.id, True, by="bob")
            await a_while(0.1)
            assert trace.lines() == []
            await refused(client.decide(ticket.id, False, by="eve"), TicketClosed)
            client = await engine.restart(refunds)
            run = await client.get("r")
            await run.resume()
            assert await outcome(run) == [True, "bob", "", 70]

    async def test_approval_of_an_evicted_run(self) -> None:
        async with self.beside(refunds, resident_runs=1, evict_after=0.0) as (engine, client, other):
            trace = engine.trace()
            runs = [await client.start(refunds, trace.path, n, run_id=f"r{n}") for n in range(8)]
            await a_while(0.2)
            for n in range(8):
                decider = other if n % 2 else client
                await decider.decide((await asked(client, f"r{n}")).id, True, by="bob")
            for n, run in enumerate(runs):
                assert await outcome(run) == [True, "bob", "", n]

    async def test_approval_from_another_process(self) -> None:
        async with self.engine() as engine:
            engine.needs("processes")
            trace = engine.trace()
            client = await engine.open(refunds)
            run = await client.start(refunds, trace.path, 70, run_id="r")
            await asked(client)
            process = await engine.process()
            edited = {"customer": "ann", "euros": 3}
            await process.client("decide", "r~approval#1", True, by="bob", reason="half of it", data=edited)
            assert await outcome(run) == [True, "bob", "half of it", 3]
            await has(run, "run_completed")


async def asked(client: Client, run_id: str | None = None, step: str | None = None) -> Ticket:
    """The one ticket that is open, once there is one."""
    found: list[Ticket] = []

    async def there() -> bool:
        found[:] = [t for t in await client.tickets(run_id=run_id) if step in (None, t.step)]
        return bool(found)

    await eventually(there, f"a ticket of {run_id or 'some run'}")
    assert len(found) == 1
    return found[0]


async def closed(client: Client, run_id: str) -> Ticket:
    """The run's one ticket, once it is closed."""
    found: list[Ticket] = []

    async def there() -> bool:
        found[:] = await client.tickets(status=None, run_id=run_id)
        return all(t.status != "open" for t in found)

    await eventually(there, f"the ticket of {run_id} to be closed")
    assert len(found) == 1
    return found[0]


async def _none_open(client: Client) -> bool:
    return not await client.tickets()
