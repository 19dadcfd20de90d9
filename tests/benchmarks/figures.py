"""One row of the table that the benchmarks end in."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Figure:
    """A measured figure beside what it is compared with and what it must reach.

    *name* is the text of its row, *ours* the median in *unit*, *base* the median of
    *base_name* (Scrapy's memory scheduler, scrapy-redis) in the same unit. *ratio* is
    the median of the ratios pair by pair, ours to base. *target* is text such as
    ``>= 0.97``; *met* is None where there is none. *samples* are the figures (or the
    ratios, where a ratio is the figure) that the median is taken of.
    """

    name: str
    ours: float
    unit: str
    base: float | None = None
    base_name: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    samples: list[Any] = field(default_factory=list)
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The figure as JSON has it."""
        return asdict(self)


@dataclass
class Curve:
    """A plot: lines, or for *labels* on the x axis groups of bars.

    *series* are points (x, y) by what they show; x of a bar is the place of its label.
    *level* is a horizontal line with its name, for a target. *file* has no suffix.
    """

    title: str
    x_label: str
    y_label: str
    series: dict[str, list[tuple[float, float]]]
    file: str
    log_x: bool = False
    log_y: bool = False
    labels: list[str] = field(default_factory=list)
    level: tuple[float, str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The curve as JSON has it."""
        return asdict(self)
