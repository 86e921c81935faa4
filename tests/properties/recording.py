"""Recording the histories of the corpus: the same for the same seed."""

import json

import aob.testing
from aob.testing.replays import dumped
from tests.properties.corpus import WORKFLOWS, Case
from tests.properties.replaying import Lines


async def recorded(case: Case, seed: int) -> Lines:
    """The history of a case, as lines."""
    async with aob.testing.environment(*WORKFLOWS, seed=seed) as env:
        run = await env.start(case.workflow, *case.args, run_id=case.name)
        await case.drive(env, run)
        await env.advance(100_000)
        row = await run._row()
        return [json.loads(dumped(event, seq)) async for event, seq in env.client.history.read(row)]
