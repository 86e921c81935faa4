"""A proxy before Postgres that cuts connections at chosen moments, or falls silent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from tests.chaos.wire import Client, Moment, Server

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Stands between some clients and a server.

    Args:
        port: the server's.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._planned: list[Moment] = []
        self._audible = asyncio.Event()
        self._audible.set()
        self.cuts: Counter[str] = Counter()

    @property
    def port(self) -> int:
        """Where clients connect."""
        assert self._server is not None
        return self._server.sockets[0].getsockname()[1]

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for _ in range(
            3
        ):  # one that was just being accepted shows up a little later, and what was aborted is closed then
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0.01)

    def cut_next(self, moment: Moment) -> None:
        """Cut the connection that carries the next commit."""
        self._planned.append(moment)

    def cut_all(self) -> None:
        """Cut every connection, whatever it carries."""
        self.cuts["ANY"] += len(self._pairs)
        for pair in list(self._pairs):
            pair.cut()

    def forget_plans(self) -> None:
        """Cut none of those that were to be cut."""
        self._planned.clear()

    def fall_silent(self) -> None:
        """From now on nothing comes through, and nobody is told."""
        self._audible.clear()

    def speak(self) -> None:
        """Everything that was held back comes through."""
        self._audible.set()

    def planned(self) -> Moment | None:
        """When to cut the connection that carries a commit just now."""
        return self._planned.pop(0) if self._planned else None

    async def audible(self) -> None:
        """Wait while this is silent."""
        await self._audible.wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve((reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, client: Ends) -> None:
        await self.audible()
        with suppress(OSError):
            pair = _Pair(self, client, await asyncio.open_connection("127.0.0.1", self._port))
            self._pairs.add(pair)
            try:
                await pair.forward()
            finally:
                self._pairs.discard(pair)


class _Pair:
    """A client's connection, and the one to the server that stands for it."""

    def __init__(self, proxy: Proxy, client: Ends, server: Ends) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = client
        self._from_server, self._to_server = server
        self._client, self._said = Client(), Server()
        self._moment: Moment | None = None

    async def forward(self) -> None:
        """Until either end closes, or it is cut."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._to_the_server()), loop.create_task(self._to_the_client())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.cut()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self) -> None:
        """Both ends see it at once."""
        for writer in (self._to_client, self._to_server):
            with suppress(RuntimeError):
                writer.transport.abort()

    async def _to_the_server(self) -> None:
        with suppress(OSError):
            while data := await self._from_client.read(1 << 16):
                await self._proxy.audible()
                for message in self._client.feed(data):
                    if self._moment is None and self._client.commits(message):
                        self._moment = self._proxy.planned()
                    if self._moment is Moment.UNSENT:
                        return self._cut_planned()
                    self._to_server.write(message)
                await self._to_server.drain()
                if self._moment is Moment.SENT:
                    return self._cut_planned()

    async def _to_the_client(self) -> None:
        with suppress(OSError):
            while data := await self._from_server.read(1 << 16):
                await self._proxy.audible()
                if self._client.asked_for_ssl:
                    self._client.asked_for_ssl = False  # this is the answer: one byte
                elif self._said.is_ready(data) and self._moment is Moment.ANSWERED:
                    return self._cut_planned()
                if self._moment is None:
                    self._to_client.write(data)
                    await self._to_client.drain()

    def _cut_planned(self) -> None:
        assert self._moment is not None
        self._proxy.cuts[self._moment.name] += 1
        self.cut()


@asynccontextmanager
async def proxy(port: int) -> AsyncGenerator[Proxy]:
    """A proxy before a port of this host."""
    standing = Proxy(port)
    await standing.start()
    try:
        yield standing
    finally:
        await standing.stop()
