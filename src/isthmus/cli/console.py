"""Where commands print: the screen, the error stream, and tables on both."""

from __future__ import annotations

from rich.console import Console, ConsoleDimensions
from rich.markup import escape
from rich.table import Table

PIPE_WIDTH = 10_000
"""Columns of output that no terminal shows: a table in a file or a pipe does not fold."""


class Screen(Console):
    """Standard output as wide as its terminal, or wide enough for any table where it has none."""

    @property
    def size(self) -> ConsoleDimensions:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Width and height in characters."""
        if self.is_terminal:
            return super().size
        return ConsoleDimensions(PIPE_WIDTH, 25)


screen = Screen(highlight=False)
error_screen = Console(stderr=True, highlight=False)


def print_text(text: object) -> None:
    """Print a text as it is: nothing in it is markup, and no line is broken."""
    screen.print(str(text), markup=False, soft_wrap=True)


def print_error(text: str) -> None:
    """Print one line about what went wrong."""
    error_screen.print(f"[red]isthmus:[/] {escape(text)}", soft_wrap=True)


def print_note(text: str) -> None:
    """Print one line about what a reader might not expect."""
    error_screen.print(text, style="yellow", markup=False, soft_wrap=True)


def make_table(*columns: str, title: str = "") -> Table:
    """Return a table without borders, whose first column does not fold."""
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        title=title or None,
        title_justify="left",
        caption_justify="left",
    )
    for i, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=i == 0)
    return table
