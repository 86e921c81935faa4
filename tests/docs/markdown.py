"""The documentation as its tests see it: pages, their fenced blocks, links and headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+)(?P<info>.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block: the words after its ticks, its text, and the line of the page on which the text starts."""

    info: str
    text: str
    line: int

    @property
    def language(self) -> str:
        return self.info.split(maxsplit=1)[0] if self.info else ""

    @property
    def title(self) -> str | None:
        """The file name that the block is to be saved under (`python title="shop.py"`), if it has one."""
        found = re.search(r'title="([^"]+)"', self.info)
        return found[1] if found else None


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(REPOSITORY).as_posix()

    @cached_property
    def _parts(self) -> tuple[list[Block], list[str]]:
        blocks: list[Block] = []
        prose: list[str] = []
        lines = iter(enumerate(self.path.read_text(encoding="utf-8").splitlines(), start=1))
        for number, line in lines:
            opening = FENCE.match(line)
            if not opening:
                prose.append(line)
                continue
            indent, ticks = opening["indent"], opening["ticks"]
            body: list[str] = []
            for _, inner in lines:
                if inner.strip() == ticks:
                    break
                body.append(inner.removeprefix(indent))
            else:
                raise ValueError(f"{self.name}:{number}: this block is never closed")
            blocks.append(Block(opening["info"].strip(), "\n".join(body) + "\n", number + 1))
        return blocks, prose

    @property
    def blocks(self) -> list[Block]:
        return self._parts[0]

    @property
    def prose(self) -> str:
        """The page without its fenced blocks."""
        return "\n".join(self._parts[1])

    def links(self) -> Iterator[str]:
        yield from re.findall(r"\]\(([^()\s]+)\)", re.sub(r"`[^`]*`", "", self.prose))

    def anchors(self) -> set[str]:
        """The names by which headings can be linked to."""
        headings = re.findall(r"^#+ +(.+?) *$", self.prose, flags=re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def pages() -> list[Page]:
    """The pages of the project: those at the root and all under `docs`, `examples` and `bench`."""
    folders = (REPOSITORY / name for name in ("docs", "examples", "bench"))
    return [Page(path) for path in sorted([*REPOSITORY.glob("*.md"), *(p for f in folders for p in f.rglob("*.md"))])]
