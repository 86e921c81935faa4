"""`python -m aob.testing.simulation`: simulate for a while, or replay a seed. `make sim` runs it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aob.process import SystemProcess
from aob.testing.simulation.plan import plan
from aob.testing.simulation.runner import keep, kept, quietly, run
from aob.testing.simulation.shrink import shrunk
from aob.testing.simulation.world import Outcome, simulated

_SEEDS = 1 << 31


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m aob.testing.simulation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="begin no more seeds after this many")
    parser.add_argument("--first", type=int, help="the first seed; default: drawn")
    parser.add_argument("--seed", type=int, help="replay this seed, as it was kept if it failed, and shrink it")
    parser.add_argument("--store", choices=("sqlite", "memory", "fleet"), help="only worlds with this store")
    parser.add_argument("--kept", type=Path, default=Path(".sim-failures.jsonl"), help="where failing seeds are kept")
    args = parser.parse_args()
    given = {} if args.store is None else {"store": args.store}
    return _replay(args.seed, args.kept, given) if args.seed is not None else _search(args, given)


def _search(args: argparse.Namespace, given: dict[str, str]) -> int:
    first = SystemProcess().seed() % _SEEDS if args.first is None else args.first

    def tell(outcome: Outcome) -> None:
        if outcome.wrong:
            keep(args.kept, outcome)
            print(f"seed {outcome.plan.seed}: {'; '.join(outcome.wrong[:3])}", flush=True)

    report = run(range(first, first + _SEEDS), tell, args.seconds, **given)
    pace = report.hours / max(report.seconds, 1e-9) * 60
    print(
        f"{report.seeds} seeds from {first}: {report.hours:.1f} simulated hours in {report.seconds:.0f} s "
        f"({pace:.0f} hours a minute), {len(report.failures)} failed"
    )
    for what, count in sorted(report.seen.items()):
        print(f"  {count:8} {what}")
    if report.failures:
        print(f"kept in {args.kept}; replay one with make sim SEED={report.failures[0].plan.seed}")
    return 1 if report.failures else 0


def _replay(seed: int, path: Path, given: dict[str, str]) -> int:
    chosen = next((p for p in kept(path) if p.seed == seed), plan(seed, **given))
    with quietly():
        outcome = simulated(chosen)
        print(f"{chosen}\ntrace {outcome.trace}")
        if not outcome.wrong:
            print("nothing is wrong")
            return 0
        print("\n".join(outcome.wrong))
        word = outcome.wrong[0].partition(":")[0]
        small = shrunk(chosen, lambda p: any(w.startswith(word[:3]) for w in simulated(p).wrong))
    print(f"the least that fails still: {small}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
