"""Real I/O in workflow code fails at once with `io_in_workflow`, which names call and line, live as on replay."""

import asyncio
import inspect
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aob
from aob.testing import replay

CALLS: dict[str, tuple[str, Callable[[], Any]]] = {
    "file": ("open", lambda: os.open(__file__, os.O_RDONLY)),
    "path": ("open", lambda: Path(__file__).read_text()),
    "listing": ("os.listdir", lambda: os.listdir("/")),
    "temporary file": ("tempfile.mkstemp", lambda: tempfile.mkstemp()),
    "temporary folder": ("tempfile.mkdtemp", lambda: tempfile.mkdtemp()),
    "socket": ("socket.__new__", lambda: socket.socket()),
    "name": ("socket.getaddrinfo", lambda: socket.create_connection(("localhost", 9))),
    "http": ("urllib.Request", lambda: urllib.request.urlopen("http://localhost:9/")),
    "database": ("sqlite3.connect", lambda: sqlite3.connect(":memory:")),
    "sleep": ("time.sleep", lambda: time.sleep(0.001)),
    "thread": ("threading.Thread.start", lambda: threading.Thread(target=print).start()),
    "process": ("subprocess.Popen", lambda: subprocess.run([sys.executable, "-V"])),
    "shell": ("os.system", lambda: os.system("true")),
    "executor": ("run_in_executor", lambda: asyncio.get_running_loop().run_in_executor(None, print)),
    "thread of asyncio": ("run_in_executor", lambda: asyncio.to_thread(print)),
    "process of asyncio": ("subprocess_exec", lambda: asyncio.create_subprocess_exec("true")),
    "connection of asyncio": ("create_connection", lambda: asyncio.open_connection("localhost", 9)),
}


@aob.workflow
async def reaches_out(how: str) -> list[str]:
    try:
        got = CALLS[how][1]()
        if inspect.isawaitable(got):
            await got
    except aob.AobError as e:
        return [e.code, str(e)]
    return ["nothing refused it"]


@pytest.mark.parametrize("how", CALLS)
async def test_it_is_refused_with_the_call_and_the_line(how: str) -> None:
    what = CALLS[how][0]
    async with aob.connect("sqlite://") as client, client.serve(reaches_out):
        run = await client.start(reaches_out, how)
        code, text = await run.result()
        assert code == "io_in_workflow"
        assert what in text
        assert "test_io_in_workflow.py:" in text
        assert "@aob.activity" in text
        replay(reaches_out, await run.history())


@aob.activity
async def in_an_activity(how: str) -> str:
    got = CALLS[how][1]()
    if inspect.isawaitable(got):
        await got
    return how


@aob.workflow
async def by_activity(how: str) -> str:
    return await in_an_activity(how)


@pytest.mark.parametrize("how", ["path", "listing", "sleep", "thread", "executor"])
async def test_activities_may_do_it(how: str) -> None:
    async with aob.connect("sqlite://") as client, client.serve(by_activity):
        assert await (await client.start(by_activity, how)).result() == how
