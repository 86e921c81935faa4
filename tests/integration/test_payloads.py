"""Large values go through the blob store and all values through a codec, on every path by which they are read."""

import sqlite3
from pathlib import Path
from typing import Any

import aob
from aob.testing import replay
from tests.integration.canary import Mirror

LARGE = 300_000
SECRET = "the-customer's-secret"


@aob.activity
async def grow(text: str) -> str:
    return text * (LARGE // len(text))


@aob.activity
async def fails(text: str) -> None:
    raise aob.NonRetryable(text[:4])


@aob.workflow
async def inner(text: str) -> str:
    return await grow(text[:10])


@aob.workflow
async def carries(text: str) -> str:
    last = ""

    @aob.query
    def seen() -> str:
        return last

    @aob.update
    async def change(to: str) -> str:
        nonlocal last
        last = to
        return last * 2

    state = aob.checkpoint_state(str)
    if state is None:
        aob.checkpoint(text + await grow(text[:10]))
    aob.emit("state", state)
    last = await aob.wait_signal("more", str)
    await aob.wait_until(lambda: last == "changed" * 20_000)
    decision = await aob.approval("Good?", data=state)
    child = await inner(text)
    try:
        await fails(SECRET)
    except aob.NonRetryable as e:
        last = e.message
    return state + child + decision.data + last


async def _drive(client: aob.Client, text: str) -> aob.Run[str]:
    run: aob.Run[Any] = await client.start(carries, text, run_id="large")
    await run.signal("more", text)
    assert await run.update("change", "changed" * 20_000) == "changed" * 40_000
    assert await run.query("seen") == "changed" * 20_000
    while not (tickets := await client.tickets()):
        await aob.sleep(0.01)
    await client.decide(tickets[0].id, True, by="ada", reason="fine", data="edited" * 20_000)
    return run


def _expected(text: str) -> str:
    grown = text[:10] * (LARGE // 10)
    return text + grown + grown + "edited" * 20_000 + SECRET[:4]


async def _passes_through(path: Path, codec: Mirror | None) -> None:
    url, text = f"sqlite:///{path}", SECRET * 10_000
    async with aob.connect(url, codec=codec) as client, client.serve(carries, inner):
        run = await _drive(client, text)
        assert await run.result() == _expected(text)
        replay(carries, await run.history())
    async with aob.connect(url, codec=codec) as client, client.serve(carries, inner):
        again = await client.get("large")
        assert await again.result() == _expected(text)
        assert await again.query("seen") == SECRET[:4]
        forked = await again.fork(at="fails#1", run_id="forked")
        assert await forked.result() == _expected(text)
        assert [e async for e in again.events()] == await again.history()


def _files(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in folder.iterdir() if p.is_file())


async def test_large_values_are_kept_apart_and_read_transparently(tmp_path: Path) -> None:
    path = tmp_path / "aob.db"
    await _passes_through(path, None)
    with sqlite3.connect(path) as db:
        (longest,) = db.execute("select max(length(data)) from event").fetchone()
        (blobs,) = db.execute("select count(*) from blob").fetchone()
    assert longest < 64 * 1024 < LARGE
    assert blobs > 0


async def test_with_a_codec_no_payload_is_kept_in_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "aob.db"
    await _passes_through(path, Mirror())
    kept = _files(tmp_path)
    assert SECRET.encode() not in kept
    assert b"editededited" not in kept
