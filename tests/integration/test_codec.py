"""With a codec nothing that a user gave stands in the store in plain text, whoever wrote it there, and by which way."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aob
from aob.engine.exports import lines_of
from aob.engine.transfer import export_runs, run_names
from tests.integration.canary import CANARY, CORE, WORKFLOWS, Mirror, Refusal, drive, found, waits


async def test_here(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'aob.db'}"
    async with aob.connect(url, codec=Mirror()) as client:
        async with client.serve(*WORKFLOWS):
            await drive(client)
            assert found(tmp_path) == []
        parcels = export_runs(client.store, await run_names(client.store, None), still=True)
        exported = b"".join([line async for parcel in parcels for line in lines_of(parcel)])
        assert b'"blob"' in exported and CORE.encode() not in exported
    assert found(tmp_path) == []


@pytest.fixture
def worker(tmp_path: Path, repository: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that serves."""
    url = f"sqlite:///{tmp_path / 'aob.db'}"
    code = f"import asyncio; from tests.integration.canary import serve; asyncio.run(serve({url!r}))"
    started = subprocess.Popen([sys.executable, "-c", code], cwd=repository, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None and started.stdout.readline() == "serves\n"
    yield started
    started.kill()
    started.communicate()


async def test_from_another_process_that_is_killed(tmp_path: Path, worker: subprocess.Popen[str]) -> None:
    url = f"sqlite:///{tmp_path / 'aob.db'}"
    async with aob.connect(url, codec=Mirror()) as client:
        await drive(client)
        worker.kill()
        worker.wait()
        await client.start("waits", CANARY, run_id="unread", signal=("go", CANARY))
        await (await client.get("unread")).signal("go", CANARY)
        assert found(tmp_path) == []
        assert (tmp_path / "aob.db-wal").stat().st_size > 0
    async with aob.connect(url, codec=Mirror()) as client, client.serve(*WORKFLOWS):
        assert await (await client.get("unread")).result() == CANARY * 2
    assert found(tmp_path) == []


async def test_without_a_codec_the_same_is_found(tmp_path: Path) -> None:
    async with aob.connect(f"sqlite:///{tmp_path / 'aob.db'}") as client, client.serve(*WORKFLOWS):
        await drive(client)
    assert found(tmp_path) != []


class Keyed(Mirror):
    """What one key encoded, another does not decode."""

    def __init__(self, key: bytes, *older: bytes) -> None:
        self.keys = (key, *older)

    def encode(self, data: bytes) -> bytes:
        return self.keys[0] + super().encode(data)

    def decode(self, data: bytes) -> bytes:
        if data[:1] not in self.keys:
            raise ValueError("the tag does not fit")
        return super().decode(data[1:])


@pytest.mark.parametrize(
    ("codec", "says"), [(None, "open the store with the codec"), (Keyed(b"b"), "the tag does not fit")]
)
async def test_without_the_codec_lists_are_shown_and_values_are_not(
    tmp_path: Path, codec: Mirror | None, says: str
) -> None:
    url = f"sqlite:///{tmp_path / 'aob.db'}"
    async with aob.connect(url, codec=Mirror()) as client, client.serve(*WORKFLOWS):
        await client.start("fails", CANARY, run_id="failed")
        with pytest.raises(aob.RunFailed):
            await (await client.get("failed")).result()
    async with aob.connect(url, codec=codec) as client:
        run = await client.get("failed")
        if codec is None:
            assert [(s.run_id, s.status, s.reason) for s in await client.list()] == [("failed", "failed", "sealed")]
        with pytest.raises(aob.errors.StoreCorrupt, match=says):
            await run.history()


async def test_a_message_of_another_codec_waits_for_its_own(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'aob.db'}"
    async with aob.connect(url, codec=Keyed(b"a")) as client, client.serve(*WORKFLOWS):
        run: aob.Run[str] = await client.start("waits", "a", run_id="r")
        async with aob.connect(url, codec=Keyed(b"b")) as stranger:
            sent = await stranger.get("r")
            await sent.signal("go", "b")
            with pytest.raises(aob.errors.StoreCorrupt, match="the tag does not fit"):
                await sent.query("nothing")
        await client.start("in_full", "x", run_id="meanwhile")
        assert await run.status() in ("running", "waiting")
    async with aob.connect(url, codec=Keyed(b"a", b"b")) as client, client.serve(*WORKFLOWS):
        assert await (await client.get("r")).result() == "ba"


MARKED = {"$aob": ["sealed", "eyJ9"]}
TEXT = "$aob:sealed:eyJ9"


@aob.activity
async def odd() -> None:
    error = Refusal("odd")
    vars(error).update(MARKED)
    raise error


@aob.workflow
async def looks_like_ours(given: dict[str, Any]) -> list[Any]:
    try:
        await odd()
    except Refusal as e:
        return [given, await aob.wait_signal("go"), vars(e)["$aob"]]
    return []


@pytest.mark.parametrize("codec", [None, Mirror()])
async def test_what_looks_like_ours_is_the_users_own(tmp_path: Path, codec: Mirror | None) -> None:
    url = f"sqlite:///{tmp_path / 'aob.db'}"
    async with aob.connect(url, codec=codec) as client, client.serve(looks_like_ours, *WORKFLOWS):
        async with aob.connect(url, codec=codec) as sender:
            run: aob.Run[list[Any]] = await sender.start(looks_like_ours, MARKED, run_id="r")
            await run.signal("go", MARKED)
            assert await run.result() == [MARKED, MARKED, MARKED["$aob"]]
        recorded = await (await client.get("r")).history()
        failed = next(e for e in recorded if e.kind == "step_failed")
        assert failed.data["failure"]["state"]["$aob"] == MARKED["$aob"]
        waiting = await client.start(waits, "x", run_id="w")
        await waiting.cancel(TEXT)
        with pytest.raises(aob.RunCancelled):
            await waiting.result()
        assert (await waiting.summary()).reason == TEXT
        assert [e.data["reason"] for e in await waiting.history() if e.kind == "run_cancelled"] == [TEXT]
