"""Does today's code still replay yesterday's history, from every form in which it may be given."""

from pathlib import Path

import msgspec
import pytest

import aob
import aob.testing
from aob.errors import UnknownEvent


@aob.activity
async def double(x: int) -> int:
    return x * 2


@aob.workflow
async def doubles(times: int) -> int:
    x = 1
    for _ in range(times):
        x = await double(x)
    await aob.sleep(60)
    return x


@aob.workflow
async def counts(until: int) -> int:
    done = aob.checkpoint_state(int) or 0
    await aob.sleep(1)
    if done < until:
        aob.checkpoint(done + 1)
    return done


def doubles_of_today() -> aob.Workflow[[int], int]:
    @aob.workflow(name="doubles")
    async def today(times: int) -> int:
        x = 1
        for _ in range(times):
            x = await double(x + 1)
        return x

    return today


def doubles_that_forgot() -> aob.Workflow[[int], int]:
    @aob.workflow(name="doubles")
    async def today(times: int) -> int:
        await aob.sleep(60)
        return times

    return today


def doubles_that_returns_something_else() -> aob.Workflow[[int], int]:
    @aob.workflow(name="doubles")
    async def today(times: int) -> int:
        return await doubles.fn(times) + 1

    return today


async def history_of(workflow: aob.Workflow[[int], int], n: int, path: Path) -> list[aob.Event]:
    async with aob.testing.environment() as env:
        run = await env.start(workflow, n)
        await run.result()
        await aob.testing.save(run, path)
        return await run.history()


async def test_the_code_that_made_it_fits_whatever_the_form(tmp_path: Path) -> None:
    history = await history_of(doubles, 3, tmp_path / "saved.jsonl")
    (tmp_path / "array.json").write_bytes(msgspec.json.encode(history))
    (tmp_path / "lines.jsonl").write_bytes(b"\n".join(msgspec.json.encode(e) for e in history))
    for form in (history, *(tmp_path / name for name in ("saved.jsonl", "array.json", "lines.jsonl"))):
        aob.testing.replay(doubles, form)


async def test_every_prefix_fits(tmp_path: Path) -> None:
    history = await history_of(doubles, 3, tmp_path / "saved.jsonl")
    assert len(history) == 6
    for length in range(1, len(history) + 1):
        aob.testing.replay(doubles, history[:length])


async def test_checkpoints_are_begun_at(tmp_path: Path) -> None:
    history = await history_of(counts, 4, tmp_path / "saved.jsonl")
    assert [e.kind for e in history].count("checkpoint") == 4
    aob.testing.replay(counts, history)
    aob.testing.replay(counts, tmp_path / "saved.jsonl")


@pytest.mark.parametrize("saved", [True, False])
async def test_changed_code_is_shown_with_the_first_difference(saved: bool, tmp_path: Path) -> None:
    path = tmp_path / "saved.jsonl"
    events = await history_of(doubles, 2, path)
    history = path if saved else events
    with pytest.raises(aob.NonDeterministic) as other_input:
        aob.testing.replay(doubles_of_today(), history)
    assert "> event 2: step_completed double#1" in other_input.value.diff
    assert other_input.value.diff in str(other_input.value)
    assert "test_replays.py:" in other_input.value.diff
    with pytest.raises(aob.NonDeterministic, match="does not ask for"):
        aob.testing.replay(doubles_that_forgot(), history)
    with pytest.raises(aob.NonDeterministic, match="another result"):
        aob.testing.replay(doubles_that_returns_something_else(), history)


async def test_what_is_no_history_is_refused(tmp_path: Path) -> None:
    history = await history_of(doubles, 1, tmp_path / "saved.jsonl")
    with pytest.raises(aob.testing.BadHistory, match="begins with its run_started"):
        aob.testing.replay(doubles, history[1:])
    with pytest.raises(aob.testing.BadHistory, match="begins with its run_started"):
        aob.testing.replay(doubles, [])
    (tmp_path / "bad.jsonl").write_text("customer,amount\n")
    with pytest.raises(aob.testing.BadHistory, match=r"bad\.jsonl is no exported history"):
        aob.testing.replay(doubles, tmp_path / "bad.jsonl")
    (tmp_path / "number.jsonl").write_text("12\n")
    with pytest.raises(aob.testing.BadHistory, match="no event: 12"):
        aob.testing.replay(doubles, tmp_path / "number.jsonl")
    (tmp_path / "object.jsonl").write_text('{"seq": 1}\n')
    with pytest.raises(aob.testing.BadHistory, match="no event"):
        aob.testing.replay(doubles, tmp_path / "object.jsonl")


async def test_events_of_a_newer_version_are_refused_by_name(tmp_path: Path) -> None:
    history = await history_of(doubles, 1, tmp_path / "saved.jsonl")
    newer = msgspec.structs.replace(history[1], kind="step_teleported")
    with pytest.raises(UnknownEvent, match="step_teleported"):
        aob.testing.replay(doubles, [history[0], newer])
    with pytest.raises(UnknownEvent, match="version 9"):
        aob.testing.replay(doubles, [(1, "run_started", 9, [0])])
