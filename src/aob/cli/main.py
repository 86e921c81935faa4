"""The `aob` command: its tree, its global options, and how it ends."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

from cyclopts import App, CycloptsError, Parameter, UnknownOptionError

from aob import __version__
from aob.cli.loading import load_codec
from aob.cli.output import Pipe
from aob.cli.session import Misuse, Session
from aob.cli.values import STANDARD_INPUT
from aob.client.run import refusal_behind
from aob.errors import AobError, BadInput, BadRunId, BadUrl
from aob.settings import BadSetting

GOOD, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
_SHORT = re.compile("-[^-]").match
_USAGE = (Misuse, BadInput, BadRunId, BadUrl, BadSetting)


def _group(name: str, help: str, **commands: str) -> App:
    group = App(name=name, help=help)
    for command, where in commands.items():
        group.command(f"aob.cli.{where}", name=command)
    return group


def build() -> App:
    """The tree of commands, the global options in its `meta`. Commands' modules are imported when needed."""
    app = App(
        name="aob",
        version=__version__,
        help="Durable workflows in plain Python.\n\n"
        "A WORKFLOW is `module:function`, a file such as flow.py (or flow.py:function), or the name under which "
        "a worker serves it. Modules are found from the current directory.\n\n"
        "A run id that begins with a hyphen is given last, behind `--`: `aob run get --json -- -7`.",
        help_format="markdown",
        console=Pipe(),
        default_parameter=Parameter(negative="", show_default=False),
        result_action="return_value",
    )
    app.command(
        _group(
            "run", "Start runs, look at them, and steer them.",
            start="start:start", batch="batch:batch", list="runs:list_", get="runs:get", result="runs:result",
            history="history:history", timeline="history:timeline", signal="controls:signal", query="controls:query",
            update="controls:update", cancel="controls:cancel", terminate="controls:terminate", pause="controls:pause",
            resume="controls:resume", retry="controls:retry", fork="controls:fork", delete="delete:delete",
        )
    )  # fmt: skip
    app.command("aob.cli.worker:worker", name="worker")
    app.command("aob.cli.approve:app", name="approve")
    app.command("aob.cli.replay:replay", name="replay")
    app.command(_group("logs", "Watch runs.", stream="history:stream"))
    app.command(_group("workflow", "What there is to run.", list="workflows:list_"))
    transfer = {"export": "db:export", "import": "db:import_", "partitions": "db_partitions:partitions"}
    app.command(_group("db", "The store as a whole.", migrate="db:migrate", check="db:check", **transfer))
    exporter = {"list": "exporters:list_", "drop": "exporters:drop"}
    app.command(_group("exporter", "Who is given every event.", **exporter))
    builds = {"list": "builds:list_", "retire": "builds:retire", "drain": "builds:drain"}
    app.command(_group("build", "Builds of the code, and the runs pinned to them.", **builds))
    app.command("aob.cli.doctor:doctor", name="doctor")
    app.command("aob.cli.completion:completion", name="completion")
    _globals(app)
    return app


def _globals(app: App) -> None:
    @app.meta.default
    def launch(  # pyright: ignore[reportUnusedFunction]
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        store: Annotated[str | None, Parameter(env_var="AOB_STORE")] = None,
        tenant: Annotated[str | None, Parameter(env_var="AOB_TENANT")] = None,
        codec: Annotated[str | None, Parameter(env_var="AOB_CODEC")] = None,
        json: bool = False,
        debug: bool = False,
    ) -> Any:
        """Durable workflows in plain Python.

        Args:
            store: URL of the store; without it sqlite:///aob.db
            tenant: whose runs; without it "default"
            codec: module:object that encrypts values
            json: print JSON for programs
            debug: show tracebacks and the engine's log
        """
        _log(debug)
        command, bound, ignored = app.parse_args(tokens, print_error=False, exit_on_error=False)
        own: dict[str, Any] = {}
        if "session" in ignored:
            own["session"] = Session(store, tenant, json, debug, load_codec(codec) if codec else None, codec)
        result = command(*bound.args, **bound.kwargs, **own)
        return asyncio.run(result) if inspect.iscoroutine(result) else result

    app.meta.group_parameters = "Everywhere"


def main() -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(tokens: Sequence[str]) -> int:
    """Carry out a command line and return its exit code: 0 good, 1 the run or command failed, 2 usage."""
    app = build()
    if tokens[:2] == ["run", "signal"]:  # a payload may be left out, so that a hyphen there begins an option
        tokens = [STANDARD_INPUT if token == "-" else token for token in tokens]
    try:
        _describe(app, tokens)
        code: object = app.meta(tokens, print_error=False, exit_on_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as e:
        return _misused(app, e, tokens)
    except BrokenPipeError:
        return _pipe_closed()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as e:
        return _failed(e, debug="--debug" in tokens)
    return code if isinstance(code, int) else GOOD


def _describe(app: App, tokens: Sequence[str]) -> None:
    """Where a group's help may be shown, import its commands, whose docstrings it lists."""
    chain = app.parse_commands(list(tokens))[1]
    if chain[-1].default_command is None or {"--help", "-h"} & set(tokens):
        for group in chain:
            group.resolved_commands()


def _log(debug: bool) -> None:
    if debug:
        logging.basicConfig(level=logging.DEBUG, format="%(asctime)s %(name)s %(levelname)s %(message)s")
        logging.getLogger("asyncio").setLevel(logging.INFO)
    else:
        logging.getLogger("aob").addHandler(logging.NullHandler())


def _misused(app: App, error: CycloptsError, tokens: Sequence[str]) -> int:
    chain = " ".join(["aob", *app.parse_commands(list(tokens))[0]])
    hyphen = isinstance(error, UnknownOptionError) and "--" not in tokens and any(_SHORT(t) for t in tokens)
    hint = " A value that begins with a hyphen goes last, behind --." if hyphen else ""
    print(f"error: {_line(str(error))}{hint} See: {chain} --help", file=sys.stderr)
    return MISUSED


def _failed(error: Exception, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    elif (shown := refusal_behind(error) or error) and isinstance(shown, AobError):
        print(f"error: {_line(str(shown))} [{shown.code}]", file=sys.stderr)
    else:
        print(f"error: {type(error).__name__}: {_line(str(error))} (--debug shows more)", file=sys.stderr)
    return MISUSED if isinstance(error, _USAGE) else FAILED


def _line(text: str) -> str:
    return " ".join(text.split())


def _pipe_closed() -> int:
    """Whoever read our output has seen enough. What Python would still flush at its end goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return GOOD
