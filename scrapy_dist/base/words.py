"""How numbers, times and names are put into words, and these into columns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Pairs of units, with the seconds of each.
_UNITS = (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))
#: Seconds below which tenths are told.
_TENTHS = 10
#: What stands for an unknown value.
UNKNOWN = "-"


def clean(value: str, limit: int = 200) -> str:
    """*value* without what moves a terminal's cursor, and without passwords of URLs."""
    return quote(value, limit)[1:-1]


def number(value: int) -> str:
    """*value* with a comma between thousands."""
    return f"{value:,}"


def count(value: int, one: str, many: str = "") -> str:
    """*value* of what is called *one*: ``1 worker``, ``2,000 workers``.

    *many* is what more, or none, are called, if it is not *one* with an s.
    """
    return f"{number(value)} {one if value == 1 else many or f'{one}s'}"


def counts(values: Mapping[str, int], nouns: Mapping[str, str]) -> list[str]:
    """Each of *values*: ``5 pending``, or with one of what *nouns* calls it ``2 seeds``."""
    return [
        count(value, nouns[name]) if name in nouns else f"{number(value)} {name}"
        for name, value in values.items()
    ]


def rate(value: float) -> str:
    """Pages per second, without the unit: 0.0, 41.5, 1,204."""
    return f"{value:.1f}" if value < 999.95 else f"{value:,.0f}"


def age(seconds: float | None) -> str:
    """A length of time in at most two units: 0.3 s, 12 s, 3 min 5 s, 2 h 10 min, 4 d."""
    if seconds is None or math.isnan(seconds):
        return UNKNOWN
    if seconds < _TENTHS:
        return f"{max(seconds, 0.0):.1f}".removesuffix(".0") + " s"
    if math.isinf(seconds):
        return "forever"
    whole = int(seconds)
    for large, size, small, part in _UNITS:
        if whole >= size:
            rest = whole % size // part
            return f"{number(whole // size)} {large}" + f" {rest} {small}" * (rest > 0)
    return f"{whole} s"


def span(seconds: float | None) -> str:
    """A length of time that somebody has chosen, exactly as far as that: 0.25 s."""
    if seconds is None:
        return UNKNOWN
    return f"{seconds:g} s" if seconds < _TENTHS else age(seconds)


def memory(size: int | None) -> str:
    """Bytes in megabytes."""
    return UNKNOWN if size is None else f"{size / 1e6:,.0f} MB"


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
