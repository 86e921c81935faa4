"""A bug for each invariant: what to change in a copy of the source, and the test that must turn red.

A plant that no longer applies makes its test fail: plant the same bug anew where the code has gone.
"""

from typing import NamedTuple

CRASH = "tests/crash"


class Plant(NamedTuple):
    """One planted bug.

    Args:
        invariant: the one it breaks.
        test: what must see it.
        edits: file below src/aob, what stands there once, and what is to stand there instead.
        cheap: seen in seconds.
    """

    invariant: str
    test: str
    edits: tuple[tuple[str, str, str], ...]
    cheap: bool = False


PLANTS: dict[str, Plant] = {
    "a call is answered before it is durable": Plant(
        "I1",
        f"{CRASH}/test_acknowledged.py",
        (
            (
                "engine/signals.py",
                "        event = self.signal(run, name, payload, id)\n        await self._host.commits.ack()\n",
                "        event = self.signal(run, name, payload, id)\n        return\n",
            ),
        ),
        cheap=True,
    ),
    "a repeated call counts again": Plant(
        "I2",
        f"{CRASH}/test_signals.py",
        (
            (
                "engine/signals.py",
                "        run.seen.add(id)\n        self._host.commits.group().seen.append((run, id))\n",
                "",
            ),
        ),
    ),
    "the epoch is compared once, not in each commit": Plant(
        "I3",
        f"{CRASH}/test_fencing.py",
        (
            (
                "stores/sqlite/commits.py",
                "        self.catch_up()\n        if self._epochs.get(partition) == epoch:",
                "        self.catch_up()\n        if self._epochs.setdefault(partition, epoch) or epoch:",
            ),
        ),
    ),
    "a number is lost when a commit is put off": Plant(
        "I4",
        f"{CRASH}/test_messages_everywhere.py -k query",
        (
            (
                "engine/commits.py",
                "            run.seq -= 1\n            run.chain = chain",
                "            run.chain = chain",
            ),
        ),
        cheap=True,
    ),
    "a child's result is recorded by everybody who brings it": Plant(
        "I5",
        f"{CRASH}/test_kill_in_process.py",
        (
            (
                "engine/starts.py",
                '        if step.live == "delivered":\n            return\n',
                "",
            ),
        ),
    ),
    "the idempotency key has the attempt in it": Plant(
        "I6",
        f"{CRASH}/test_kill_in_process.py -k retries-nothing",
        (
            (
                "worker/executor.py",
                "started.birth, step.id),",
                "started.birth, f'{step.id}.{self.number}'),",
            ),
        ),
        cheap=True,
    ),
    "a message is deleted before what it says is recorded": Plant(
        "I7",
        f"{CRASH}/test_signals.py",
        (
            (
                "engine/inbox.py",
                "        host.controls.signals.record(run, body.name, body.payload, body.id)\n        host.commits",
                "        record = lambda: host.controls.signals.record(run, body.name, body.payload, body.id)\n"
                "        host.clock.call_later(0.2, record)\n"
                "        host.commits",
            ),
        ),
    ),
    "a caller is answered after the commit that has the effect": Plant(
        "I7",
        f"{CRASH}/test_asked_everywhere.py -k retry",
        (
            (
                "engine/retries.py",
                '"retry"))\n        asker.tell()\n        await host.commits.ack()\n',
                '"retry"))\n        await host.commits.ack()\n',
            ),
        ),
        cheap=True,
    ),
    "timers are compared with a clock that is ahead": Plant(
        "I8",
        f"{CRASH}/test_timers.py",
        (
            (
                "engine/host.py",
                "machine.timers.take_due(now, machine.paused)",
                "machine.timers.take_due(now + 5_000, machine.paused)",
            ),
        ),
    ),
    "a result that comes after the end is recorded as a result": Plant(
        "I9",
        f"{CRASH}/test_messages_everywhere.py -k terminate",
        (
            (
                "engine/commits.py",
                "        if self._behind is not None and run.pending:\n            self._overtaken",
                "        if False:\n            self._overtaken",
            ),
            (
                "engine/commits.py",
                "        if not run.closed or isinstance(event, ev.Late):",
                "        if event is not None:",
            ),
        ),
        cheap=True,
    ),
    "an old run acts by a rule that is newer than it": Plant(
        "I15",
        "tests/golden/test_golden.py -k takes_turns",
        (("kernel/conditions.py", "        turns = machine.flags & flags.TURNS\n", "        turns = flags.TURNS\n"),),
        cheap=True,
    ),
    "a new run acts by the old rule": Plant(
        "I15",
        "tests/unit/kernel/test_flags.py -k new_run",
        (("kernel/conditions.py", "        turns = machine.flags & flags.TURNS\n", "        turns = 0\n"),),
        cheap=True,
    ),
    "an old run is refused what it may not do since": Plant(
        "I15",
        "tests/unit/kernel/test_flags.py -k lose_compensations",
        (
            (
                "kernel/carry.py",
                "machine.compensations and machine.flags & flags.NO_UNDO_AT_CHECKPOINT",
                "machine.compensations",
            ),
        ),
        cheap=True,
    ),
    "a run with rules that are not known is carried on": Plant(
        "I15",
        "tests/unit/kernel/test_flags.py -k newer",
        (("kernel/machine.py", "        if self.flags & ~flags.KNOWN:\n", "        if self.flags < 0:\n"),),
        cheap=True,
    ),
    "one position stands for the logs of all partitions": Plant(
        "I10",
        "tests/conformance/test_partitions_export.py",
        (
            (
                "engine/outbox.py",
                "{partition: self._positions[partition] for",
                "{partition: max(self._positions.values()) for",
            ),
        ),
        cheap=True,
    ),
    "events count as exported before they are": Plant(
        "I10",
        "tests/conformance/test_engine_b_memory.py -k test_10",
        (
            (
                "engine/outbox.py",
                "        await self._exporter.export(batch)\n        for partition",
                "        for partition",
            ),
            (
                "engine/outbox.py",
                "cursors.append((name, partition, position))\n        await host.commits.ack()\n",
                "cursors.append((name, partition, position))\n        await host.commits.ack()\n"
                "        await self._exporter.export(batch)\n",
            ),
        ),
        cheap=True,
    ),
    "tasks are kept in sets by their address": Plant(
        "I15",
        "tests/properties/test_corpus.py -k fresh",
        (
            (
                "kernel/loop.py",
                '    """A task whose hash does not depend on its address."""\n'
                "\n"
                "    number: int\n"
                "\n"
                "    def __hash__(self) -> int:\n"
                "        return self.number",
                '    """A task whose hash does not depend on its address."""\n'
                "\n"
                "    number: int\n"
                "\n"
                "    def __hash__(self) -> int:\n"
                "        return hash(repr(id(self)))",
            ),
        ),
        cheap=True,
    ),
    "what kills its worker is tried for ever": Plant(
        "I19",
        "tests/integration/test_poison.py",
        (
            (
                "engine/recovery.py",
                "            if row.deaths > worst:",
                "            if row.deaths > 1_000:",
            ),
        ),
    ),
    "an event on its way is forgotten when its run is put to sleep": Plant(
        "I19",
        f"{CRASH}/test_kill_in_process.py -k naps_briefly",
        (
            (
                "engine/host.py",
                "if run.ended or run.busy or run.pending or",
                "if run.ended or run.busy or",
            ),
        ),
        cheap=True,
    ),
    "a child's end is told to its parent after the commit, if the worker lives so long": Plant(
        "I19",
        f"{CRASH}/test_kill_in_process.py -k evicted",
        (
            (
                "engine/starts.py",
                '            self._host.leave(child.tenant, child.row.parent, "child_ended", ChildEnded(child.run_id))',
                "            name = (child.tenant, child.row.parent)\n"
                "            get = self._host.residents.get\n"
                "            self._host.commits.group().after.append(lambda: self._host.spawn(get(*name)))",
            ),
        ),
    ),
    "who was replaced may still delete": Plant(
        "I21",
        "tests/conformance/test_engine_b_sqlite.py -k replaced_owner_deletes",
        (
            (
                "stores/sqlite/removal.py",
                "        self._commits.guard(lease.partition, lease.epoch)\n        execute",
                "        execute",
            ),
        ),
        cheap=True,
    ),
    "a child goes though its parent waits for its result": Plant(
        "I21",
        "tests/conformance/test_engine_b_sqlite.py -k childs_result_stays",
        (
            (
                "stores/sqlite/removal.py",
                "select p.run_id from run p where p.tenant",
                "select p.run_id from run p where p.ended = 0 and p.tenant",
            ),
        ),
        cheap=True,
    ),
    "what is not exported is deleted": Plant(
        "I21",
        "tests/conformance/test_engine_b_sqlite.py -k stays_until_it_is_exported",
        (
            (
                "stores/sqlite/removal.py",
                "return _NEVER if passed is None else passed",
                "return _NEVER",
            ),
        ),
        cheap=True,
    ),
    "a run goes while it is forked": Plant(
        "I21",
        "tests/unit/engine/test_held.py",
        (
            (
                "engine/retention.py",
                "host.residents.in_use(partition)",
                "[]",
            ),
        ),
        cheap=True,
    ),
    "an error of the store is passed over": Plant(
        "I22",
        f"{CRASH}/test_store_failure.py -k sync",
        (
            (
                "engine/commits.py",
                "        self._sent_now = Group()\n"
                "        self._unnumber(group)\n"
                "        self._free()\n"
                "        if isinstance(error, StoreFull | StoreLocked):",
                "        return self._sent(group, Appended(committed=True))\n"
                "        if isinstance(error, StoreFull | StoreLocked):",
            ),
        ),
        cheap=True,
    ),
    "a message stays behind when its run moves": Plant(
        "I7",
        "tests/integration/test_postgres_builds.py -k being_sent",
        (("stores/postgres/migrations/0003_append.sql", " for key share $$;", " $$;"),),
    ),
}
