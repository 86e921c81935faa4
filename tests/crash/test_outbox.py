"""I10: every committed event is exported, in order, though the worker is killed in the middle of exports."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

import aob
from aob.stores.rows import LogRow
from tests.conftest import REPOSITORY
from tests.crash.exporting import doubles

RUNS, STEPS = 60, 8


async def life(url: str, file: Path, death: int) -> asyncio.subprocess.Process:
    """A worker that exports and dies in its n-th export."""
    paths = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH", ""))))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.crash.exporting", url, str(file), str(death), cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": paths, "AOB_MAX_DEATHS": "100"}, stdin=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def log_of(client: aob.Client) -> list[LogRow]:
    """All that was ever committed."""
    rows: list[LogRow] = []
    while page := await client.store.log({0: rows[-1].position if rows else 0}, 1_000):
        rows += page
    return rows


@pytest.mark.crash
async def test_a_file_of_events_is_the_log_whenever_its_worker_was_killed(tmp_path: Path) -> None:
    url, file = f"sqlite:///{tmp_path}/aob.db", tmp_path / "log.jsonl"
    async with aob.connect(url) as client:
        runs = [await client.start(doubles, STEPS, run_id=f"r{n}") for n in range(RUNS)]
        for death in (1, 2, 3, 4, 2, 5, 1, 2):
            worker = await life(url, file, death)
            while worker.returncode is None:
                runs.append(await client.start(doubles, STEPS))
                await asyncio.sleep(0.02)
        worker = await life(url, file, 0)
        assert [await run.result(timeout=60) for run in runs] == [2**STEPS] * len(runs)
        assert worker.stdin is not None
        worker.stdin.close()
        assert await worker.wait() == 0
        log = await log_of(client)
        (cursor,) = await client.store.cursors("jsonl")
    assert len(log) >= len(runs) * (STEPS + 2)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(e["id"], e["run_id"], e["seq"], e["kind"]) for e in lines] == [
        (f"0:{row.position}", row.run_id, row.seq, row.kind) for row in log
    ]
    assert cursor.position == log[-1].position
