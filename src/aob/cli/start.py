"""`aob run start`."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from aob.cli.events import event_line
from aob.cli.loading import AnyWorkflow, resolve
from aob.cli.output import note, print_json, print_json_line, say, stdout
from aob.cli.serving import hint_when_stuck, served, somebody_serves, unless_it_fails
from aob.cli.session import Given, Here, Session
from aob.cli.values import json_or_file, pairs
from aob.client.client import Client
from aob.client.run import Run
from aob.errors import RunFailed


async def start(
    workflow: str,
    /,
    *,
    inputs: Given | None = None,
    id: Given | None = None,
    wait: bool = False,
    follow: bool = False,
    attribute: tuple[str, ...] = (),
    timeout: float | None = None,
    session: Here,
) -> int:
    """Start a run and print its id, or with --wait its result.

    Without a worker on the store, `--wait` serves the workflow in this process until the run has ended. The same --id
    with the same workflow and inputs means the same run, so that repeating a start is safe.

    For example:

        aob run start flow.py:greet --inputs '"Ada"' --wait

        aob run start shop.orders:ship --inputs order.json --id order-7 --attribute customer=acme

        aob run start ship --inputs '{"order": 7}' --follow

    Args:
        workflow: `module:function`, a file, or the name under which a worker serves it
        inputs: JSON, a file of JSON, or - for standard input; the only argument, or an object of arguments by name
        id: the run's id; made up without it
        wait: wait for the end and print the result
        follow: print events as they come, then the result
        attribute: key=value, a label for lists; may be given several times
        timeout: seconds from the start to the end of the run
    """
    target = resolve(workflow)
    value = None if inputs is None else json_or_file(inputs, "--inputs")
    if not isinstance(target, str):
        target.codec.decode_input(msgspec.json.encode(value))
    options: dict[str, Any] = {"run_id": id, "attributes": pairs(attribute, "--attribute"), "timeout": timeout}
    async with session.connect() as client:
        if not (wait or follow):
            run: Run[Any] = await client.start(name_of(client, target), value, **options)
            await _started(client, session, run, workflow, target)
            return 0
        async with served(client, target) as worker:
            run = await client.start(name_of(client, target), value, **options)
            if not session.json:
                note(f"run {run.run_id}")
            try:
                return await unless_it_fails(worker, _to_the_end(client, session, run, target, follow))
            except asyncio.CancelledError:
                note(f"run {run.run_id} is not lost: it goes on with the next worker")
                raise


def name_of(client: Client, target: AnyWorkflow | str) -> str:
    """The workflow's name, by which the command line starts it: the input is then the JSON that was given, so that the
    same command means the same run whether this process has the code or not."""
    if isinstance(target, str):
        return target
    client.workflows.setdefault(target.name, target)
    return target.name


def worker_command(session: Session, reference: str) -> str:
    """The command that starts a worker for a workflow."""
    module = reference.rpartition(":")[0] or (reference if reference.endswith(".py") else "MODULE")
    return f"aob worker {module}{session.option(tenant=False)}"


async def _started(client: Client, session: Session, run: Run[Any], reference: str, target: AnyWorkflow | str) -> None:
    summary = await run.summary()
    if session.json:
        print_json({"run_id": run.run_id, "workflow": summary.workflow, "status": summary.status})
        return
    say(run.run_id)
    if summary.status == "pending" and not await somebody_serves(client):
        note(f"it is pending: no worker serves this store; start one: {worker_command(session, reference)}")


async def _to_the_end(client: Client, session: Session, run: Run[Any], target: AnyWorkflow | str, follow: bool) -> int:
    name = target if isinstance(target, str) else target.name
    hint = asyncio.ensure_future(hint_when_stuck(client, run, name))
    try:
        if follow:
            async for event in run.events(live=True):
                if session.json:
                    print_json_line(event)
                else:
                    stdout().print(event_line(event), soft_wrap=True)
        return await print_result(session, run)
    finally:
        hint.cancel()


async def print_result(session: Session, run: Run[Any], timeout: float | None = None) -> int:
    """Wait for a run's result and print it; with --json within what else there is to say of its end.

    Raises:
        RunFailed: it failed, and this is not for a program.
    """
    try:
        result = await run.result(timeout)
    except RunFailed as e:
        if not session.json:
            raise
        print_json(
            {
                "run_id": run.run_id,
                "status": await run.status(),
                "error": {"code": e.code, "message": e.message, **e.details},
            }
        )
        return 1
    if session.json:
        print_json({"run_id": run.run_id, "status": "completed", "result": result})
    else:
        print_json(result)
    return 0
