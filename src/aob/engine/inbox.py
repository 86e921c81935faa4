"""Messages from other processes: taken before this process's own records, turned into events, answered where an
answer waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from aob import telemetry
from aob.engine.active import ActiveRun
from aob.engine.asker import Sender
from aob.engine.eager import begin, within
from aob.engine.forks import ForkRequest
from aob.engine.ids import input_digest
from aob.engine.partitions import NotOwner
from aob.engine.patience import patiently
from aob.engine.payloads import is_sealed
from aob.engine.starts import Again, ChildEnded, Reason, Signal, StartRequest, Withdraw
from aob.engine.tickets import Decision
from aob.engine.unserved import NotServed
from aob.errors import AobError, LeaseLost, NoWorker, OperatorError, StoreCorrupt
from aob.stores.rows import Message

if TYPE_CHECKING:
    from aob.engine.host import Host

Name = tuple[str, str]
_SAFETY_POLL = 1.0


class Call(msgspec.Struct):
    """Body of a `query` or `update` message; `payload` is [args, kwargs]."""

    name: str
    payload: Raw
    id: str | None = None


class Decide(msgspec.Struct):
    """Body of a `decide` message."""

    ticket: str
    decision: Decision


class Inbox:
    """The owner's side of the inbox."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._dealing: dict[Name, tuple[deque[Message], asyncio.Future[None]]] = {}
        self._messages: dict[Name, Message] = {}
        self._starting: dict[Name, asyncio.Future[None]] = {}

    async def watch(self) -> None:
        """Look into the inbox whenever another process may have written."""
        host = self._host
        while host.failed is None:
            try:
                await host.store.wait_messages(_SAFETY_POLL)
            except OperatorError:  # the next commit says whether the store has failed for good
                await host.clock.sleep(_SAFETY_POLL)
            host.commits.poke()

    async def ready(self, messages: list[Message]) -> None:
        """Load what tells a repeated message to a run in memory from a new one."""
        for message in messages:
            run = self._host.residents.by_id.get((message.tenant, message.run_id))
            if run is not None and run.seen is None and message.kind in ("signal", "update"):
                with suppress(AobError):  # who needs it asks again
                    await self._host.controls.signals.load_seen(run)

    def take(self, messages: list[Message]) -> None:
        """Deal with messages, each run's in their order; to runs in memory at once. Those that need a run that is
        not in memory go on when it is."""
        queues: dict[Name, list[Message]] = {}
        for message in messages:
            if message.partition in self._host.leaving and not self._stands_before(message):
                continue  # the next owner's
            queues.setdefault((message.tenant, message.run_id), []).append(message)
        for name, queue in queues.items():
            dealing = self._dealing.get(name)
            if dealing is not None:
                dealing[0].extend(queue)
                continue
            run = self._host.residents.by_id.get(name)
            while queue and run is not None and queue[0].kind == "signal" and self._signal_now(queue[0]):
                queue.pop(0)
            if queue:
                self._dealing[name] = deque(queue), asyncio.get_running_loop().create_future()
                begin(self._deal(name), self._host.spawn)

    def _stands_before(self, message: Message) -> bool:
        """Whether something of its run that came later is on its way to the store."""
        run = self._host.residents.by_id.get((message.tenant, message.run_id))
        return run is not None and run.pending > 0

    def moved(self, tenant: str, run_id: str) -> None:
        """What was taken for this run comes again in another partition."""
        if (tenant, run_id) in self._dealing:
            self._dealing[tenant, run_id][0].clear()
        self._host.unserved.drop(tenant, run_id)

    async def settled(self, tenant: str, run_id: str) -> None:
        """Wait until the messages to a run that were taken have had their effect: who sent them may ask here next."""
        while (dealing := self._dealing.get((tenant, run_id))) is not None:
            await asyncio.wait([dealing[1]])

    async def begun(self, tenant: str, run_id: str) -> None:
        """Wait until the message that starts this run, if it was taken, has had its effect; those behind it may need
        the caller to go on."""
        starting = self._starting.get((tenant, run_id))
        if starting is not None:
            await asyncio.wait([starting])

    def dealing_with(self) -> set[int]:
        """Partitions whose messages are being dealt with."""
        return {message.partition for message in self._messages.values()}

    async def reach(self, tenant: str, run_id: str) -> ActiveRun:
        """A run in memory, with the ids that it has counted, once the messages to it that were taken have had their
        effect: what the caller does with it before it awaits again comes behind them.

        Raises:
            RunNotFound: there is none.
            NotOwner: its partition is being handed over, with messages that come before what the caller would do.
        """
        while True:
            await self.settled(tenant, run_id)
            run = await self._host.residents.at_hand(tenant, run_id)
            if (tenant, run_id) not in self._dealing or self._host.failed is not None:
                self._host.refuse_strange(run.row.partition)
                return run

    def _signal_now(self, message: Message) -> bool:
        host = self._host
        run = host.residents.by_id[message.tenant, message.run_id]
        if is_sealed(message.body):
            return False
        body = msgspec.json.decode(message.body, type=Signal)
        if run.ended or (body.id is not None and run.seen is None):
            return False
        host.controls.signals.record(run, body.name, body.payload, body.id)
        host.commits.group().take([message.id], message.partition)
        return True

    async def _deal(self, name: Name) -> None:
        messages, done = self._dealing[name]
        try:
            while messages:
                message = self._messages[name] = messages.popleft()
                if message.kind == "start":
                    self._starting[name] = asyncio.get_running_loop().create_future()
                await within(self._one(message), self._host.commits.ahead)
                self._started(name)
        finally:
            self._started(name)
            self._messages.pop(name, None)
            del self._dealing[name]
            done.set_result(None)

    def _started(self, name: Name) -> None:
        starting = self._starting.pop(name, None)
        if starting is not None:
            starting.set_result(None)

    async def _one(self, message: Message) -> None:
        """Carry out a message; what it records, its deletion and the reply go into one commit."""
        host = self._host
        sender = Sender(host, message)
        try:
            opened = msgspec.structs.replace(message, body=host.payloads.open_message(message.body))
        except StoreCorrupt as e:
            self._unreadable(sender, message, e)
            return
        try:
            if message.expires is not None and message.expires < host.clock.now_us():
                raise NoWorker("nobody waits for this answer any more", run_id=message.run_id)
            result = await self._carried_out(opened, sender)
            if isinstance(result, Awaitable):
                host.spawn(self._answer(sender, result))
                return
            error = None
        except asyncio.CancelledError:
            raise
        except NotOwner:
            if not sender.told:
                self._pass_on(message)
            return
        except NotServed as e:
            if message.reply is None:
                host.unserved.keep(message)
            else:
                sender.tell_error(e)
            return
        except OperatorError as e:
            if host.failed is not None or isinstance(e, LeaseLost):
                return  # the next owner deals with it
            raise
        except Exception as e:
            result, error = None, e
        if not sender.told:
            sender.tell(result or b"null") if error is None else sender.tell_error(error)

    async def _carried_out(self, message: Message, sender: Sender) -> bytes | Awaitable[bytes] | None:
        """Do what a message asks. While the store does not answer it waits, and so do those to its run behind it."""
        return await patiently(self._host, lambda: _KINDS[message.kind](self, message, sender))

    def _unreadable(self, sender: Sender, message: Message, error: StoreCorrupt) -> None:
        """Who waits for an answer is told; any other message stays for a worker that has its codec."""
        telemetry.tell("message_unreadable", run_id=message.run_id, kind=message.kind)
        if message.reply is not None:
            sender.tell_error(error)

    async def _answer(self, sender: Sender, later: Awaitable[bytes]) -> None:
        """The message stays until its answer is known; if this process dies before, the next owner finds its effect."""
        try:
            sender.tell(await later)
        except OperatorError:
            return
        except Exception as e:
            sender.tell_error(e)

    def _pass_on(self, message: Message) -> None:
        """The run is another owner's: its partition is being handed over, message and all, or the message went to
        the wrong one."""
        if self._host.owns(message.partition):
            group = self._host.commits.group()
            group.take([message.id], message.partition)
            group.sends.append(msgspec.structs.replace(message, id=0, partition=-1))

    # --- one kind each ----------------------------------------------------------------------------

    async def _start(self, message: Message, sender: Sender) -> None:
        host = self._host
        request = msgspec.json.decode(message.body, type=StartRequest)
        row = await host.store.get_run(message.tenant, message.run_id)
        if row is not None and row.status == "pending" and (message.tenant, message.run_id) not in host.residents.by_id:
            if request.workflow not in host.programs:
                host.unserved.say(row)
                raise host.unserved.error(row)
            if row.input_hash != input_digest(request.workflow, bytes(request.input)):
                return  # another start was quicker to take the id
            await host.pins.see_to_lane(row, request.workflow)
            run = host.starts.begin_pending(row, request)
            host.residents.admit(run)
            host.unserved.begun(run)

    async def _signal(self, message: Message, sender: Sender) -> None:
        host = self._host
        body = msgspec.json.decode(message.body, type=Signal)
        run = await self._host.residents.at_hand(message.tenant, message.run_id)
        host.controls.signals.signal(run, body.name, body.payload, body.id)

    async def _child_ended(self, message: Message, sender: Sender) -> None:
        body = msgspec.json.decode(message.body, type=ChildEnded)
        await self._host.starts.child_ended(message.tenant, message.run_id, body.child)

    async def _again(self, message: Message, sender: Sender) -> None:
        body = msgspec.json.decode(message.body, type=Again)
        await self._host.starts.again(message.tenant, message.run_id, body.since)

    async def _cancel(self, message: Message, sender: Sender) -> None:
        run = await self._to_end(message)
        await self._host.controls.stops.cancel_run(run, _reason(message), sender)

    async def _terminate(self, message: Message, sender: Sender) -> None:
        run = await self._to_end(message)
        self._host.controls.stops.record_terminate(run, _reason(message))

    async def _to_end(self, message: Message) -> ActiveRun:
        """A run that is to be ended, be its code served or not."""
        try:
            return await self._host.residents.at_hand(message.tenant, message.run_id)
        except NotServed:
            return await self._host.unserved.begin_to_end(message.tenant, message.run_id)

    async def _pause(self, message: Message, sender: Sender) -> None:
        run = await self._host.residents.at_hand(message.tenant, message.run_id)
        self._host.controls.stops.record_pause(run, _reason(message))

    async def _resume(self, message: Message, sender: Sender) -> None:
        run = await self._host.residents.at_hand(message.tenant, message.run_id)
        await self._host.controls.stops.resume_run(run, sender)

    async def _retry(self, message: Message, sender: Sender) -> None:
        retries = self._host.controls.retries
        await self._host.spawn(retries.retry(message.tenant, message.run_id, sender))

    async def _fork(self, message: Message, sender: Sender) -> bytes:
        request = msgspec.json.decode(message.body, type=ForkRequest)
        forks = self._host.controls.forks
        new_id = await self._host.spawn(forks.fork(message.tenant, message.run_id, request, sender))
        return msgspec.json.encode(new_id)

    async def _query(self, message: Message, sender: Sender) -> bytes:
        call = msgspec.json.decode(message.body, type=Call)
        return await self._host.controls.queries.query(message.tenant, message.run_id, call.name, call.payload)

    async def _update(self, message: Message, sender: Sender) -> Awaitable[bytes]:
        call = msgspec.json.decode(message.body, type=Call)
        updates = self._host.controls.updates
        run = await updates.begun(lambda: self._host.residents.at_hand(message.tenant, message.run_id))
        step, repeated = updates.record(run, call.name, call.payload, call.id or message.reply)

        expected = updates.expect(run, step)  # the answer may be there before `later` begins

        async def later() -> bytes:
            return msgspec.json.encode(await updates.answer(run, step, repeated, expected))

        return later()

    async def _decide(self, message: Message, sender: Sender) -> None:
        body = msgspec.json.decode(message.body, type=Decide)
        await self._host.controls.tickets.decide(message.tenant, body.ticket, body.decision, sender)

    async def _withdraw(self, message: Message, sender: Sender) -> None:
        body = msgspec.json.decode(message.body, type=Withdraw)
        await self._host.controls.tickets.withdraw_ticket(message.tenant, body.ticket)

    async def _let_go(self, message: Message, sender: Sender) -> None:
        await self._host.controls.tickets.let_go(message.tenant, message.run_id)

    async def _delete(self, message: Message, sender: Sender) -> None:
        removal = self._host.controls.removal
        await self._host.spawn(removal.delete(message.tenant, message.run_id, sender))


