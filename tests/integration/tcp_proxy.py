"""A TCP proxy in this event loop that cuts connections where a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

Rule = Callable[[bytes], bool]


class Proxy:
    """Stands between clients and a server.

    `cut_before` and `cut_after` look at what a client sends: when one says yes, every connection is cut, before that
    has reached the server, or after, so that the answer never comes. Each does so once.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut_before: Rule | None = None
        self.cut_after: Rule | None = None
        self.refusing = False
        self.cuts = 0
        self._mute = False

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
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Cut every connection now."""
        self.cuts += 1
        for writer in list(self._writers):
            with suppress(RuntimeError):
                writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            upstream, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to_server}
        for work in (self._forward(reader, to_server, True), self._forward(upstream, writer, False)):
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if sent and self.cut_before is not None and self.cut_before(data):
                    self.cut_before = None
                    self.cut()
                    break
                if not sent and self._mute:
                    continue
                last = sent and self.cut_after is not None and self.cut_after(data)
                self._mute = self._mute or last
                writer.write(data)
                await writer.drain()
                if last:
                    self.cut_after = None
                    await asyncio.sleep(0.05)  # the server gets it and does it; its answer goes nowhere
                    self.cut()
                    self._mute = False
                    break
        self._writers.discard(writer)
        with suppress(RuntimeError):
            writer.transport.abort()


@asynccontextmanager
async def proxy(port: int) -> AsyncGenerator[Proxy]:
    """A proxy before a port of this host."""
    standing = Proxy(port)
    await standing.start()
    try:
        yield standing
    finally:
        await standing.stop()
