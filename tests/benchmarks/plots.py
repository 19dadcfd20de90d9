"""Plots of the benchmarks, for the README."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, NullLocator

if TYPE_CHECKING:
    from pathlib import Path

    from tests.benchmarks.figures import Curve

#: Ours first.
COLORS = ("#1f5fa8", "#d9822b", "#6b8e23", "#7a5195")
GREY = "#666666"
#: Inches, and dots per inch.
SIZE, DPI = (7.0, 4.0), 150
#: Ticks that a logarithmic axis names by its points, not by powers of ten.
_TICKS = 8


def plot(curve: Curve, path: Path) -> None:
    """Draw *curve* as a PNG."""
    canvas = Canvas(figsize=SIZE, dpi=DPI, layout="constrained")
    axes = canvas.subplots()
    if curve.labels:
        _bars(axes, curve)
    else:
        _lines(axes, curve)
    if curve.level is not None:
        height, name = curve.level
        axes.axhline(height, color=GREY, linewidth=1, linestyle="--", label=name)
    if not curve.log_y:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(_short))
    axes.set_title(curve.title, loc="left", fontsize=11)
    axes.set_xlabel(curve.x_label)
    axes.set_ylabel(curve.y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    if len(curve.series) > 1 or curve.level is not None:
        canvas.legend(
            *axes.get_legend_handles_labels(),
            loc="outside lower center",
            ncols=2,
            frameon=False,
            fontsize=9,
        )
    canvas.savefig(path)


def _lines(axes: Any, curve: Curve) -> None:
    for (name, points), color in zip(curve.series.items(), COLORS, strict=False):
        x, y = zip(*points, strict=True)
        axes.plot(x, y, marker="o", markersize=4, color=color, label=name)
    if curve.log_x:
        axes.set_xscale("log")
        places = sorted({x for points in curve.series.values() for x, _ in points})
        if len(places) <= _TICKS:
            axes.set_xticks(places)
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(_short))
    if curve.log_y:
        axes.set_yscale("log")


def _bars(axes: Any, curve: Curve) -> None:
    width = 0.8 / len(curve.series)
    for n, (name, points) in enumerate(curve.series.items()):
        shift = width * (n - (len(curve.series) - 1) / 2)
        bars = axes.bar(
            [x + shift for x, _ in points],
            [y for _, y in points],
            width * 0.92,
            color=COLORS[n],
            label=name,
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=9, padding=2)
    axes.set_xticks(range(len(curve.labels)), curve.labels)


def _short(value: float, _: object = None) -> str:
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