def _reason(message: Message) -> str:
    return msgspec.json.decode(message.body, type=Reason).reason


_KINDS: dict[str, Callable[[Inbox, Message, Sender], Awaitable[bytes | Awaitable[bytes] | None]]] = {
    "start": Inbox._start,  # pyright: ignore[reportPrivateUsage]
    "signal": Inbox._signal,  # pyright: ignore[reportPrivateUsage]
    "child_ended": Inbox._child_ended,  # pyright: ignore[reportPrivateUsage]
    "again": Inbox._again,  # pyright: ignore[reportPrivateUsage]
    "cancel": Inbox._cancel,  # pyright: ignore[reportPrivateUsage]
    "terminate": Inbox._terminate,  # pyright: ignore[reportPrivateUsage]
    "pause": Inbox._pause,  # pyright: ignore[reportPrivateUsage]
    "resume": Inbox._resume,  # pyright: ignore[reportPrivateUsage]
    "retry": Inbox._retry,  # pyright: ignore[reportPrivateUsage]
    "fork": Inbox._fork,  # pyright: ignore[reportPrivateUsage]
    "query": Inbox._query,  # pyright: ignore[reportPrivateUsage]
    "update": Inbox._update,  # pyright: ignore[reportPrivateUsage]
    "decide": Inbox._decide,  # pyright: ignore[reportPrivateUsage]
    "withdraw": Inbox._withdraw,  # pyright: ignore[reportPrivateUsage]
    "let_go": Inbox._let_go,  # pyright: ignore[reportPrivateUsage]
    "delete": Inbox._delete,  # pyright: ignore[reportPrivateUsage]
}
