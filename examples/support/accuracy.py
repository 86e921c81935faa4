"""How good is the local classifier? `python -m examples.support.accuracy` judges each example by all the others."""

import asyncio
from collections import Counter

from rich.console import Console
from rich.table import Table

from examples.support.assistant import LocalAssistant, labelled_examples
from examples.support.models import UNCLEAR


async def leave_one_out(examples: list[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Counts of (true category, found category), each example judged by an assistant that has not seen it."""
    found: Counter[tuple[str, str]] = Counter()
    for position, (category, text) in enumerate(examples):
        others = LocalAssistant(examples[:position] + examples[position + 1 :])
        found[category, (await others.classify(text)).category] += 1
    return found


def table_of(found: Counter[tuple[str, str]]) -> Table:
    """Right, wrong and unclear by category, with the sum in the last row."""
    table = Table(title="leave-one-out over our own examples", show_footer=True)
    rows = {category: _row(found, category) for category in sorted({true for true, _ in found})}
    right, wrong, unclear = (sum(column) for column in zip(*rows.values(), strict=True))
    table.add_column("category", footer="all")
    for name, total in (("right", right), ("wrong", wrong), ("unclear", unclear)):
        table.add_column(name, footer=str(total), justify="right")
    table.add_column("accuracy", footer=f"{right / found.total():.1%}", justify="right")
    for category, row in rows.items():
        table.add_row(category, *map(str, row), f"{row[0] / sum(row):.0%}")
    return table


def _row(found: Counter[tuple[str, str]], category: str) -> tuple[int, int, int]:
    answers = {answer: n for (true, answer), n in found.items() if true == category}
    right, unclear = answers.get(category, 0), answers.get(UNCLEAR, 0)
    return right, sum(answers.values()) - right - unclear, unclear


if __name__ == "__main__":
    Console().print(table_of(asyncio.run(leave_one_out(labelled_examples()))))
