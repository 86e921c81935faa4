"""What a worker says when leases come and go: of a store that it owns whole, and of a part of one."""

import json

import pytest

from aob.cli.session import Session
from aob.cli.telling import Teller

FILE, FLEET = "sqlite:///shop.db", "postgresql://db.example/shop"


@pytest.mark.parametrize(
    ("store", "name", "fields", "line"),
    [
        (FILE, "lease_taken", {"partitions": 1, "held": 1, "epoch": 3}, "owns the store (epoch 3)"),
        (FILE, "lease_lost", {"partitions": 1, "epoch": 3}, "lost the store to another worker; standing by"),
        (FLEET, "lease_taken", {"partitions": 2, "held": 64, "epoch": 3}, "owns 64 partitions (epoch 3)"),
        (FLEET, "lease_taken", {"partitions": 1, "held": 1, "epoch": 3}, "owns 1 partition (epoch 3)"),
        (FLEET, "lease_released", {"partitions": 1, "held": 11}, "handed 1 partition over, owns 11"),
        (FLEET, "lease_lost", {"partitions": 64, "epoch": 3}, "lost its 64 partitions: other workers may own them by "
         "now; this one takes what it can"),
        (FLEET, "standing_by", {}, "stands by: other workers own all partitions; this one takes its share as soon as "
         "it can"),
    ],
)  # fmt: skip
def test_leases(store: str, name: str, fields: dict[str, int], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    Teller(Session(store=store)).heard(name, fields)
    assert capsys.readouterr().out == f"{line}\n"
    Teller(Session(store=store, json=True)).heard(name, fields)
    assert json.loads(capsys.readouterr().out) == {"event": name, **fields}
