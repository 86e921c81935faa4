"""What a file must be before it is used."""

from pathlib import Path

import apsw
import pytest

from aob.clock import SystemClock
from aob.errors import BadUrl, StoreCorrupt, StoreTooNew, StoreUnavailable
from aob.process import SystemProcess
from aob.settings import Settings
from aob.stores.memory import open_store as open_in_memory
from aob.stores.rows import Append
from aob.stores.sqlite import SqliteOptions, SqliteStore, open_store, opening
from aob.stores.sqlite.driver import refuse_old_sqlite
from aob.stores.sqlite.migrate import migrate, migrations, schema_version
from aob.testing.conformance.stores.setting import TTL, Story, a_run, ended, taken, told


async def opened(path: Path, **options: object) -> SqliteStore:
    chosen = SqliteOptions(**options)  # pyright: ignore[reportArgumentType]
    return await open_store(f"sqlite:///{path}", clock=SystemClock(), process=SystemProcess(), options=chosen)


@pytest.mark.parametrize("version", ["3.7.0", "3.40.1", "3.51.2", "3.51"])
def test_an_sqlite_that_loses_data_is_refused(version: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"aob needs 3\.51\.3 or later: install the apsw wheel"):
        refuse_old_sqlite(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.52.0", "3.54.1", "4.0.0", apsw.sqlite_lib_version()])
def test_an_sqlite_without_that_bug_is_taken(version: str) -> None:
    refuse_old_sqlite(version)


def test_a_url_names_a_file_here_or_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert opening.path_of("sqlite:///some.db") == str(tmp_path / "some.db")
    assert opening.path_of("sqlite:///below/some.db") == str(tmp_path / "below" / "some.db")
    assert opening.path_of("sqlite:////var/lib/some.db") == "/var/lib/some.db"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:some.db", "postgresql://x/y", "sqlite:///:memory:"])
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(BadUrl, match="sqlite:///relative"):
        opening.path_of(url)


async def test_the_memory_store_is_no_file() -> None:
    with pytest.raises(BadUrl, match="write sqlite://"):
        await open_in_memory("sqlite:///x.db", clock=SystemClock(), process=SystemProcess())


def test_options_follow_the_settings() -> None:
    options = SqliteOptions.of(Settings(slow_commit_ms=7.0, check_over_mb=3))
    assert (options.slow_commit, options.check_up_to) == (0.007, 3 * 1024 * 1024)


async def test_a_new_file_is_made_as_it_should_be(tmp_path: Path) -> None:
    store = await opened(tmp_path / "aob.db")
    connection = apsw.Connection(str(tmp_path / "aob.db"))
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("page_size") == 16384
    assert schema_version(connection) == max(migrations())  # pyright: ignore[reportArgumentType]
    connection.close()
    await store.close()


async def test_a_store_of_a_newer_aob_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    await (await opened(tmp_path / "aob.db")).close()
    connection = apsw.Connection(str(tmp_path / "aob.db"))
    connection.pragma("user_version", 99)
    connection.close()
    before = (tmp_path / "aob.db").read_bytes()
    with pytest.raises(StoreTooNew, match=r"schema 99, this one knows \d+\); upgrade aob"):
        await opened(tmp_path / "aob.db")
    assert (tmp_path / "aob.db").read_bytes() == before


def test_migrations_are_applied_in_order_and_once() -> None:
    connection = apsw.Connection(":memory:")
    steps = {1: "create table a (x)", 2: "insert into a values (2)", 3: "insert into a select x + 1 from a"}
    assert migrate(connection, {1: steps[1]}) == 1  # pyright: ignore[reportArgumentType]
    assert migrate(connection, steps) == 2  # pyright: ignore[reportArgumentType]
    assert migrate(connection, steps) == 0  # pyright: ignore[reportArgumentType]
    assert connection.execute("select x from a").fetchall() == [(2,), (3,)]


def test_a_migration_that_fails_leaves_everything_as_it_was() -> None:
    connection = apsw.Connection(":memory:")
    migrate(connection, {1: "create table a (x)"})  # pyright: ignore[reportArgumentType]
    with pytest.raises(apsw.SQLError):
        migrate(connection, {1: "", 2: "create table b (x); nonsense"})  # pyright: ignore[reportArgumentType]
    assert connection.execute("select name from sqlite_schema").fetchall() == [("a",)]
    assert connection.pragma("user_version") == 1
    assert not connection.in_transaction


def test_the_numbers_of_migrations_have_no_gap() -> None:
    assert list(migrations()) == list(range(1, len(migrations()) + 1))


async def a_damaged_file(tmp_path: Path, *, release: bool) -> Path:
    """A page that only a full check finds."""
    path = tmp_path / "aob.db"
    store = await opened(path)
    lease, run = await taken(store), a_run()
    events = Story(run).tell(*(b"%d" % n + b" " * 900 for n in range(100)))
    await store.append(Append(epochs={0: lease.epoch}, starts=[run], events=events))
    if release:
        await store.release([lease])
    await store.close()
    content = bytearray(path.read_bytes())
    page = content.index(b"50    ") // 16384 * 16384
    content[page : page + 8] = b"\xff" * 8
    path.write_bytes(content)
    return path


async def test_a_small_file_is_always_checked(tmp_path: Path) -> None:
    with pytest.raises(StoreCorrupt, match=r"aob\.db is damaged"):
        await opened(await a_damaged_file(tmp_path, release=True))


async def test_a_large_file_is_checked_when_its_owner_did_not_stop_cleanly(tmp_path: Path) -> None:
    with pytest.raises(StoreCorrupt, match=r"aob\.db is damaged"):
        await opened(await a_damaged_file(tmp_path, release=False), check_up_to=0)


async def test_a_large_file_whose_owner_lives_is_not_checked_by_every_process(tmp_path: Path) -> None:
    path = await a_damaged_file(tmp_path, release=False)
    owner = await opened(path, check="never")
    await taken(owner)
    await (await opened(path, check_up_to=0)).close()
    await owner.close()


async def test_a_large_file_is_not_checked_after_a_clean_stop_unless_asked_for(tmp_path: Path) -> None:
    path = await a_damaged_file(tmp_path, release=True)
    await (await opened(path, check_up_to=0)).close()
    await (await opened(path, check="never")).close()
    with pytest.raises(StoreCorrupt):
        await opened(path, check_up_to=0, check="always")


async def test_a_changed_definition_is_seen(tmp_path: Path) -> None:
    await (await opened(tmp_path / "aob.db")).close()
    connection = apsw.Connection(str(tmp_path / "aob.db"))
    connection.execute("drop index event_seq")
    connection.close()
    with pytest.raises(StoreCorrupt, match="the definition of event_seq is not what was written"):
        await opened(tmp_path / "aob.db")


async def test_indexes_that_somebody_added_do_no_harm(tmp_path: Path) -> None:
    await (await opened(tmp_path / "aob.db")).close()
    connection = apsw.Connection(str(tmp_path / "aob.db"))
    connection.execute("create index mine on run (workflow)")
    connection.close()
    await (await opened(tmp_path / "aob.db")).close()


async def test_a_check_reads_everything_and_names_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "aob.db"
    store = await opened(path)
    lease, good, bad = await taken(store), a_run("good"), a_run("bad")
    (wrong,) = Story(bad).tell(b"1")
    events = [*Story(good).tell(b"1", b"2"), (*wrong[:4], wrong[4] ^ 1, wrong[5])]
    digest = "sha256:" + "0" * 64
    batch = Append(
        epochs={0: lease.epoch},
        starts=[good, bad],
        events=events,
        blobs=[(good, digest, b"1"), (good, "x", b"")],
    )
    await store.append(batch)
    found = await store.check()
    assert len(found) == 2
    assert f"event 1 is not what was written in the run with key {bad.key}" in found[0]
    assert found[1] == f"the payload {digest} is not what was written"
    assert len(await store.check(at_most=1)) == 1
    with pytest.raises(StoreCorrupt, match=digest):
        await store.blob(digest)
    await store.close()


async def test_a_good_store_has_no_problems(tmp_path: Path) -> None:
    store = await opened(tmp_path / "aob.db")
    lease, run = await taken(store, ttl=TTL), a_run()
    await store.append(Append(epochs={0: lease.epoch}, starts=[run]))
    await told(store, lease, *Story(run).tell(*(b"%d" % n for n in range(2500))))
    await ended(store, lease, run)
    assert await store.check() == []
    await store.close()
