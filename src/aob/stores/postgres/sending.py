"""Messages from anybody to a partition's owner, and the pending runs that stand beside those that start one."""

from __future__ import annotations

from collections.abc import Sequence

from aob.process import Process
from aob.stores.postgres import columns, driver
from aob.stores.postgres.connections import Connections
from aob.stores.postgres.driver import Rows
from aob.stores.postgres.holdings import Keys
from aob.stores.postgres.partitions import Partitions
from aob.stores.postgres.statements import in_schema, marks
from aob.stores.rows import Message, RunRow, partition_of

Sends = Sequence[tuple[Message, RunRow | None]]
_TRIES = 10


class Sending:
    """Sends.

    Args:
        news: what a notification of messages begins with.
    """

    def __init__(
        self, connections: Connections, keys: Keys, process: Process, partitions: Partitions, news: str
    ) -> None:
        self._connections = connections
        self._keys = keys
        self._process = process
        self._news = news
        self._partitions = partitions
        schema = connections.options.schema
        self._send = in_schema(f"select * from aob.send_1({marks(5 + 19)})", schema)
        self._ids = in_schema("select nonce, id from aob.inbox where nonce = any ($1::bigint[])", schema)
        self._runs = in_schema(
            f"select {columns.RUN} from aob.run where (tenant, run_id) in "
            "(select * from unnest($1::text[], $2::text[]))", schema,
        )  # fmt: skip

    async def send(self, sends: Sends) -> list[tuple[RunRow, RunRow]]:
        """See `Store.send_many`."""
        starts = [start for _, start in sends if start is not None]
        try:
            conflicts = await self._send_all(sends, starts)
        except BaseException:
            _reset(starts)
            raise
        if conflicts:
            _reset(starts)
        return conflicts

    async def _send_all(self, sends: Sends, starts: list[RunRow]) -> list[tuple[RunRow, RunRow]]:
        if doubled := _doubled(starts):
            return doubled
        if starts:
            await self._partitions.settle(starts)
        for message, start in sends:
            if start is not None and message.partition < 0:
                message.partition = start.partition  # nobody can move it before this is committed
        for start in starts:
            start.key = self._keys.draw()
        messages = [message for message, _ in sends]
        nonces = [self._process.seed() for _ in messages]
        others = [partition_of(m.tenant, m.run_id, self._partitions.count) for m in messages]
        for _ in range(_TRIES):
            again, rows = await self._write(messages, starts, others, nonces)
            if rows is None:
                continue
            taken = {row[2] for row in rows if row[0] == "taken"}
            if not taken:
                _identify(messages, {row[1]: row[2] for row in rows})
                return []
            there = await self._there(starts)
            if again and all(run.key == start.key for start, run in there) and len(there) == len(starts):
                # an earlier try, whose answer was lost, had made them; the messages came with them
                found = {row[0]: row[1] for row in await self._connections.rows(self._ids, nonces)}
                _identify(messages, {n: found.get(nonce, 0) for n, nonce in enumerate(nonces, 1)})
                return []
            if there:
                return there
        return await self._there(starts)

    async def _write(
        self, messages: list[Message], starts: list[RunRow], others: list[int], nonces: list[int]
    ) -> tuple[bool, Rows | None]:
        async def once(again: bool) -> tuple[bool, Rows | None]:
            values = columns.run_columns(starts) if starts else columns.NO_RUNS
            try:
                return again, await self._connections.once(
                    self._send, None if starts else nonces[0],
                    columns.messages_value(messages, others, nonces), [m.body for m in messages],
                    self._connections.address.channel, self._news, *values,
                )  # fmt: skip
            except driver.DatabaseError as e:
                if driver.violated(e) == "run_pkey":
                    self._keys.change()
                    for start in starts:
                        start.key = self._keys.draw()
                elif driver.violated(e) != "run_id":
                    raise
                return again, None

        return await self._connections.trying(once)

    async def _there(self, starts: list[RunRow]) -> list[tuple[RunRow, RunRow]]:
        """The starts whose ids are taken, with the runs that have them."""
        rows = await self._connections.rows(self._runs, [s.tenant for s in starts], [s.run_id for s in starts])
        found = {(run.tenant, run.run_id): run for run in map(columns.run_row, rows)}
        return [(s, found[s.tenant, s.run_id]) for s in starts if (s.tenant, s.run_id) in found]


def _doubled(starts: list[RunRow]) -> list[tuple[RunRow, RunRow]]:
    first: dict[tuple[str, str], RunRow] = {}
    return [
        (start, there)
        for start in starts
        if (there := first.setdefault((start.tenant, start.run_id), start)) is not start
    ]


def _identify(messages: list[Message], ids: dict[int, int]) -> None:
    for place, message in enumerate(messages, 1):
        message.id = ids.get(place, 0)


def _reset(starts: list[RunRow]) -> None:
    for start in starts:
        start.key = 0
