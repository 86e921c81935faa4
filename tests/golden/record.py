"""Record the golden histories of this version: `python -m tests.golden.record`, for each release, and before a change
of the kernel for a workflow that it concerns.

It writes a file for each workflow of the corpus into a directory named after the version, and never touches one that is
there: what a version recorded must replay for ever.
"""

import asyncio
import json
import sys
from hashlib import sha256
from pathlib import Path

import msgspec

import aob
from tests.conftest import REPOSITORY
from tests.properties.corpus import CASES
from tests.properties.recording import recorded

GOLDEN = Path(__file__).parent
SEED = 20


def main() -> None:
    directory = GOLDEN / aob.__version__
    directory.mkdir(exist_ok=True)
    missing = [case for name, case in CASES.items() if not (directory / f"{name}.jsonl").exists()]
    if not missing:
        sys.exit(f"{directory} has all: golden histories are never recorded again")
    for case in missing:
        lines = asyncio.run(recorded(case, SEED))
        text = "".join(msgspec.json.encode(line).decode() + "\n" for line in lines)
        for place in (str(REPOSITORY), sys.base_prefix, sys.prefix):  # tracebacks tell where this machine keeps things
            text = text.replace(place, "…")
        (directory / f"{case.name}.jsonl").write_text(text)
        print(f"{case.name}: {len(lines)} events")
    sums = {str(p.relative_to(GOLDEN)): sha256(p.read_bytes()).hexdigest() for p in sorted(GOLDEN.glob("*/*.jsonl"))}
    (GOLDEN / "sums.json").write_text(json.dumps(sums, indent=1) + "\n")


if __name__ == "__main__":
    main()
