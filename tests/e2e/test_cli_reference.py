"""The reference names every command and every option."""

from collections.abc import Iterator

import pytest
from cyclopts import App

from aob.cli.main import build
from tests.docs.markdown import REPOSITORY

PAGE = (REPOSITORY / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")


def leaves(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, App]]:
    """Commands with their full names."""
    if app.default_command is not None and path:
        yield " ".join(path), app
    for name, sub in app.resolved_commands().items():
        if not name.startswith("-"):
            yield from leaves(sub, (*path, name))


COMMANDS = dict(leaves(build()))


def options(app: App) -> set[str]:
    """What a user can type; outside of the tree, cyclopts adds negations, and the session is not for users."""
    names = {name for argument in app.assemble_argument_collection() for name in argument.names}
    return {n for n in names if n.startswith("--") and not n.startswith(("--no-", "--empty-", "--session"))}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_in_the_reference(command: str) -> None:
    lines = [line for line in PAGE.splitlines() if f"`aob {command}" in line]
    assert lines
    assert {o for o in options(COMMANDS[command]) if not any(o in line for line in lines)} == set()


def test_every_option_that_is_true_everywhere_is_in_the_reference() -> None:
    everywhere = PAGE.partition("## Everywhere")[2].partition("## Runs")[0]
    assert {option for option in options(build().meta) if f"`{option}" not in everywhere} == set()


def test_every_command_shows_an_example() -> None:
    assert len(COMMANDS) > 25
    for command, app in COMMANDS.items():
        assert f"aob {command}" in app.help, command
