"""I19: what ends its worker is parked after three deaths; what merely ran beside it is not, and completes."""

import asyncio
import sys
from pathlib import Path

import aob

WORKER = Path(__file__).with_name("poison_worker.py")
INNOCENT = 60
DEATHS_AT_MOST = 12


async def run_worker(client: aob.Client, url: str) -> int | None:
    """Let a worker run until it dies or nothing is left to do; its exit code, None if it lives."""
    worker = await asyncio.create_subprocess_exec(sys.executable, str(WORKER), url)
    ended = asyncio.ensure_future(worker.wait())
    try:
        while not ended.done():
            await asyncio.wait([ended], timeout=0.05)
            if not len(await client.list(status=["pending", "running", "waiting"])):
                return None
        return ended.result()
    finally:
        if worker.returncode is None:
            worker.kill()
            await ended


async def test_what_ends_its_worker_is_parked_and_nothing_else(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'aob.db'}"
    async with aob.connect(url) as client:
        for i in range(INNOCENT):
            await client.start("innocent", i, run_id=f"innocent-{i}")
        await client.start("bad_step", run_id="bad-step")
        await client.start("bad_turn", run_id="bad-turn")
        deaths: list[int] = []
        while (code := await run_worker(client, url)) is not None:
            deaths.append(code)
            assert len(deaths) <= DEATHS_AT_MOST, deaths
        assert {3, 4} == set(deaths)
        assert {r.run_id for r in await client.list(status="parked")} == {"bad-step", "bad-turn"}
        assert len(await client.list(status="completed", limit=1000)) == INNOCENT
        reason = (await (await client.get("bad-step")).summary()).reason
        assert reason is not None and reason.startswith("poison: its worker died 3 times")
