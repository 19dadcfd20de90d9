"""Charts as SVG, drawn here: numbers only, so nothing of them needs to be escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from scrapy_dist.base import words

#: Measures that are kept of one crawl, and seconds between two of them at first.
MOST, _EVERY = 240, 2.0
#: Size of a chart, and room for its numbers.
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 480, 200, 48, 22, 10


class Rates:
    """How many pages a crawl has done at which time; the longer, the fewer moments.

    When there are more than `MOST`, every other goes: the whole time is still there.
    """

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = []
        self._every = _EVERY

    def add(self, at: float, pages: int) -> None:
        """*pages* were done at *at* seconds of a clock; fewer than before: a new crawl."""
        points = self._points
        if points and (pages < points[-1][1] or at < points[-1][0]):
            points.clear()
            self._every = _EVERY
        if len(points) > 1 and at - points[-2][0] < self._every:
            points[-1] = (at, pages)
        else:
            points.append((at, pages))
        if len(points) > MOST:
            self._points = points[::2]
            self._every *= 2

    def rates(self) -> list[tuple[float, float]]:
        """The end of each interval, and its pages per second."""
        pairs = zip(self._points, self._points[1:], strict=False)
        return [(b[0], (b[1] - a[1]) / (b[0] - a[0])) for a, b in pairs if b[0] > a[0]]


def rate_chart(rates: Sequence[tuple[float, float]]) -> Markup:
    """Pages per second over time, the newest at the right; says so in words, too."""
    if len(rates) < 2:
        return Markup("")
    first, last = rates[0][0], rates[-1][0]
    span = max(last - first, 1e-9)
    top = _round_up(max(rate for _, rate in rates))
    wide, high = _WIDTH - _LEFT - 8, _HEIGHT - _BOTTOM - _TOP

    def place(at: float, rate: float) -> str:
        x = _LEFT + wide * (at - first) / span
        return f"{x:.1f},{_TOP + high * (1 - rate / top):.1f}"

    line = " ".join(place(at, rate) for at, rate in rates)
    base = _TOP + high
    area = f"{_LEFT},{base} {line} {_LEFT + wide},{base}"
    values = [rate for _, rate in rates]
    said = (
        f"Pages per second in the last {words.age(span)}: now {words.rate(values[-1])},"
        f" at least {words.rate(min(values))}, at most {words.rate(max(values))}"
    )
    head = (
        f'<svg class="chart" role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        f' aria-label="{escape(said)}"><title>{escape(said)}</title>'
    )
    parts = [
        head,
        *_grid(top, wide, high),
        f'<polygon class="area" points="{area}"/>',
        f'<polyline class="line" points="{line}"/>',
        f'<text x="{_LEFT}" y="{_HEIGHT - 4}">{words.age(span)} ago</text>',
        f'<text x="{_LEFT + wide}" y="{_HEIGHT - 4}" text-anchor="end">now</text>',
        "</svg>",
    ]
    return Markup("".join(parts))  # noqa: S704  numbers, and what is escaped


def _grid(top: float, wide: int, high: int) -> list[str]:
    lines = []
    for share in (0.0, 0.5, 1.0):
        y = _TOP + high * (1 - share)
        lines.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + wide}" y1="{y:.1f}"'
            f' y2="{y:.1f}"/><text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{top * share:,.4g}</text>"
        )
    return lines


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, … that is not below *value*."""
    if value <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return next(size * step for step in (1, 2, 5, 10) if size * step >= value * 0.999)
