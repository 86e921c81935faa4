"""Values given on the command line."""

import pytest

from aob.cli.session import Misuse
from aob.cli.values import json_or_file, json_value


def test_json_that_is_nested_too_deeply_is_said_to_be() -> None:
    deep = "[" * 200_000 + "]" * 200_000
    for read in (json_or_file, json_value):
        with pytest.raises(Misuse, match="nested too deeply"):
            read(deep, "--inputs")
