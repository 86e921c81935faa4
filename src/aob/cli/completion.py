"""`aob completion`."""

from __future__ import annotations

import sys
from typing import Literal

from aob.cli.main import build
from aob.cli.output import say
from aob.cli.session import Here


async def completion(shell: Literal["bash", "zsh", "fish"], /, *, install: bool = False, session: Here) -> int:
    """Print a script that makes a shell complete `aob` commands, or install it.

    For example:

        aob completion bash > ~/.local/share/bash-completion/completions/aob

        aob completion zsh --install

    Args:
        shell: bash, zsh or fish
        install: write it to where the shell looks, and say where
    """
    app = build().meta
    if install:
        say(f"written to {app.install_completion(shell=shell)}; a new shell knows it")
    else:
        sys.stdout.write(app.generate_completion(shell=shell))
    return 0
