"""Bugs to plant into the engine, the kernel and the stores while worlds are simulated; each must be noticed.

A bug is an edit of one function's source, made in memory. A plant that no longer applies fails: plant the same bug anew
where the code has gone.
"""

import __future__

import inspect
import textwrap
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any, NamedTuple


class Edit(NamedTuple):
    """What to change in a function: `module:Class.method`, what stands there once, and what is to stand there."""

    target: str
    old: str
    new: str


class Mutant(NamedTuple):
    """A planted bug.

    Args:
        invariant: which it breaks.
        edits: what makes it.
        given: fields of the plan without which it could not show.
    """

    invariant: str
    edits: tuple[Edit, ...]
    given: dict[str, Any] = {}  # noqa: RUF012


E = "aob.engine"
MEMORY: dict[str, Any] = {"store": "memory"}
SQLITE: dict[str, Any] = {"store": "sqlite"}
FLEET: dict[str, Any] = {"store": "fleet"}

MUTANTS: dict[str, Mutant] = {
    "a signal is answered before it is durable": Mutant(
        "I1",
        (
            Edit(
                f"{E}.signals:Signals.signal_run",
                "    await self._host.commits.ack()\n    if event is not None and not event.at:",
                "    if False:",
            ),
        ),
    ),
    "a start is answered before it is durable": Mutant(
        "I1",
        (
            Edit(
                "aob.testing.simulation.stores:SimStore._send",
                "conflicts = await self.inner.send_many(sends)",
                "conflicts = []",
            ),
        ),
    ),
    "a commit drops its last event": Mutant(
        "I1",
        (Edit("aob.stores.memory:MemoryStore._record", "in batch.events:", "in batch.events[:-1] or batch.events:"),),
        MEMORY,
    ),
    "a repeated signal counts again": Mutant(
        "I2",
        (
            Edit(f"{E}.signals:Signals.counts", "    if id in run.seen:\n        return False\n", ""),
            Edit("aob.stores.memory:MemoryStore._refuse_repeats", "for run, id in batch.seen:", "for run, id in ():"),
        ),
        MEMORY,
    ),
    "what was counted is not written down": Mutant(
        "I2", (Edit(f"{E}.signals:Signals.counts", "    self._host.commits.group().seen.append((run, id))\n", ""),)
    ),
    "the epoch is not compared (memory)": Mutant(
        "I3",
        (Edit("aob.stores.memory:MemoryStore._held", "held is None or held.epoch != epoch", "held is None"),),
        MEMORY,
    ),
    "the epoch is not compared (fleet)": Mutant(
        "I3",
        (Edit("aob.stores.memory:MemoryStore._held", "held is None or held.epoch != epoch", "held is None"),),
        FLEET,
    ),
    "the epoch is not compared (SQLite)": Mutant(
        "I3",
        (Edit("aob.stores.sqlite.commits:Commits.guard", "if row is None or row[0] != epoch:", "if row is None:"),),
        SQLITE,
    ),
    "the epoch is remembered for ever": Mutant(
        "I3",
        (Edit("aob.stores.sqlite.commits:Commits.catch_up", "    self._epochs.clear()\n", ""),),
        SQLITE,
    ),
    "a run whose partition was given up is written about": Mutant(
        "I3",
        (Edit(f"{E}.commits:Commits._batch", " and r.row.partition in self.epochs", ""),),
        FLEET | {"features": ("steps", "retries", "timers"), "faults": ("deploys", "latency", "outages")},
    ),
    "a new owner keeps the old epoch": Mutant(
        "I3",
        (Edit("aob.stores.memory:MemoryStore.acquire", "epoch=held.epoch + 1", "epoch=max(held.epoch, 1)"),),
        MEMORY,
    ),
    "a lease ends too early": Mutant(
        "I3",
        (
            Edit("aob.stores.memory:MemoryStore.acquire", "now >= held.expires", "now >= held.expires - 3"),
            Edit("aob.stores.memory:MemoryStore._held", "held is None or held.epoch != epoch", "held is None"),
        ),
        FLEET,
    ),
    "a number is lost when a commit is put off": Mutant(
        "I4", (Edit(f"{E}.commits:Commits._unnumber", "        run.seq -= 1\n", ""),)
    ),
    "a checksum goes on from an event that was put off": Mutant(
        "I4", (Edit(f"{E}.commits:Commits._unnumber", "        run.chain = chain\n", ""),)
    ),
    "a child's result is recorded by everybody who brings it": Mutant(
        "I5", (Edit(f"{E}.starts:Starts._deliver", '    if step.live == "delivered":\n        return\n', ""),)
    ),
    "a result goes to the step asked for last": Mutant(
        "I5",
        (
            Edit(
                "aob.testing.simulation.flows:_step",
                "return await work(op[1], op[2], op[3])",
                "return await work(op[1], op[2], op[3]) + (random().random() < 0)",
            ),
            Edit(
                "aob.worker.executor:LocalExecutor._run",
                "args, kwargs = plan.codec.decode_args(step.input)",
                "args, kwargs = plan.codec.decode_args((list(self._live)[-2] if len(self._live) > 1 and "
                "list(self._live)[-2].plan is plan else attempt).step.input)",
            ),
        ),
    ),
    "the idempotency key has the attempt in it": Mutant(
        "I6",
        (
            Edit(
                "aob.worker.executor:LiveAttempt.info",
                "started.birth, step.id),",
                "started.birth, f'{step.id}.{self.number}'),",
            ),
        ),
    ),
    "the idempotency key does not name the run": Mutant(
        "I6",
        (
            Edit(
                "aob.worker.executor:LiveAttempt.info",
                "idempotency_key(run.tenant, run.run_id, started.birth, step.id)",
                "idempotency_key(run.tenant, 'run', 'birth', step.id)",
            ),
        ),
    ),
    "the inbox is not read before a commit": Mutant(
        "I7", (Edit("aob.stores.memory:MemoryStore._unread", "return [", "return [] and ["),), MEMORY
    ),
    "a retry forgets what the run was sent": Mutant(
        "I7",
        (Edit(f"{E}.history:_set_aside", "isinstance(event, ev.SignalReceived)", "False"),),
        {"features": ("retries", "signals"), "faults": ("latency",)},
    ),
    "messages stay when they are dealt with": Mutant(
        "I7", (Edit(f"{E}.commits:Commits._batch", "takes=group.takes", "takes=group.takes[1:]"),)
    ),
    "a message is deleted before what it says is recorded": Mutant(
        "I7",
        (
            Edit(
                f"{E}.inbox:Inbox._signal_now",
                "    host.controls.signals.record(run, body.name, body.payload, body.id)\n",
                "    said = (run, body.name, body.payload, body.id)\n"
                "    host.clock.call_later(1.0, lambda: run.gone or host.controls.signals.record(*said))\n",
            ),
        ),
    ),
    "a local signal overtakes messages": Mutant(
        "I7",
        (
            Edit(
                f"{E}.inbox:Inbox.reach",
                "if (tenant, run_id) not in self._dealing or self._host.failed is not None:",
                "if True:",
            ),
            Edit(
                f"{E}.inbox:Inbox.settled",
                "while (dealing := self._dealing.get((tenant, run_id))) is not None:",
                "while False:",
            ),
        ),
    ),
    "a new owner begins to read where the old one stopped": Mutant(
        "I7", (Edit("aob.testing.simulation.fleet:FleetStore._unread_in", "if before != epoch:", "if False:"),), FLEET
    ),
    "the inbox is read by id alone": Mutant(
        "I7",
        (
            Edit(
                "aob.testing.simulation.fleet:FleetStore._unread_in",
                "and id not in returned and",
                "and id > max(returned, default=0) and",
            ),
        ),
        FLEET | {"partitions": 1, "clients": 2, "runs": 24, "features": ("signals", "updates"), "minutes": 5},
    ),
    "timers are compared with a clock that is ahead": Mutant(
        "I8",
        (
            Edit(
                f"{E}.host:Host.fire_timers",
                "take_due(now, machine.paused)",
                "take_due(now + 20_000_000, machine.paused)",
            ),
        ),
    ),
    "the clock of the host counts, not that of the store": Mutant(
        "I8",
        (
            Edit("aob.clock:SkewedClock.now_us", "+ self._skew_us()", ""),
            Edit("aob.clock:SkewedClock.call_at", "at_us - self._skew_us()", "at_us"),
        ),
        FLEET,
    ),
    "a timer is recorded as often as somebody looks": Mutant(
        "I8",
        (
            Edit(
                "aob.kernel.timers:Timers.take_due",
                "        timer = heappop(self._heap)\n        if self._set.get(timer.id) is timer:\n"
                "            out.append(timer)\n    return out",
                "        timer = heappop(self._heap)\n        if self._set.get(timer.id) is timer:\n"
                "            out += [timer, timer]\n    return out",
            ),
        ),
    ),
    "what comes after the end is recorded as if it counted": Mutant(
        "I9",
        (
            Edit(f"{E}.commits:Commits._after_end", "if not run.closed or isinstance(event, ev.Late):", "if True:"),
            Edit(f"{E}.commits:Commits.overtake", "if self._behind is not None and run.pending:", "if False:"),
        ),
    ),
    "a step begins though its run has ended": Mutant(
        "I9",
        (
            Edit(
                f"{E}.dispatch:Dispatch.stop_attempts",
                "    for step in list(run.machine.open.values()):",
                "    for step in ():",
            ),
            Edit(f"{E}.commits:Commits._after_end", "if not run.closed or isinstance(event, ev.Late):", "if True:"),
        ),
        {"features": ("steps", "gather", "failing", "terminates", "cancels"), "faults": ("latency",), "runs": 24},
    ),
    "an exporter's cursor moves before it has taken anything": Mutant(
        "I10",
        (
            Edit(f"{E}.outbox:Runner._give", "    await self._exporter.export(batch)\n", ""),
            Edit(
                f"{E}.outbox:Runner._give",
                "    await host.commits.ack()\n",
                "    await host.commits.ack()\n    await self._exporter.export(batch)\n",
            ),
        ),
    ),
    "what a dead owner had not exported waits for news": Mutant(
        "I10", (Edit(f"{E}.outbox:Runner.take", "    self.wake(partitions)\n", ""),)
    ),
    "an exporter begins where the log ends when it is taken over": Mutant(
        "I10",
        (
            Edit(
                f"{E}.outbox:Runner._begun",
                "known = {row.partition: row.position for row in await host.store.cursors(name)}",
                "known = {row.partition: row.last for row in await host.store.cursors(name)}",
            ),
        ),
    ),
    "a reader that begins anew misses an event": Mutant(
        "I11",
        (
            Edit(
                "aob.client.run:Run.events",
                "self._client.history.read(row, after)",
                "self._client.history.read(row, after + (after > 0))",
            ),
        ),
    ),
    "a run's random numbers are another process's": Mutant(
        "I15", (Edit("aob.kernel.machine:Machine.random", "random.Random(self.seed)", "random.Random(id(self))"),)
    ),
    "a side effect is made anew on replay": Mutant(
        "I15",
        (
            Edit(
                "aob.testing.simulation.flows:_do",
                "    return await _KINDS[op[0]](op)",
                "    if op[0] == 'side_effect':\n"
                "        made = _KINDS.setdefault('made', [])\n"
                "        made.append(op)\n"
                "        value = len(made)\n"
                "        return await echo(value) == value\n"
                "    return await _KINDS[op[0]](op)",
            ),
        ),
        {"features": ("side_effects", "timers", "steps", "eviction"), "faults": ("kills", "deploys")},
    ),
    "another input starts the same run": Mutant("I16", (Edit(f"{E}.starts:same_start", "return ", "return True or "),)),
    "an id may be taken twice": Mutant(
        "I16", (Edit("aob.stores.memory:MemoryStore._conflicts", "if found is not start:", "if False:"),), MEMORY
    ),
    "a ticket that is closed is decided again": Mutant(
        "I17",
        (
            Edit(
                f"{E}.tickets:Tickets._open",
                'if row.status != "open" or ticket in self._deciding or run.ended or check is None:',
                'if row.status == "open" and (ticket in self._deciding or run.ended or check is None):',
            ),
            Edit(f"{E}.tickets:Tickets._open", "return row, run, check", "return row, run, check or 0"),
        ),
        {"features": ("approvals", "timers")},
    ),
    "what kills its worker is tried for ever": Mutant(
        "I19", (Edit(f"{E}.recovery:Recovery._load_suspects", "if row.deaths > worst:", "if row.deaths > 1_000:"),)
    ),
    "the due times of waiting runs are not read at a take-over": Mutant(
        "I19", (Edit(f"{E}.recovery:Recovery._recover", "host.wakeups.set_many(dues)", "pass"),)
    ),
    "runs at work are not recovered": Mutant(
        "I19",
        (
            Edit(
                f"{E}.recovery:Recovery._page",
                "    for row in load:\n        await self._load(row)\n",
                "    for row in load:\n        host.residents.release(row)\n",
            ),
        ),
    ),
    "what was asked for and not begun counts as waiting": Mutant(
        "I19",
        (
            Edit("aob.kernel.machine:Machine.waiting", "(s.kind in _ASKED_FOR and not s.scheduled)", "False"),
            Edit(f"{E}.host:Host._write_dirty", "if run.row.partition in self.leaving:", "if False:"),
        ),
        FLEET | {"features": ("steps", "children"), "faults": ("deploys", "latency", "outages")},
    ),
    "a child's end is told to its parent only while that is in memory": Mutant(
        "I19",
        (
            Edit(
                f"{E}.starts:Starts.tell_parent",
                "    if parent is None:\n",
                "    if parent is None:\n        return\n    if parent is None:\n",
            ),
        ),
    ),
    "everybody loads runs while a partition is recovered": Mutant(
        "I19",
        (
            Edit(f"{E}.residents:Residents.get", "if self._recovering:", "if False:"),
            Edit(f"{E}.recovery:Recovery._page", "if row.key in begun:", "if False:"),
        ),
    ),
    "who lost its lease does not stand by": Mutant(
        "I19", (Edit("aob.worker.worker:Worker._lost", "self._free.set()", "self._sharing and self._sharing.cancel()"),)
    ),
    "owners look at the inbox only when a bell rings": Mutant(
        "I20", (Edit(f"{E}.inbox:Inbox.watch", "wait_messages(_SAFETY_POLL)", "wait_messages(1e9)"),)
    ),
    "those who wait look only when a bell rings": Mutant(
        "I20", (Edit("aob.client.run:Run._end", "_LOOK_AGAIN", "1e9"),)
    ),
    "a run that has not ended is swept": Mutant(
        "I21",
        (
            Edit("aob.stores.memory:MemoryStore._is_old", "run.ended is not None", "run.updated < ended_before"),
            Edit(
                "aob.stores.memory:MemoryStore._is_old", "run.ended < ended_before", "(run.ended or 0) < ended_before"
            ),
        ),
        MEMORY,
    ),
    "retention does not wait for exporters": Mutant(
        "I21",
        (
            Edit("aob.stores.memory:MemoryState.exported", "    return ", "    return True or "),
            Edit("aob.stores.memory:MemoryState.passed", "    return ", "    return LAST_SEQ or "),
        ),
        MEMORY,
    ),
    "an error of the store is passed over": Mutant(
        "I22",
        (
            Edit(
                f"{E}.commits:Commits._not_sent",
                "    self._unnumber(group)\n",
                "    return self._sent(group, Appended(committed=True))\n",
            ),
        ),
    ),
    "a full disk loses what was to be written": Mutant(
        "I22",
        (
            Edit(
                f"{E}.commits:Commits._not_sent",
                "        self._groups.appendleft(group)\n        self._clock",
                "        self._clock",
            ),
        ),
    ),
}


@contextmanager
def planted(mutant: Mutant) -> Generator[None]:
    """The bug is there while the block lasts."""
    with ExitStack() as stack:
        for target in dict.fromkeys(edit.target for edit in mutant.edits):
            stack.callback(_plant(target, [edit for edit in mutant.edits if edit.target == target]))
        yield


def _plant(target: str, edits: list[Edit]) -> Callable[[], None]:
    module, _, path = target.partition(":")
    owner: Any = import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original = vars(owner)[name]
    source = textwrap.dedent(inspect.getsource(original))
    for _, old, new in edits:
        assert source.count(old) == 1, f"{target} no longer holds {old!r} once: plant it anew"
        source = source.replace(old, new)
    made: dict[str, Any] = {}
    code = compile(source, original.__code__.co_filename, "exec", __future__.annotations.compiler_flag)
    exec(code, original.__globals__, made)
    setattr(owner, name, made[name])
    return lambda: setattr(owner, name, original)
