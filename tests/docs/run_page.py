"""Run the Python blocks of one page as a reader would: `python run_page.py PAGE`, in an empty folder.

Blocks run from top to bottom and share one namespace. A block with a top-level `await` runs in an event loop that the
page keeps. A block with a title is saved under that name and run as a script of its own; later blocks can import it.
"""

import ast
import asyncio
import inspect
import linecache
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from tests.docs.markdown import Block, Page


def run_as_file(block: Block, title: str) -> None:
    Path(title).write_text(block.text)
    subprocess.run([sys.executable, title], check=True, timeout=120)


def run_in(module: ModuleType, block: Block, page: Page, runner: asyncio.Runner) -> None:
    # blank lines above keep the numbers of the page, so that a traceback points into it
    source = "\n" * (block.line - 1) + block.text
    name = f"{page.path}:{block.line}"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    code = compile(source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if not code.co_flags & inspect.CO_COROUTINE:
        exec(code, module.__dict__)
        return

    async def in_loop() -> None:
        await eval(code, module.__dict__)

    runner.run(in_loop())


def main(path: str) -> None:
    page = Page(Path(path))
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.path.insert(0, "")
    with asyncio.Runner() as runner:
        for block in page.blocks:
            if block.language != "python":
                continue
            if block.title:
                run_as_file(block, block.title)
            else:
                run_in(module, block, page, runner)


if __name__ == "__main__":
    main(sys.argv[1])
