"""Every link of the documentation leads somewhere, every page can be found, and every `make` target exists."""

import re
from pathlib import Path

import pytest

from tests.docs.markdown import REPOSITORY, Page, pages

PAGES = pages()


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


def commands(page: Page, program: str) -> list[str]:
    """What follows the program's name, in console blocks and in inline code."""
    typed = [line for b in page.blocks if b.language == "console" for line in b.text.splitlines()]
    lines = [line.removeprefix("$ ") for line in typed if line.startswith("$ ")]
    lines += re.findall(r"`([^`\n]+)`", page.prose)
    return [line.removeprefix(f"{program} ") for line in lines if line.startswith(f"{program} ")]


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
    mentioned = {command.split()[0] for command in commands(page, "make")}
    assert mentioned - targets == set()
