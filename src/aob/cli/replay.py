"""`aob replay`: recorded runs again, without side effects; and the deploy gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from aob.cli.events import detail
from aob.cli.history import print_events
from aob.cli.loading import AnyWorkflow, workflows_of
from aob.cli.output import count, note, print_json, say, stdout
from aob.cli.progress import progress
from aob.cli.serving import served, unless_it_fails
from aob.cli.session import CommandFailed, Here, Misuse, Session
from aob.cli.start import print_result
from aob.client.client import Client
from aob.client.run import Run
from aob.engine.rehearse import Verdict, rehearse
from aob.errors import StepNotFound
from aob.kernel.states import OPEN_STATES
from aob.stores.rows import RunFilter, RunRow
from aob.worker.worker import collect

_PAGE = 500
_DIFFS = 5


async def replay(
    run: str | None = None,
    /,
    *,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    mode: Literal["freeze", "fork"] = "freeze",
    code: tuple[str, ...] = (),
    all_open: bool = False,
    session: Here,
) -> int:
    """Replay a recorded run, or check that code fits all open ones.

    `freeze` goes through the recorded history and does nothing else: no activity runs, nothing is written. With --code
    it runs that workflow code against the history, and fails with the difference when it does not fit. `fork` starts
    a new run that does again what follows --from; with --code this process serves it until its end.

    --all-open is the gate before a deploy: every open run is replayed with the code, and the exit code is 1 when one
    would not go on.

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
    """
    if all_open == (run is not None):
        raise Misuse("give a run, or --all-open")
    if all_open:
        if not code or mode == "fork" or from_ is not None:
            raise Misuse("--all-open goes with --code MODULE, and not with --mode fork or --from")
        return await _all_open(session, _programs(code))
    assert run is not None
    programs = _programs(code)
    async with session.existing() as client:
        handle = await client.get(run)
        if mode == "fork":
            return await _fork(client, session, handle, from_, programs)
        return await _freeze(client, session, handle, from_, programs)


def _programs(code: tuple[str, ...]) -> dict[str, AnyWorkflow]:
    return collect(tuple(dict.fromkeys(w for reference in code for w in workflows_of(reference))), ()) if code else {}


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
    _tell(verdict)
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


# --- the deploy gate ------------------------------------------------------------------------------------


async def _all_open(session: Session, programs: dict[str, AnyWorkflow]) -> int:
    if not session.exists:
        note(f"there is no store at {session.file} yet")
    broken: list[Verdict] = []
    missing: Counter[str] = Counter()
    checked = 0
    if session.exists:
        async with session.connect() as client:
            with progress() as bar:
                task = bar.add_task("replayed", total=None)
                async for row in open_rows(client):
                    bar.advance(task)
                    if row.workflow not in programs:
                        missing[row.workflow] += 1
                        continue
                    checked += 1
                    verdict = await rehearse(client.history, programs[row.workflow], row)
                    if not verdict.fits:
                        broken.append(verdict)
    good = not broken and not missing
    if session.json:
        print_json({"checked": checked, "fit": checked - len(broken), "broken": broken, "no_code_for": missing})
        return 0 if good else 1
    for verdict in broken[:_DIFFS]:
        _tell(verdict)
    for verdict in broken[_DIFFS:]:
        say(f"{verdict.run_id} ({verdict.workflow}): {verdict.code} at {verdict.step or 'its end'}")
    for name, number in missing.items():
        say(f"{name}: {count(number, 'open run')}, but the code does not define it")
    if not good:
        raise CommandFailed(
            f"of {count(checked, 'open run')} {len(broken):,} would not go on with this code"
            + (f", and {missing.total():,} have no code" if missing else "")
        )
    say(f"{count(checked, 'open run')}: the code fits")
    return 0


async def open_rows(client: Client) -> AsyncGenerator[RunRow]:
    """Every open run of the store, of all tenants."""
    before: int | None = None
    while rows := await client.store.list_runs(RunFilter(status=OPEN_STATES, before=before, limit=_PAGE)):
        for row in rows:
            yield row
        before = rows[-1].key


def _tell(verdict: Verdict) -> None:
    console = stdout()
    console.print(f"{verdict.run_id} ({verdict.workflow}): {verdict.message}", soft_wrap=True)
    for line in verdict.diff.splitlines():
        console.print(f"    {line}", soft_wrap=True, style="bold red" if line.startswith(">") else "")
