"""Which builds of the code there are."""

from __future__ import annotations

from aob.stores.rows import BuildRow
from aob.stores.sqlite.reads import Reads

_RETIRED = "select name from retired_build"
_RUNS = "select build, count(*) from run where build is not null and ended is null group by build"
_SERVED = "select build from partition where build <> ''"


def retired_builds(reads: Reads) -> set[str]:
    """See `Store.retired`."""
    return {name for (name,) in reads.rows(_RETIRED)}


def builds_of(reads: Reads, served: bool) -> list[BuildRow]:
    """Builds by name.

    Args:
        served: the owner of the store lives.
    """
    retired = retired_builds(reads)
    runs = dict(reads.rows(_RUNS))
    lives = {name for (name,) in reads.rows(_SERVED)} if served else set[str]()
    return [
        BuildRow(name=name, workers=int(name in lives), runs=runs.get(name, 0), retired=name in retired)
        for name in sorted({*retired, *runs, *lives})
    ]
