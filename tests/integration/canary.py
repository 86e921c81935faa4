"""Workflows that give one text away on every path by which it can reach a store, and who drives them."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import aob

CORE = "7Q3kzW0v9Lr2xB"
CANARY = f'pay "Ünal {CORE}" \\ now'
MANY = 4_000
"""So often repeated it is larger than what fits into an event."""


class Mirror:
    """Not encryption, but no plain text either."""

    def encode(self, data: bytes) -> bytes:
        return bytes(b ^ 0x55 for b in data)

    def decode(self, data: bytes) -> bytes:
        return bytes(b ^ 0x55 for b in data)


class Refusal(Exception):
    """An error with attributes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.told = {"to": text}


def forms(text: str = CORE) -> list[bytes]:
    """What a plain text looks like in a file: as it is (so inside of JSON, too), and in base64 at each offset."""
    data = text.encode()
    inside = [base64.b64encode(b"\0" * skip + data)[4 if skip else 0 : -4] for skip in range(3)]
    return [data, *inside, data.hex().encode(), json.dumps(text).encode(), text.encode("utf-16-le")]


def found(folder: Path) -> list[str]:
    """Where the canary stands in plain text."""
    kept = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    return [f"{name}: {form!r}" for name, data in kept.items() for form in forms() if form in data]


@aob.activity
async def echo(text: str) -> str:
    return text


@aob.activity(retry=aob.Retry(initial=0.01, jitter=0))
async def falters(text: str) -> str:
    aob.heartbeat({"at": text})
    if aob.info().attempt == 1:
        raise ConnectionError(text)
    return str(aob.info().heartbeat)


@aob.activity
async def refuses(text: str, count: int = 1) -> None:
    try:
        raise KeyError(text)
    except KeyError as e:
        raise Refusal(text * count) from ExceptionGroup(text, [e, OSError(text)])


@aob.activity
async def refuses_for_good(text: str) -> None:
    raise aob.NonRetryable(text)


@aob.workflow
async def fails(text: str) -> None:
    await refuses(text)


@aob.workflow(fidelity="full")
async def in_full(text: str) -> str:
    return await echo(text)


@aob.workflow
async def waits(text: str) -> str:
    return await aob.wait_signal("go", str) + text


@aob.workflow
async def gives_away(text: str) -> list[Any]:
    book: list[Any] = []

    @aob.query
    def read(what: str) -> list[Any]:
        if what == "fail":
            raise Refusal(text)
        return [what, *book]

    @aob.update
    async def write(what: str) -> str:
        book.append(await echo(what))
        if what.startswith("fail"):
            raise Refusal(what)
        return what

    @write.validator
    def check(what: str) -> None:
        if what.startswith("no"):
            raise ValueError(what)

    state = aob.checkpoint_state(dict[str, str])
    if state is None:
        large = await echo(text * MANY)
        aob.checkpoint({"text": text, "large": large, "small": await falters(text)})
    book.append(state)
    book.append(await aob.side_effect(lambda: text))
    aob.emit("told", {"text": text})
    for failing in (refuses(text), refuses(text, MANY), refuses_for_good(text), fails(text)):
        try:
            await failing
        except (Refusal, aob.AobError) as e:
            book.append(str(e))
    decision = await aob.approval(f"Pay {text}?", data={"note": text}, assignees=[text])
    book += [decision.by, decision.reason, decision.data]
    try:
        await aob.approval(f"Still {text}?", data=text, timeout=0.01, on_timeout="fail")
    except TimeoutError as e:
        book.append(str(e))
    await aob.signal_run("other", "go", text)
    book.append(await aob.wait_signal("more", str))
    await aob.wait_until(lambda: text + "!" in book)
    return book


WORKFLOWS = (fails, in_full, waits, gives_away)


async def raises(kind: type[Exception], call: Any) -> None:
    """That error, with the text in it."""
    try:
        await call
    except kind as e:
        assert CORE in str(e), e
        return
    raise AssertionError(f"{kind} was not raised")


async def ticket_of(client: aob.Client, run_id: str) -> aob.Ticket:
    while not (tickets := await client.tickets(run_id=run_id)):
        await aob.sleep(0.01)
    return tickets[0]


async def drive(client: aob.Client) -> None:
    """Go by every path, and see that what comes back is what was given."""
    await client.start(waits, CANARY, run_id="other")
    run: aob.Run[list[Any]] = await client.start(gives_away, CANARY, run_id="all")
    ticket = await ticket_of(client, "all")
    assert (ticket.title, ticket.data, ticket.assignees) == (f"Pay {CANARY}?", {"note": CANARY}, [CANARY])
    await raises(Refusal, run.query("read", "fail"))
    await raises(Refusal, run.update("write", "fail" + CANARY))
    await raises(ValueError, run.update("write", "no" + CANARY))
    closed = await client.decide(ticket.id, True, by=CANARY, reason=CANARY, data={"note": CANARY * 2})
    assert (closed.by, closed.reason) == (CANARY, CANARY)
    await raises(aob.TicketClosed, client.decide(ticket.id, False, by="eve"))
    await run.signal("more", CANARY * MANY)
    assert await run.update("write", CANARY + "!") == CANARY + "!"
    result = await run.result()
    assert all(CORE in str(item) for item in result), [str(item)[:80] for item in result]
    assert (await run.query("read", CANARY))[0] == CANARY
    assert await (await client.get("other")).result() == CANARY * 2
    await _ends(client)
    forked = await run.fork(overrides={"falters#1": CANARY}, run_id="forked")
    again = await run.fork(input=CANARY, overrides={"echo#1": CANARY * MANY}, run_id="again")
    for copy in (forked, again):
        await copy.terminate(CANARY)
    assert CORE in str([event.data for event in await run.history()])


async def _ends(client: aob.Client) -> None:
    runs = await client.start_many(waits, [CANARY, CANARY * MANY], run_ids=["first", "second"])
    signalled = await client.start(waits, CANARY, run_id="signalled", signal=("go", CANARY))
    assert await signalled.result() == CANARY * 2
    await runs[0].pause(CANARY)
    await runs[0].resume()
    await runs[0].cancel(CANARY)
    await runs[1].terminate(CANARY)
    failed = await client.start(fails, CANARY, run_id="failed")
    await client.start(in_full, CANARY, run_id="full")
    for ended in (*runs, failed):
        await raises(aob.RunFailed, ended.result())
        assert CORE in ((await ended.summary()).reason or "")
    reasons = {summary.run_id: summary.reason or "" for summary in await client.list()}
    assert all(CORE in reasons[name] for name in ("first", "second", "failed"))


async def serve(url: str) -> None:
    """Be a worker until killed."""
    async with aob.connect(url, codec=Mirror()) as client, client.serve(*WORKFLOWS):
        print("serves", flush=True)
        await asyncio.Event().wait()
