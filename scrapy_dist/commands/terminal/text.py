"""How the subcommands of ``scrapy frontier`` put things into words, and into columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.base.words import (
    UNKNOWN,
    age,
    clean,
    count,
    counts,
    memory,
    number,
    rate,
    span,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "UNKNOWN",
    "age",
    "clean",
    "count",
    "counts",
    "memory",
    "number",
    "rate",
    "span",
    "table",
]


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[str] = ()
) -> list[str]:
    """Lines of aligned columns; those named in *left* to the left, numbers right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        cells = [
            cell.ljust(width) if name in left else cell.rjust(width)
            for name, cell, width in zip(header, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
