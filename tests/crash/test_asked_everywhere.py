"""Another process asks something of a run through the inbox, and the owner dies at each write from then on: the next
one goes on. What was asked has its effect once, and who asked is told what the first owner would have told."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, cast

import msgspec
import pytest

import aob
from aob.client.client import Client
from aob.engine.asker import Reply
from aob.engine.inbox import Decide
from aob.engine.tickets import Decision
from aob.settings import load
from aob.stores.memory import MemoryState, MemoryStore
from aob.stores.protocol import Store
from aob.stores.rows import Message
from aob.testing.environment import NEW_YEAR, still
from aob.testing.lives import HOWS, How, Lives, MortalStore
from aob.testing.oracle import Seen, look, problems
from aob.testing.seeded import SeededProcess

BROKEN: list[bool] = [False]
CODE: list[str] = ["old"]


class OwnerStore(MortalStore):
    """The first owner's. It dies alone: everybody else of this life goes on."""

    def __init__(self, inner: Store, at: int | None, how: How) -> None:
        super().__init__(inner, at, how)
        self._never = asyncio.Event()

    async def wait_changed(self, timeout: float) -> None:
        await (self._never.wait() if self.dead else self.inner.wait_changed(timeout))

    async def renew(self, *leases: Any) -> None:
        await (self._never.wait() if self.dead else self.inner.renew(*leases))

    async def _write(self, what: str, write: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await super()._write(what, write)
        except aob.StoreFailed:
            self._gone()
            raise

    def _gone(self) -> None:
        """The process has ended: it holds no lock, and is not counted among the workers any more."""
        state = cast("MemoryStore", self.inner).state
        state.locks.clear()
        state.workers.clear()

    async def _die(self) -> None:
        self.dead = True
        self._gone()
        await self._never.wait()


@aob.activity
async def ship(n: int) -> int:
    if BROKEN[0]:
        raise ValueError("out of stock")
    return n


@aob.activity
async def pack(n: int) -> int:
    return n


@aob.workflow
async def order(n: int) -> int:
    noted: list[str] = []

    @aob.update
    async def note(text: str) -> int:
        noted.append(text)
        await aob.sleep(1)
        return await pack(len(noted))

    @aob.query
    def notes() -> list[str]:
        return noted

    packed = await pack(n)
    await aob.wait_signal("go")
    return packed + await ship(1)


@aob.workflow
async def asks(n: int) -> bool:
    packed = await pack(n)
    decision = await aob.approval("Ship?", data=packed)
    return decision.approved and await ship(1) == 1


@aob.workflow
async def changing(n: int) -> int:
    step = pack if CODE[0] == "old" else ship
    await step(n)
    await aob.wait_signal("go")
    return n


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    for _ in range(1_000):
        if await holds():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it did not come about")


async def in_state(run: aob.Run[Any], state: str) -> None:
    async def reached() -> bool:
        return await run.status() == state

    await until(reached)


# --- what is asked ------------------------------------------------------------------------------------


async def of_a_failed_run(client: Client) -> None:
    BROKEN[0] = True
    run = await client.start(order, 5, run_id="r", signal=("go",))
    await in_state(run, "failed")
    BROKEN[0] = False


async def of_a_waiting_run(client: Client) -> None:
    await in_state(await client.start(order, 5, run_id="r"), "waiting")


async def of_a_paused_run(client: Client) -> None:
    await of_a_waiting_run(client)
    await (await client.get("r")).pause()


async def of_a_finished_run(client: Client) -> None:
    run = await client.start(order, 5, run_id="r", signal=("go",))
    await in_state(run, "completed")


async def of_an_open_ticket(client: Client) -> None:
    await client.start(asks, 5, run_id="r")
    await until(client.tickets)


async def of_a_run_whose_code_has_changed(client: Client) -> None:
    await in_state(await client.get("r"), "parked")
    CODE[0] = "old"


async def of_a_run_that_killed_its_workers(client: Client) -> None:
    await in_state(await client.get("r"), "parked")


async def of_a_run_without_code(client: Client) -> None:
    run: aob.Run[Any] = await client.start("nowhere", 5, run_id="r", signal=("go",))

    async def says_so() -> bool:
        return (await run.summary()).reason is not None

    await until(says_so)
    await run.signal("go")


async def retry(client: Client) -> Any:
    await (await client.get("r")).retry()


async def resume(client: Client) -> Any:
    await (await client.get("r")).resume()


async def pause(client: Client) -> Any:
    await (await client.get("r")).pause()


async def terminate(client: Client) -> Any:
    await (await client.get("r")).terminate("enough")


async def cancel(client: Client) -> Any:
    run = await client.get("r")
    await run.cancel("enough")
    await in_state(run, "cancelled")


async def signal(client: Client) -> Any:
    run = await client.get("r")
    await run.signal("go")
    await in_state(run, "completed")


async def update(client: Client) -> Any:
    return await (await client.get("r")).update("note", "a")


async def query(client: Client) -> Any:
    return await (await client.get("r")).query("notes")


async def fork(client: Client) -> Any:
    return (await (await client.get("r")).fork(at="ship#1", overrides={"ship#1": 7}, run_id="f")).run_id


async def fork_with_input(client: Client) -> Any:
    return (await (await client.get("r")).fork(input=8, overrides={"ship#1": 7}, run_id="f")).run_id


async def fork_to_a_name_that_is_taken(client: Client) -> Any:
    await client.start(order, 9, run_id="f")
    return (await (await client.get("r")).fork(at="ship#1", run_id="f")).run_id


async def decide(client: Client) -> Any:
    (ticket,) = await client.tickets()
    decided = await client.decide(ticket.id, True, by="ann", reason="fine")
    return decided.status, decided.by, decided.reason


async def delete(client: Client) -> Any:
    await client.delete("r")
    return await client.store.get_run("default", "r")


class Refused(NamedTuple):
    """The error that who asked was told."""

    code: str
    text: str


class Asked(NamedTuple):
    """One thing to ask.

    Args:
        state: brings about the state of the run that it is asked of.
        kind: an event that the history must have as often as undisturbed.
        refused: code of the error with which it is answered.
    """

    state: Callable[[Client], Awaitable[None]]
    ask: Callable[[Client], Awaitable[Any]]
    kind: str | None = None
    refused: str | None = None


ASKED = {
    "retry": Asked(of_a_failed_run, retry, "run_reopened"),
    "retry of a parked run": Asked(of_a_run_that_killed_its_workers, retry),
    "resume of a parked run": Asked(of_a_run_that_killed_its_workers, resume),
    "resume of a run that is parked for its code": Asked(of_a_run_whose_code_has_changed, resume),
    "resume": Asked(of_a_paused_run, resume, "resumed"),
    "pause": Asked(of_a_waiting_run, pause, "paused"),
    "terminate": Asked(of_a_waiting_run, terminate, "run_terminated"),
    "cancel": Asked(of_a_waiting_run, cancel, "run_cancelled"),
    "cancel of a run that killed its workers": Asked(of_a_run_that_killed_its_workers, cancel, "cancel_requested"),
    "cancel of a run without code": Asked(of_a_run_without_code, cancel, "run_cancelled"),
    "terminate of a run without code": Asked(of_a_run_without_code, terminate, "run_terminated"),
    "query of a run without code": Asked(of_a_run_without_code, query, refused="no_worker"),
    "signal": Asked(of_a_waiting_run, signal, "signal_received"),
    "update": Asked(of_a_waiting_run, update, "update_completed"),
    "query": Asked(of_a_waiting_run, query),
    "query of a finished run": Asked(of_a_finished_run, query),
    "fork": Asked(of_a_finished_run, fork),
    "fork with input": Asked(of_a_finished_run, fork_with_input),
    "fork to a name that is taken": Asked(of_a_finished_run, fork_to_a_name_that_is_taken, refused="run_exists"),
    "decide": Asked(of_an_open_ticket, decide, "step_completed"),
    "delete": Asked(of_a_finished_run, delete),
}


# --- the story ----------------------------------------------------------------------------------------


class Told(NamedTuple):
    """What came of it.

    Args:
        answer: what who asked was told, or the error.
        before, after: how many writes the first owner had made when it was asked, and when it was answered.
    """

    answer: Any
    seen: Seen
    tickets: list[tuple[str, str | None]]
    before: int
    after: int


def client_of(lives: Lives, store: Store, number: int) -> Client:
    return Client("sqlite://", settings=still(load()), clock=lives.time, process=SeededProcess(1, number), store=store)


def story(asked: Asked, at: int | None = None, how: How = "before") -> Told:
    lives, state = Lives(NEW_YEAR), MemoryState()
    first = OwnerStore(MemoryStore(lives.time, state), at, how)
    stores = cast("Store", first), MemoryStore(lives.time, state), MemoryStore(lives.time, state)
    before = after = 0

    async def live() -> Any:
        nonlocal before, after
        owner, next_owner, asker = (client_of(lives, store, n) for n, store in enumerate(stores, 1))
        await owner.__aenter__()
        worker = await owner.serve(order, asks, changing).__aenter__()
        async with asker, next_owner, next_owner.serve(order, asks, changing):
            await asked.state(asker)
            before = len(first.writes)
            try:
                answer: Any = await asked.ask(asker)
            except aob.AobError as e:
                answer = Refused(e.code, str(e))
            after = len(first.writes)
            await asyncio.sleep(15)
            seen, tickets = await look(asker.store), await asker.tickets(None)
            if not first.over:
                await worker.stop()
            return answer, seen, [(t.status, t.by) for t in tickets]

    BROKEN[0], CODE[0] = False, "old"
    if asked.state is of_a_run_whose_code_has_changed:
        live_before(lives, state)
        state.runs[1].status, CODE[0] = "running", "new"
    elif asked.state is of_a_run_that_killed_its_workers:
        live_before(lives, state)
        state.runs[1].status, state.runs[1].reason, state.runs[1].deaths = "parked", "poison: of 3 workers", 3
    try:
        answer, seen, tickets = lives.live(live())
        assert lives.errors == [], lives.errors
        return Told(answer, seen, tickets, before, after)
    finally:
        lives.bury()


def live_before(lives: Lives, state: MemoryState) -> None:
    """A run that waits, and whose worker has stopped."""

    async def live() -> None:
        client = client_of(lives, MemoryStore(lives.time, state), 9)
        async with client, client.serve(changing):
            await in_state(await client.start(changing, 5, run_id="r"), "waiting")

    lives.live(live())


def outline(told: Told) -> Any:
    """What must be the same, whoever dies."""
    runs = {name[1]: (row.status, row.reason) for name, row in told.seen.runs.items()}
    return told.answer, runs, told.tickets


@pytest.mark.parametrize("name", ASKED)
def test_whoever_dies_it_has_its_effect_once_and_the_same_answer(name: str) -> None:
    asked = ASKED[name]
    calm = story(asked)
    assert problems(calm.seen) == []
    assert (calm.answer.code if isinstance(calm.answer, Refused) else None) == asked.refused, calm.answer
    kills = [(at, how) for at in range(calm.before + 1, calm.after + 3) for how in HOWS]
    for at, how in kills:
        told = story(asked, at, how)
        assert problems(told.seen) == [], (at, how)
        assert outline(told) == outline(calm), (at, how)
        if asked.kind is not None:
            count = Counter(event.kind for event in told.seen.events["default", "r"])[asked.kind]
            expected = Counter(event.kind for event in calm.seen.events["default", "r"])[asked.kind]
            assert count == expected > 0, (at, how)


@pytest.mark.parametrize("ask", [query, resume, retry])
def test_only_retry_and_resume_open_a_run_that_killed_its_workers(ask: Callable[[Client], Awaitable[Any]]) -> None:
    told = story(Asked(of_a_run_that_killed_its_workers, ask))
    assert told.seen.runs["default", "r"].status == ("parked" if ask is query else "waiting")
    assert told.seen.runs["default", "r"].deaths == (3 if ask is query else 0)


def test_a_decision_that_comes_together_with_a_cancel_is_told_what_became_of_it() -> None:
    lives, state = Lives(NEW_YEAR), MemoryState()
    stores = [MemoryStore(lives.time, state) for _ in range(2)]

    async def live() -> None:
        owner, asker = (client_of(lives, store, number) for number, store in enumerate(stores))
        async with asker, owner, owner.serve(asks):
            await of_an_open_ticket(asker)
            ticket = (await asker.tickets())[0].id
            body = msgspec.json.encode(Decide(ticket, Decision(approved=True, by="ann")))
            cancel = Message(tenant="default", run_id="r", kind="cancel", body=b'{"reason":"enough"}')
            decision = Message(tenant="default", run_id="r", kind="decide", body=body, reply="answer")
            await asker.store.send_many([(cancel, None), (decision, None)])
            await in_state(await asker.get("r"), "cancelled")
            await asyncio.sleep(1)
            answer = await asker.store.take_reply("answer")
            assert answer is not None
            failure = msgspec.json.decode(answer, type=Reply).failure
            assert failure is not None and failure.code == "ticket_closed"
            assert [t.status for t in await asker.tickets(None)] == ["withdrawn"]

    try:
        lives.live(live())
        assert lives.errors == []
    finally:
        lives.bury()
