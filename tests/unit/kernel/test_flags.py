"""Behaviour flags: a run acts by the rules under which it was started, and one with unknown rules is parked."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

import aob
import aob.testing
from aob.engine.history import Numbered
from aob.kernel import events as ev, flags
from aob.kernel.machine import Machine
from aob.testing.replays import dumped, load, replayed
from tests.golden.record import GOLDEN
from tests.properties.corpus import CASES, work

UNKNOWN = 1 << 40
TURNS = CASES["takes_turns"].workflow
OLD = load(GOLDEN / "0.1.0" / "takes_turns.jsonl")
"""Recorded before there was a flag."""


def under(bits: int, events: list[Numbered]) -> list[Numbered]:
    """The same history of a run with these flags."""
    return [(msgspec.structs.replace(e, flags=bits) if isinstance(e, ev.RunStarted) else e, s) for e, s in events]


@aob.workflow
async def undoes() -> str:
    if aob.checkpoint_state(bool):
        return "went on"
    await work("paid")
    aob.compensate(work, "refunded")
    try:
        aob.checkpoint(True)
    except aob.CheckpointBusy as e:
        return str(e)


@aob.workflow
async def waits() -> str:
    return await aob.wait_signal("go", str)


async def test_a_new_run_has_todays_flags_and_lets_one_waiter_go_on_at_a_time() -> None:
    async with aob.testing.environment(TURNS) as env:
        run: aob.Run[list[str]] = await env.start(TURNS)
        assert (await run.history())[0].data["flags"] == flags.CURRENT
        assert await run.result() == [
            "a after 2 s, 0 free", "b after 3 s, 0 free", "c after 1 s, 0 free", "d after 1 s, 0 free",
        ]  # fmt: skip


def test_an_old_run_lets_all_waiters_go_on_as_it_did() -> None:
    first_is_done = OLD[:2]
    assert sorted(replayed(TURNS, first_is_done).open) == ["work#2", "work#3", "work#4"]
    assert sorted(replayed(TURNS, under(flags.TURNS, first_is_done)).open) == ["work#2"]
    assert replayed(TURNS, OLD).mismatch is None
    assert replayed(TURNS, under(flags.CURRENT, OLD)).mismatch is not None


def undone(bits: int) -> Machine:
    """Behind the first step of `undoes`."""
    machine = Machine(undoes)
    machine.apply(ev.RunStarted(1, "undoes", Raw(b"null"), "default", "r", "b", 1, bits), 1)
    (step,) = machine.open.values()
    machine.apply(ev.StepCompleted(2, step.id, step.check, Raw(b'"paid"')), 2)
    return machine


def test_a_checkpoint_that_would_lose_compensations_is_refused_to_new_runs_alone() -> None:
    old, new = undone(0), undone(flags.NO_UNDO_AT_CHECKPOINT)
    assert [type(c) for c in old.commands[1:]] == [ev.Checkpoint]
    assert isinstance(new.ended, ev.RunCompleted)
    assert b"1 of the whole run are registered" in bytes(new.ended.result)


def test_a_fork_acts_by_the_rules_of_the_history_that_it_shares() -> None:
    machine = replayed(TURNS, OLD[:2])
    machine.apply(ev.RunReopened(OLD[1][0].at, 2, "fork", ev.Fork("f", "c", 7)), 3)
    assert (machine.started.run_id, machine.flags) == ("f", 0)


def test_every_flag_is_a_bit_of_its_own_and_known() -> None:
    bits = [v for k, v in vars(flags).items() if k.isupper() and k not in ("CURRENT", "KNOWN")]
    assert len(bits) == len(set(bits)) and all(bit.bit_count() == 1 for bit in bits)
    assert sum(bits) == flags.KNOWN
    assert flags.CURRENT & ~flags.KNOWN == 0


@pytest.mark.parametrize("name", ["takes_turns", "rounds"])
def test_a_history_of_a_newer_aob_is_refused(name: str) -> None:
    history = under(UNKNOWN | flags.CURRENT, load(GOLDEN / "0.1.0" / f"{name}.jsonl"))
    machine = replayed(CASES[name].workflow, history)
    assert isinstance(machine.mismatch, aob.NewerRun)
    machine.go_live()
    assert machine.commands == []
    machine.close()
    with pytest.raises(aob.NewerRun, match=r"written by a newer aob.*\(flags 0x10000000000\)"):
        aob.testing.replay(CASES[name].workflow, [msgspec.json.decode(dumped(e, s)) for e, s in history])


async def test_a_run_of_a_newer_aob_is_parked_and_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'aob.db'}"

    def newer(context: pytest.MonkeyPatch) -> None:
        context.setattr(flags, "KNOWN", flags.KNOWN | UNKNOWN)
        context.setattr(flags, "CURRENT", flags.CURRENT | UNKNOWN)

    with monkeypatch.context() as context:
        newer(context)
        async with aob.connect(url) as client, client.serve(waits):
            await client.start(waits, run_id="r")
    async with aob.connect(url) as client, client.serve(waits):
        run: aob.Run[Any] = await client.get("r")
        await run.signal("go", "on")
        with pytest.raises(aob.NewerRun, match="newer aob"):
            await run.query("nothing")
        while (summary := await run.summary()).status != "parked":
            await aob.sleep(0.01)
        assert (summary.reason or "").startswith("newer_run: the run was written by a newer aob")
    with monkeypatch.context() as context:
        newer(context)
        async with aob.connect(url) as client, client.serve(waits):
            assert await (await client.get("r")).result() == "on"
