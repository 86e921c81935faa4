"""`aob run signal|query|update|cancel|terminate|pause|resume|retry|fork`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aob.cli.output import print_json, say
from aob.cli.session import Given, Here, Misuse, Session
from aob.cli.values import json_or_file, json_value, pairs
from aob.client.run import Run
from aob.errors import RunFinished
from aob.kernel.states import TERMINAL_STATES


async def _do(
    session: Session, run_id: str, act: Callable[[Run[Any]], Awaitable[None]], said: str, to: str | None = None
) -> int:
    """Act on a run and say so.

    Args:
        to: the verb of what can only be done to a run that has not ended.
    """
    async with session.existing() as client:
        run = await client.get(run_id)
        if to is not None and (ended := await run.status()) in TERMINAL_STATES:
            raise RunFinished(f"run {run_id!r} has ended already ({ended}), so there is nothing to {to}")
        await act(run)
        status = await run.status()
    if session.json:
        print_json({"run_id": run_id, "status": status})
    else:
        say(f"run {run_id}: {said}")
    return 0


async def signal(run: str, name: str, payload: str | None = None, /, *, id: str | None = None, session: Here) -> int:
    """Send a signal to a run.

    For example:

        aob run signal order-7 paid '{"amount": 12}'

        aob run signal order-7 paid payment.json --id payment-99

    Args:
        run: the run's id
        name: the signal's name
        payload: JSON, a file of JSON, or - for standard input; without it null
        id: makes a repeated signal count once
    """
    value = None if payload is None else json_or_file(payload, "payload")
    return await _do(session, run, lambda r: r.signal(name, value, id), f"signal {name} is recorded")


async def query(run: str, name: str, /, *arguments: str, session: Here) -> int:
    """Read a run's state. A worker that serves its workflow must be running.

    For example:

        aob run query order-7 progress

        aob run query order-7 item '"sku-1"'

    Args:
        run: the run's id
        name: the query's name
        arguments: JSON values
    """
    values = [json_value(text, f"argument {i}") for i, text in enumerate(arguments, 1)]
    async with session.existing() as client:
        print_json(await (await client.get(run)).query(name, *values))
    return 0


async def update(run: str, name: str, /, *arguments: str, id: str | None = None, session: Here) -> int:
    """Change a run's state and print the answer. A worker that serves its workflow must be running.

    For example:

        aob run update order-7 add_item '"sku-1"' 2 --id click-17

    Args:
        run: the run's id
        name: the update's name
        arguments: JSON values
        id: makes a repeated update count once; the repetition gets the same answer
    """
    values = [json_value(text, f"argument {i}") for i, text in enumerate(arguments, 1)]
    async with session.existing() as client:
        print_json(await (await client.get(run)).update(name, *values, id=id))
    return 0


async def cancel(run: str, /, *, reason: Given = "", session: Here) -> int:
    """Ask a run to stop; its code may clean up.

    A run that has ended already is refused, with exit code 1; for one that was asked before nothing changes.

    For example:

        aob run cancel order-7 --reason "customer called"

    Args:
        run: the run's id
        reason: why; recorded in the history
    """
    return await _do(session, run, lambda r: r.cancel(reason), "cancellation is asked for", "cancel")


async def terminate(run: str, /, *, reason: Given = "", session: Here) -> int:
    """End a run at once; none of its code runs any more.

    A run that has ended already is refused, with exit code 1.

    For example:

        aob run terminate order-7 --reason "it loops"

    Args:
        run: the run's id
        reason: why; recorded in the history
    """
    return await _do(session, run, lambda r: r.terminate(reason), "terminated", "terminate")


async def pause(run: str, /, *, reason: Given = "", session: Here) -> int:
    """Dispatch nothing new in a run until `aob run resume`; what is in flight finishes.

    A run that has ended is refused, with exit code 1; for one that is paused already nothing changes.

    For example:

        aob run pause order-7 --reason "bank is down"

    Args:
        run: the run's id
        reason: why; recorded in the history
    """
    return await _do(session, run, lambda r: r.pause(reason), "paused", "pause")


async def resume(run: str, /, *, session: Here) -> int:
    """Go on with a paused run; a parked one is tried again.

    A run that has ended is refused, with exit code 1; for one that is neither paused nor parked nothing changes.

    For example:

        aob run resume order-7

    Args:
        run: the run's id
    """
    return await _do(session, run, lambda r: r.resume(), "goes on", "resume")


async def retry(run: str, /, *, session: Here) -> int:
    """Go on with a failed or timed-out run from the step that failed; finished steps are kept.

    For example:

        aob run retry order-7

    Args:
        run: the run's id
    """
    return await _do(session, run, lambda r: r.retry(), "goes on from the failed step")


async def fork(
    run: str,
    /,
    *,
    at: str | None = None,
    override: tuple[str, ...] = (),
    input: Given | None = None,
    id: Given | None = None,
    session: Here,
) -> int:
    """Start a new run that shares a run's history up to a step, and print its id.

    For example:

        aob run fork order-7 --at draft_reply#2

        aob run fork order-7 --override 'classify#1="refund"' --id order-7-as-refund

    Args:
        run: the id of the run that is forked
        at: the step (`name#k`) that is done again
        override: step=JSON, a result given instead of doing that step; may be given several times
        input: another input, as JSON or a file; then nothing is shared, and only overrides stand for steps
        id: the new run's id; made up without it
    """
    overrides = {step: json_value(text, f"--override {step}") for step, text in pairs(override, "--override").items()}
    if at is None and not overrides and input is None:
        raise Misuse("say where: --at STEP, --override STEP=JSON or --input JSON")
    other = None if input is None else json_or_file(input, "--input")
    async with session.existing() as client:
        new = await (await client.get(run)).fork(at=at, overrides=overrides, input=other, run_id=id)
        if session.json:
            print_json({"run_id": new.run_id, "forked_from": run, "status": await new.status()})
        else:
            say(new.run_id)
    return 0
