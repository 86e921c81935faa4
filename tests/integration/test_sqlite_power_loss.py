"""I1, I4: after a power cut at any write everything acknowledged is there, whole, and nothing is there in part."""

import random
from pathlib import Path

import pytest

from aob.errors import StoreCorrupt
from aob.stores.sqlite import opening
from tests.integration.faulty_disk import FaultyDisk
from tests.integration.telling import Owner, opened, told

COMMITS = 12


async def told_or_broken(path: Path) -> int:
    try:
        return await told(path)
    except StoreCorrupt:
        return -1


async def lost_after_power_cuts(tmp_path: Path, cuts_per_write: int) -> int:
    """Tell a story; cut the power before every write and sync of it; how many cuts lost something acknowledged."""
    disk, rng = FaultyDisk(), random.Random(1)
    disk.remembers = True
    acked = 0
    cuts: list[tuple[Path, int]] = []

    def cut(path: str, data: bytes = b"") -> None:
        for _ in range(cuts_per_write):
            directory = tmp_path / f"cut{len(cuts)}"
            directory.mkdir()
            disk.unplug(directory, rng)
            cuts.append((directory, acked))

    store = await opened(tmp_path / "aob.db", vfs=disk.name, checkpoint_pages=20)
    owner = await Owner.of(store)
    disk.on_write, disk.on_sync = cut, cut
    for _ in range(COMMITS):
        acked = await owner.tell(size=2000)
    cut("")
    await store.close()
    assert len(cuts) > 5 * COMMITS
    found = [(await told_or_broken(directory / "aob.db"), acked) for directory, acked in cuts]
    assert all(have <= acked + 1 for have, acked in found)
    return sum(have < acked for have, acked in found)


async def test_nothing_acknowledged_is_lost_and_nothing_is_there_in_part(tmp_path: Path) -> None:
    assert await lost_after_power_cuts(tmp_path, 3) == 0


@pytest.mark.parametrize("weaker", ["off", "normal"])
async def test_a_store_that_acknowledges_before_the_sync_is_seen(
    weaker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "PRAGMAS", (*opening.PRAGMAS, f"synchronous = {weaker}"))
    assert await lost_after_power_cuts(tmp_path, 1) > 0
