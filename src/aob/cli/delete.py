"""`aob run delete`."""

from __future__ import annotations

from typing import Any

from aob.cli.output import count, print_json, say, warn
from aob.cli.runs import all_runs
from aob.cli.session import Here, Misuse, confirmed
from aob.cli.values import pairs
from aob.errors import AobError
from aob.kernel.states import TERMINAL_STATES

_FILTERS = ("status", "workflow", "attribute.KEY")


async def delete(
    *run: str, filter: tuple[str, ...] = (), dry_run: bool = False, yes: bool = False, session: Here
) -> int:
    """Delete runs that have ended, with all that is known of them; their ids are free afterwards.

    For example:

        aob run delete order-7 order-8

        aob run delete --filter status=cancelled --filter workflow=ship --dry-run

    Args:
        run: ids of runs
        filter: status=S, workflow=W or attribute.KEY=VALUE; all ended runs that fit all of them
        dry_run: only say how many it would be
        yes: do not ask
    """
    if bool(run) == bool(filter):
        raise Misuse("give ids of runs, or --filter")
    where = _where(filter)
    async with session.existing() as client:
        found = [await client.get(r) for r in run] or await all_runs(client, **where)
        if dry_run:
            if session.json:
                print_json({"would_delete": len(found)})
            else:
                say(f"it would be {count(len(found), 'run')}")
            return 0
        if filter and not yes and not confirmed(f"delete {count(len(found), 'run')}"):
            return 1
        failed: list[AobError] = []
        for handle in found if run else reversed(found):  # what was started by another one goes after it
            try:
                await client.delete(handle.run_id)
            except AobError as e:
                failed.append(e)
    if session.json:
        print_json({"deleted": len(found) - len(failed), "failed": [str(e) for e in failed]})
    else:
        say(f"{count(len(found) - len(failed), 'run')} deleted")
    for error in failed[:20]:
        warn(f"error: {error} [{error.code}]")
    return 1 if failed else 0


def _where(filters: tuple[str, ...]) -> dict[str, Any]:
    given = pairs(filters, "--filter")
    attributes = {k.removeprefix("attribute."): given.pop(k) for k in list(given) if k.startswith("attribute.")}
    unknown = sorted(set(given) - {"status", "workflow"})
    if unknown:
        raise Misuse(f"--filter: there is no {unknown[0]!r}; it is one of {', '.join(_FILTERS)}")
    status = given.get("status")
    if status is not None and status not in TERMINAL_STATES:
        raise Misuse(f"--filter: only runs that have ended can be deleted: {', '.join(sorted(TERMINAL_STATES))}")
    statuses = (status,) if status is not None else tuple(sorted(TERMINAL_STATES))
    return {"status": statuses, "workflow": given.get("workflow"), "attributes": attributes}
