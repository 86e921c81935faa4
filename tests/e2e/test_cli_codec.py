"""A codec on the command line: `--codec module:object`, or `AOB_CODEC`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_shell import Shell

KEYS = """
class Mirror:
    def encode(self, data: bytes) -> bytes:
        return bytes(b ^ 0x55 for b in data)

    decode = encode

codec = Mirror()
nothing = 1
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    (tmp_path / "keys.py").write_text(KEYS)
    yield shell
    shell.end()


def test_with_the_codec_everything_is_read_and_without_it_nothing_is_given_away(shell: Shell) -> None:
    with_codec = {"AOB_CODEC": "keys:codec"}
    error = shell.bad(1, "run", "start", "flow.py:greet", "--inputs", '"bad"', "--id", "a", "--wait", **with_codec)
    assert "ValueError: bad text" in error
    assert "ValueError: bad text" in shell.good("run", "get", "a", "--codec", "keys.py:codec").out
    assert "bad text" in shell.good("run", "list", **with_codec).out
    listed = shell.good("run", "list").out
    assert "sealed" in listed and "bad text" not in listed
    assert "[store_corrupt]" in shell.bad(1, "run", "get", "a")
    assert b"bad text" not in b"".join(p.read_bytes() for p in shell.folder.glob("aob.db*") if p.is_file())


@pytest.mark.parametrize("reference", ["keys:nothing", "keys:absent", "keys.py", "no_such_module:codec"])
def test_what_is_no_codec_is_refused(shell: Shell, reference: str) -> None:
    shell.bad(2, "run", "list", "--codec", reference)
