"""The other process of the engine suite: reads requests, a JSON line each, from stdin, and answers on stdout.

A request is `[what, {…}]`; what: `open`, `serve`, `start`, `client`, `run`, `call`, `replay`.
See `OtherProcess` in `engine_harness`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from importlib import import_module
from inspect import isawaitable
from operator import attrgetter
from typing import Any

import msgspec

from aob.client.client import Client
from aob.client.run import Run
from aob.kernel import events as ev
from aob.kernel.machine import Machine
from aob.kernel.steps import Abandon, Step
from aob.settings import load
from aob.workflow.definitions import Workflow


class Program:
    """What the requests do."""

    def __init__(self) -> None:
        self._client: Client

    async def open(self, url: str, settings: dict[str, Any]) -> None:
        """Connect."""
        self._client = await Client(url, settings=load(**settings)).__aenter__()

    async def serve(self, workflows: list[str]) -> None:
        """Become a worker, until the end."""
        await self._client.serve(*(found(w) for w in workflows)).__aenter__()

    async def start(self, workflow: str, args: list[Any], kwargs: dict[str, Any]) -> str:
        """Start a run."""
        return (await self._client.start(found(workflow), *args, **kwargs)).run_id

    async def client(self, method: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call a method of the client."""
        return await value_of(getattr(self._client, method)(*args, **kwargs))

    async def run(self, run_id: str, method: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call a method of a run's handle."""
        return await value_of(getattr(await self._client.get(run_id), method)(*args, **kwargs))

    async def call(self, module: str, function: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call any function."""
        return await value_of(getattr(import_module(module), function)(*args, **kwargs))

    async def replay(self, workflow: str, history: list[tuple[int, str, int, str]]) -> dict[str, Any]:
        """Replay an exported history."""
        machine = Machine(found(workflow))
        machine.replay((ev.decode_event(kind, version, data.encode()), seq) for seq, kind, version, data in history)
        machine.go_live()
        end = machine.ended
        mismatch = machine.mismatch
        report = {
            "mismatch": None if mismatch is None else f"{mismatch.message}\n{mismatch.diff}",
            "end": None if end is None else (end.KIND, ev.encode_event(end).decode()),
            "open": list(machine.open),
            "commands": [named(c) for c in machine.commands],
        }
        machine.close()
        return report


def found(name: str) -> Workflow[..., Any]:
    """The workflow `module:name`."""
    module, _, attribute = name.partition(":")
    return attrgetter(attribute)(import_module(module))


async def value_of(value: Any) -> Any:
    """What an awaitable came to, or all that an async iterator yields."""
    if isawaitable(value):
        return await value
    if isinstance(value, AsyncIterator):
        return [item async for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def named(command: Any) -> str:
    """A machine's command in one word."""
    if isinstance(command, Step):
        return command.id
    return f"abandon {command.step.id}" if isinstance(command, Abandon) else command.KIND


def plain(value: Any) -> Any:
    """What JSON has no form for."""
    return value.run_id if isinstance(value, Run) else repr(value)  # pyright: ignore[reportUnknownMemberType]


async def answers() -> None:
    """Serve requests until stdin ends."""
    program = Program()
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        what, how = msgspec.json.decode(line)
        try:
            answer = {"value": await getattr(program, what)(**how)}
        except Exception as e:
            answer = {"error": type(e).__name__, "message": str(e)}
        sys.stdout.buffer.write(msgspec.json.encode(answer, enc_hook=plain) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(answers())
