"""`aob replay`: recorded runs again, without side effects; and the deploy gate."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from aob.cli.events import detail
from aob.cli.gate import gate, tell_difference
from aob.cli.history import print_events
from aob.cli.loading import AnyWorkflow
from aob.cli.output import count, note, print_json, say
from aob.cli.rehearsals import programs_of
from aob.cli.serving import served, unless_it_fails
from aob.cli.session import Here, Misuse, Session
from aob.cli.start import print_result
from aob.client.client import Client
from aob.client.run import Run
from aob.engine.rehearse import rehearse
from aob.errors import StepNotFound
from aob.process import cores


async def replay(
    run: str | None = None,
    /,
    *,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    mode: Literal["freeze", "fork"] = "freeze",
    code: tuple[str, ...] = (),
    all_open: bool = False,
    jobs: int | None = None,
    time_limit: float = 60.0,
    pinned: bool = False,
    session: Here,
) -> int:
    """Replay a recorded run, or check that code fits all open ones.

    `freeze` goes through the recorded history and does nothing else: no activity runs, nothing is written. With --code
    it runs that workflow code against the history, and fails with the difference when it does not fit. `fork` starts
    a new run that does again what follows --from; with --code this process serves it until its end.

    --all-open is the gate before a deploy: every open run is replayed with the code, in as many processes as there are
    cores; runs that would break in the same way are shown together, and the exit code is 1 when there is one.

    For example:

        aob replay order-7 --code shop.orders

        aob replay order-7 --from charge_card#1 --mode fork

        aob replay --all-open --code shop.orders --code shop.refunds

    Args:
        run: the run's id
        from_: a step (`name#k`): where to show the history from, or to fork
        mode: freeze or fork
        code: a module, a file, or module:function; may be given several times
        all_open: replay every open run of every tenant
        jobs: in so many processes; without it one for each core
        time_limit: seconds that the replay of one run may take
        pinned: with --all-open, replay runs that are pinned to a build, too
    """
    if all_open == (run is not None):
        raise Misuse("give a run, or --all-open")
    if all_open:
        if not code or mode == "fork" or from_ is not None:
            raise Misuse("--all-open goes with --code MODULE, and not with --mode fork or --from")
        return await gate(session, code, jobs or cores(), time_limit, pinned)
    if jobs is not None or pinned:
        raise Misuse("--jobs and --pinned go with --all-open")
    assert run is not None
    programs = programs_of(code)
    async with session.existing() as client:
        handle = await client.get(run)
        if mode == "fork":
            return await _fork(client, session, handle, from_, programs)
        return await _freeze(client, session, handle, from_, programs)


# --- one run --------------------------------------------------------------------------------------------


async def _freeze(
    client: Client, session: Session, run: Run[Any], step: str | None, programs: dict[str, AnyWorkflow]
) -> int:
    row = await client.store.get_run(run.tenant, run.run_id)
    assert row is not None
    if not programs:
        await _show(session, run, step)
        return 0
    if row.workflow not in programs:
        raise Misuse(f"--code defines no workflow {row.workflow!r}; it has {', '.join(programs)}")
    verdict = await rehearse(client.history, programs[row.workflow], row)
    if session.json:
        print_json(verdict)
        return 0 if verdict.fits else 1
    if step is not None:
        await _show(session, run, step)
    if verdict.fits:
        say(f"{count(verdict.events, 'event')} replayed: the code fits")
        return 0
    tell_difference(verdict.message, verdict.diff)
    return 1


async def _show(session: Session, run: Run[Any], step: str | None) -> None:
    events = await run.history()
    if step is not None:
        first = next((i for i, e in enumerate(events) if e.step == step), None)
        if first is None:
            gone = "".join(f"; {detail(e)}" for e in events if e.kind == "gap")
            raise StepNotFound(f"run {run.run_id!r} has no step {step!r}{gone}", run_id=run.run_id, step=step)
        events = events[first:]
    if session.json:
        print_json(events)
    else:
        print_events(events)
        note("as recorded; with --code MODULE the code is run against it")


async def _fork(
    client: Client, session: Session, run: Run[Any], step: str | None, programs: dict[str, AnyWorkflow]
) -> int:
    if step is None:
        raise Misuse("--mode fork goes with --from STEP")
    workflow = (await run.summary()).workflow
    if programs and workflow not in programs:
        raise Misuse(f"--code defines no workflow {workflow!r}; it has {', '.join(programs)}")
    if not programs:
        new = await run.fork(at=step)
        if session.json:
            print_json({"run_id": new.run_id, "forked_from": run.run_id, "status": await new.status()})
        else:
            say(new.run_id)
        return 0
    async with served(client, programs[workflow]) as worker:
        new = await run.fork(at=step)
        note(f"run {new.run_id}")
        return await unless_it_fails(worker, print_result(session, new))
