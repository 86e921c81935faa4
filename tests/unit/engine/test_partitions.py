"""Shares of partitions."""

import pytest

from aob.engine.partitions import fair_share
from aob.stores.rows import WorkerRow


def shares(partitions: int, held: list[int]) -> list[int]:
    workers = [WorkerRow(name=f"w{n}", partitions=count) for n, count in enumerate(held)]
    return [fair_share(partitions, workers, worker.name) for worker in workers]


@pytest.mark.parametrize(
    ("partitions", "held", "expected"),
    [
        (256, [256], [256]),
        (256, [256, 0], [128, 128]),
        (256, [128, 128, 0], [86, 85, 85]),
        (12, [2, 2, 2, 2, 2, 2, 0], [2, 2, 2, 2, 2, 1, 1]),
        (1, [0, 1], [0, 1]),
        (2, [1, 0, 1], [1, 0, 1]),
        (25, [0] * 10, [3] * 5 + [2] * 5),
    ],
)
def test_shares_add_up_and_move_little(partitions: int, held: list[int], expected: list[int]) -> None:
    assert shares(partitions, held) == expected
    assert sum(expected) == partitions


def test_one_that_is_not_counted_yet_is_counted() -> None:
    assert fair_share(10, [WorkerRow(name="a", partitions=10)], "b") == 5
