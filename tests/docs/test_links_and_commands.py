"""Every link of the documentation leads somewhere, every page can be found, and every command that it shows exists."""

import re
import shlex
from pathlib import Path

import pytest

from aob.cli.main import build
from tests.docs.markdown import REPOSITORY, Page, pages

PAGES = pages()
EVERYWHERE = {"--store", "--tenant", "--json", "--debug"}


def broken_links(page: Page) -> list[str]:
    broken: list[str] = []
    for link in page.links():
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.path.parent / name if name else page.path
        if not target.exists() or (anchor and anchor not in Page(target).anchors()):
            broken.append(link)
    return broken


def typed(page: Page, program: str) -> list[str]:
    """The command lines of console and indented blocks that call a program, without its name."""
    lines = [line.removeprefix("$ ") for b in page.blocks if b.language == "console" for line in b.text.splitlines()]
    lines += re.findall(r"^ {4,}(\S.*)$", page.prose, flags=re.MULTILINE)
    return [line.removeprefix(f"{program} ") for line in lines if line.startswith(f"{program} ")]


def mentioned(page: Page, program: str) -> list[str]:
    """What follows the program's name in inline code."""
    return re.findall(rf"`{program} ([^`\n]+)`", page.prose)


def unknown(command: str) -> str | None:
    """What the command line does not know of this call of `aob`: the command, or an option."""
    tokens = shlex.split(re.split(r"\s(?:[|>;]|&&)", command, maxsplit=1)[0], comments=True)
    tokens = [token for token in tokens if token not in ("--help", "--version")]
    _, apps, rest = build().parse_commands(tokens)
    if apps[-1].default_command is None:
        return command if rest else None  # a group alone shows its help
    known = {name for argument in apps[-1].assemble_argument_collection() for name in argument.names}
    rest = rest[: rest.index("--")] if "--" in rest else rest
    options = {token.partition("=")[0] for token in rest if token.startswith("--")}
    return command if options - known - EVERYWHERE else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Page) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = Page(tmp_path / "page.md")
    page.path.write_text(
        "# One two\n[a](#one-two) [b](#three) [c](page.md#one-two) [d](none.md) [e](https://example.com)"
    )
    assert broken_links(page) == ["#three", "none.md"]


def test_every_page_is_reached_from_the_index() -> None:
    index = REPOSITORY / "docs" / "index.md"
    found: set[Path] = set()
    waiting = [index]
    while waiting:
        path = waiting.pop()
        found.add(path)
        targets = {(path.parent / link.partition("#")[0]).resolve() for link in Page(path).links() if ":" not in link}
        waiting += [target for target in targets - found if target.suffix == ".md" and target.is_file()]
    in_docs = {page.path for page in PAGES if "docs" in page.path.relative_to(REPOSITORY).parts}
    assert {path.relative_to(REPOSITORY).as_posix() for path in in_docs - found} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_that_is_mentioned_exists(page: Page) -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    used = {command.split()[0] for command in [*typed(page, "make"), *mentioned(page, "make")]}
    assert used - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_aob_command_and_option_that_is_shown_exists(page: Page) -> None:
    shown = [*typed(page, "aob"), *mentioned(page, "aob")]
    assert [command for command in shown if unknown(command)] == []


@pytest.mark.parametrize(
    ("command", "known"),
    [
        ("run list --json", True),
        ("run start shop:order --wait --store sqlite:///x.db | jq .", True),
        ("run", True),
        ("--version", True),
        ("run lost", False),
        ("runs list", False),
        ("run start shop:order --await", False),
    ],
)
def test_a_command_that_does_not_exist_is_seen(command: str, known: bool) -> None:
    assert (unknown(command) is None) == known
