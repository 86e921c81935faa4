"""I4, I22: whatever happened to the files, a history is served as it was written or not at all."""

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from aob.errors import StoreCorrupt, StoreUnavailable
from aob.stores.sqlite import opening
from tests.integration.telling import Owner, histories, opened

COMMITS = 60


async def a_store(directory: Path, *, checkpoint: bool, commits: int = COMMITS) -> Path:
    """The files of a store whose owner was killed; in the database itself, or all in its log."""
    living = directory / "living"
    living.mkdir()
    store = await opened(living / "aob.db", checkpoint_pages=1 if checkpoint else 1_000_000)
    owner = await Owner.of(store)
    for _ in range(commits):
        await owner.tell(size=500)
    copied = directory / "killed"
    copied.mkdir()
    for name in ("aob.db", "aob.db-wal"):
        shutil.copy(living / name, copied)
    await store.close()
    return copied


async def served(path: Path) -> int | str:
    """How many commits a store serves, or that it refuses."""
    try:
        store = await opened(path)
    except StoreCorrupt as e:
        assert str(path) in str(e)
        return "refused"
    try:
        found = await histories(store)
        return len(found[0]) if found else 0
    except StoreCorrupt as e:
        assert str(path) in str(e)
        return "refused"
    finally:
        await store.close()


def flipped(path: Path, offset: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)


async def test_the_files_of_a_killed_owner_are_good(tmp_path: Path) -> None:
    for checkpoint in (True, False):
        directory = tmp_path / str(checkpoint)
        directory.mkdir()
        assert await served(await a_store(directory, checkpoint=checkpoint) / "aob.db") == COMMITS


async def test_a_flipped_bit_in_the_database_is_never_served(tmp_path: Path) -> None:
    killed, rng = await a_store(tmp_path, checkpoint=True), random.Random(1)
    original = (killed / "aob.db").read_bytes()
    outcomes: list[int | str] = []
    for _ in range(150):
        (killed / "aob.db").write_bytes(original)
        flipped(killed / "aob.db", rng.randrange(len(original)), rng.randrange(8))
        outcomes.append(await served(killed / "aob.db"))
    assert set(outcomes) <= {COMMITS, "refused"}
    assert outcomes.count("refused") > 20


async def test_a_flipped_bit_in_an_event_is_seen_by_the_chain_alone(tmp_path: Path) -> None:
    killed = await a_store(tmp_path, checkpoint=True)
    content = (killed / "aob.db").read_bytes()
    assert content.count(b"30     ") == 3
    flipped(killed / "aob.db", content.index(b"30     ") + 100, 0)
    store = await opened(killed / "aob.db", check="always")
    with pytest.raises(StoreCorrupt, match=r"event 30 .* run with key"):
        await histories(store)
    await store.close()


async def test_a_flipped_bit_in_the_log_loses_at_most_the_commit_that_may_never_have_been(tmp_path: Path) -> None:
    killed, rng = await a_store(tmp_path, checkpoint=False), random.Random(2)
    log = (killed / "aob.db-wal").read_bytes()
    outcomes: list[int | str] = []
    for n in range(100):
        work = tmp_path / f"work{n}"
        shutil.copytree(killed, work)
        flipped(work / "aob.db-wal", rng.randrange(len(log)) if n else 20, rng.randrange(8))
        outcomes.append(await served(work / "aob.db"))
        if outcomes[-1] == "refused":
            assert len((work / "aob.db-wal").read_bytes()) == len(log), "what could still be saved was deleted"
    assert set(outcomes) <= {COMMITS, COMMITS - 1, "refused"}
    assert outcomes.count("refused") > 50


async def test_a_damaged_log_that_is_not_looked_at_loses_commits_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening.wal, "damage", lambda connection, path: None)
    killed = await a_store(tmp_path, checkpoint=False)
    flipped(killed / "aob.db-wal", len((killed / "aob.db-wal").read_bytes()) // 2, 0)
    lost = await served(killed / "aob.db")
    assert isinstance(lost, int)
    assert lost < COMMITS - 1


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.9])
async def test_a_truncated_database_is_refused(kept: float, tmp_path: Path) -> None:
    killed = await a_store(tmp_path, checkpoint=True)
    (killed / "aob.db-wal").unlink()
    content = (killed / "aob.db").read_bytes()
    (killed / "aob.db").write_bytes(content[: int(len(content) * kept)])
    # an empty file is a new store: nobody can know better
    assert await served(killed / "aob.db") == ("refused" if kept else 0)


async def test_a_zeroed_page_is_never_served(tmp_path: Path) -> None:
    killed = await a_store(tmp_path, checkpoint=True)
    (killed / "aob.db-wal").unlink()
    original = (killed / "aob.db").read_bytes()
    outcomes: list[int | str] = []
    for page in range(len(original) // 16384):
        content = bytearray(original)
        content[page * 16384 : (page + 1) * 16384] = bytes(16384)
        (killed / "aob.db").write_bytes(content)
        outcomes.append(await served(killed / "aob.db"))
    assert set(outcomes) <= {COMMITS, "refused"}
    assert outcomes.count("refused") > 3


async def test_an_old_log_beside_a_newer_database_is_never_served_as_truth(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old = await a_store(tmp_path / "old", checkpoint=False, commits=7)
    new = await a_store(tmp_path / "new", checkpoint=True)
    shutil.copy(old / "aob.db-wal", new / "aob.db-wal")
    assert await served(new / "aob.db") in ("refused", 7)


async def test_a_database_without_its_log_serves_what_it_holds(tmp_path: Path) -> None:
    killed = await a_store(tmp_path, checkpoint=True)
    (killed / "aob.db-wal").unlink()
    assert await served(killed / "aob.db") in (COMMITS, "refused")


async def test_some_other_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_bytes(b"not a database, and longer than the header of one. " * 100)
    with pytest.raises(StoreCorrupt, match="not a database"):
        await opened(text)
    assert text.read_bytes() == b"not a database, and longer than the header of one. " * 100


async def test_some_other_programs_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("create table mine (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="some other program's database"):
        await opened(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["other.db"]
