"""How many seeds it takes to notice each planted bug: `python -m tests.simulation.catching` writes the table.

With names as arguments only those are planted, and nothing is written.
"""

import gc
import re
import sys
from pathlib import Path

from aob.testing.simulation.plan import plan
from aob.testing.simulation.runner import quietly
from aob.testing.simulation.world import simulated
from tests.simulation.mutants import MUTANTS, Mutant, planted

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "reliability.md"
AT_MOST = 1_000
_COLLECT_EVERY = 10
_TABLE = re.compile(r"(?<=<!-- seeds-to-catch -->\n).*?(?=<!-- end -->)", re.DOTALL)


def seeds_to_catch(mutant: Mutant, at_most: int = AT_MOST) -> tuple[int, str] | None:
    """How many seeds it took, and what was wrong then; None: it was not noticed."""
    with planted(mutant), quietly():
        for seed in range(at_most):
            outcome = simulated(plan(seed, **mutant.given))
            if seed % _COLLECT_EVERY == 0:
                gc.collect()
            if outcome.wrong:
                return seed + 1, outcome.wrong[0]
    return None


def table(rows: list[tuple[str, str, int]]) -> str:
    """The table of the page."""
    lines = ["| invariant | planted bug | seeds |", "|---|---|---|"]
    lines += [f"| {invariant} | {name} | {seeds} |" for invariant, name, seeds in rows]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Returns the exit code."""
    wanted = sys.argv[1:]
    rows: list[tuple[str, str, int]] = []
    missed = 0
    for name, mutant in MUTANTS.items():
        if wanted and name not in wanted:
            continue
        caught = seeds_to_catch(mutant)
        if caught is None:
            missed += 1
            print(f"{name}: not noticed in {AT_MOST} seeds", flush=True)
            continue
        rows.append((mutant.invariant, name, caught[0]))
        print(f"{name}: {caught[0]} ({caught[1][:120]})", flush=True)
    if not wanted and not missed:
        PAGE.write_text(_TABLE.sub(lambda _: table(rows), PAGE.read_text()))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
