"""Tables that fit a terminal: what matters least goes first where it is narrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rich.text import Text

#: Spaces between two columns.
_GAP = 2
#: Cells of a wide column that are worth to be shown.
_LEAST = 10


@dataclass(frozen=True)
class Column:
    """*head* is its name. Of those with a *rank* the highest goes first; 0 always stays.

    *left*: its cells are aligned to the left. *wide*: it is cut to the room that is left.
    """

    head: str
    rank: int = 0
    left: bool = False
    wide: bool = False


def fitting(
    columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int
) -> Table:
    """*rows*, one line each, at most *width* cells wide."""
    needs = [
        _LEAST if column.wide else max(len(column.head), *(c.cell_len for c in cells))
        for column, cells in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    shown = [*range(len(columns))]
    while sum(needs[at] + _GAP for at in shown) - _GAP > width:
        last = max(shown, key=lambda at: columns[at].rank)
        if not columns[last].rank:
            break
        shown.remove(last)
    is_wide = any(columns[at].wide for at in shown)
    table = Table(
        box=None,
        padding=(0, _GAP, 0, 0),
        pad_edge=False,
        expand=is_wide,
        header_style="dim",
    )
    for at in shown:
        table.add_column(
            columns[at].head,
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if columns[at].wide else None,
            justify="left" if columns[at].left or columns[at].wide else "right",
        )
    for row in rows:
        table.add_row(*(row[at] for at in shown))
    return table
