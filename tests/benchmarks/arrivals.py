"""Draws when the requests of three workers arrive at one host, for README.

    python -m tests.benchmarks.arrivals

Above, each worker keeps the delay for itself; below, with FRONTIER_POLITENESS.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Canvas

from tests.benchmarks.bench import Bench
from tests.benchmarks.host_crawls import manners
from tests.benchmarks.plots import COLORS, DPI

PATH = Path(__file__).parent / "results" / "arrivals.png"
WORKERS, PAGES, DELAY = 3, 18, 0.5


def draw(axes: Any, title: str, arrivals: Sequence[tuple[float, str]]) -> None:
    """*arrivals*: seconds and the name of the worker, of each request."""
    first = min(time for time, _ in arrivals)
    names = [f"worker {n}" for n in range(1, WORKERS + 1)]
    for row, (color, worker) in enumerate(zip(COLORS, names, strict=False)):
        times = [time - first for time, name in arrivals if name == worker]
        axes.eventplot(times, colors=color, lineoffsets=-row, linelengths=0.8)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_ylim(0.6 - WORKERS, 0.6)
    axes.set_yticks([-row for row in range(WORKERS)], names, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    canvas = Canvas(figsize=(7.0, 2.8), dpi=DPI, layout="constrained")
    rows = canvas.subplots(2, sharex=True)
    with Bench() as bench:
        for axes, politeness in zip(rows, (False, True), strict=True):
            seen = manners(bench, WORKERS, 1, PAGES, politeness=politeness, delay=DELAY)
            name = "FRONTIER_POLITENESS = True" if politeness else "each for itself"
            title = f"{name}: shortest gap {min(seen.gaps) * 1000:.0f} ms"
            draw(axes, title, seen.arrivals)
    rows[1].set_xlabel(
        f"seconds; one line is a request at the host; DOWNLOAD_DELAY = {DELAY}"
    )
    canvas.savefig(PATH)


if __name__ == "__main__":
    main()
