"""Who may still need a run that has ended."""

from __future__ import annotations

from aob.errors import NotExported, StillNeeded
from aob.stores.rows import RunRow


def may_go_on(run: RunRow) -> bool:
    """Whether a run is open, or a retry may open it again: its own, or that of the run that started it."""
    return run.status not in ("completed", "terminated") and (run.status != "cancelled" or run.parent is not None)


def still_needed(run_id: str | None, parent: str | None) -> StillNeeded:
    """The error for a run that somebody needs.

    Args:
        parent: the run that started it, if that is who needs it; None: an exporter.
    """
    if parent is None:
        return NotExported(
            f"run {run_id!r} cannot be deleted yet: an exporter has not come past its events. Try again later, or drop "
            "the exporter if no worker serves it any more: aob exporter list",
            run_id=run_id,
        )
    return StillNeeded(
        f"run {run_id!r} cannot be deleted yet: run {parent!r}, which started it, may ask for its result again; delete "
        "that one first",
        run_id=run_id,
    )
