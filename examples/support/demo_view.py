"""What the person who runs the demonstration sees."""

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.support.demo_report import Report


class View:
    """What has been delivered, live: a bar on a terminal, a line for each tenth elsewhere."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._tenths = 0
        self._bar = Progress(
            TextColumn("delivered"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("delivered", total=total)

    @contextmanager
    def shown(self) -> Generator[None]:
        """Show the bar inside the block."""
        with self._bar:
            yield

    def update(self, delivered: int) -> None:
        """Show a new number of deliveries."""
        self._bar.update(self._task, completed=delivered)
        tenths = 10 * delivered // self._total
        if tenths > self._tenths:
            self._tenths = tenths
            if not self._console.is_terminal:
                self.say(f"delivered {delivered} of {self._total}")

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, highlight=False, soft_wrap=True)


def table_of(report: Report) -> Table:
    """The numbers at the end."""
    table = Table(title="what happened", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("messages", str(len(report.sent)))
    for outcome, number in report.outcomes():
        table.add_row(f"  {outcome}", str(number))
    table.add_section()
    for category, number in report.categories():
        table.add_row(f"  {category.replace('_', ' ')}", str(number))
    table.add_section()
    table.add_row("steps", str(report.steps))
    table.add_row("runs open when the worker was killed", str(len(report.interruption.open_runs)))
    table.add_row("their steps recorded until then", str(report.interruption.recorded_steps))
    table.add_row("deliveries attempted again, and found done", str(report.found_delivered))
    table.add_section()
    table.add_row("lost", _verdict(report.lost + report.strangers))
    table.add_row("duplicates", _verdict(report.duplicates))
    table.add_row("recorded steps done again", _verdict(report.rewritten))
    table.add_section()
    table.add_row("time, with kill, restart and waits", f"{report.seconds:.1f} s")
    table.add_row("steps per second", f"{report.steps / report.seconds:.0f}")
    return table


def _verdict(number: int) -> str:
    return f"[bold {'red' if number else 'green'}]{number}[/]"
