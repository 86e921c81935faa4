"""Record the golden histories of this version: `python -m tests.golden.record`, once for each release.

It writes a file for each workflow of the corpus into a directory named after the version, and refuses to touch one that
is there: what a released version recorded must replay for ever.
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
    try:
        directory.mkdir()
    except FileExistsError:
        sys.exit(f"{directory} is there: golden histories are never recorded again; raise the version first")
    for name, case in CASES.items():
        lines = asyncio.run(recorded(case, SEED))
        text = "".join(msgspec.json.encode(line).decode() + "\n" for line in lines)
        for place in (str(REPOSITORY), sys.base_prefix, sys.prefix):  # tracebacks tell where this machine keeps things
            text = text.replace(place, "…")
        (directory / f"{name}.jsonl").write_text(text)
        print(f"{name}: {len(lines)} events")
    sums = {str(p.relative_to(GOLDEN)): sha256(p.read_bytes()).hexdigest() for p in sorted(GOLDEN.glob("*/*.jsonl"))}
    (GOLDEN / "sums.json").write_text(json.dumps(sums, indent=1) + "\n")


if __name__ == "__main__":
    main()
