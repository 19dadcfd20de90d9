"""The table, the JSON and the plots of the benchmarks."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import Curve, Figure
from tests.support.redis_server import find_binary

ROOT = Path(__file__).resolve().parents[2]
#: Characters of a figure's name, and of a line of its note.
_NAME, _NOTE = 58, 112
#: What names of figures say of the distance to Redis, of rates that a plot shows.
_RATE = re.compile(r"pages/s of one worker, .*Redis (on loopback|(\d+) ms away)$")
_THEIRS = "the same, Redis {}, against scrapy-redis"


def circumstances() -> dict[str, Any]:
    """The machine, the versions, the commit and the time."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "scrapy": metadata.version("scrapy"),
        "redis-py": metadata.version("redis"),
        "server": _output([find_binary(), "--version"]),
        "commit": _output(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text("utf-8") if info.exists() else ""
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _memory() -> str:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{size / 2**30:.0f} GiB"


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def table(sections: dict[str, Sequence[Figure]], info: dict[str, Any]) -> str:
    """All figures as text, one row for each, and their notes below."""
    lines = [
        "{cpu}, {cores} cores, {memory}; Python {python}, Scrapy {scrapy}",
        "{server}; commit {commit}, {date}",
    ]
    lines = [line.format_map(info) for line in lines]
    notes = []
    for section, figures in sections.items():
        lines += ["", f"{section:{_NAME}}{'ours':>10}{'base':>10}{'ratio':>8}  target"]
        for figure in figures:
            notes.append(figure)
            lines += _row(figure, len(notes))
    lines += ["", "Notes"]
    for number, figure in enumerate(notes, 1):
        base = f"base: {figure.base_name}" if figure.base_name else ""
        note = "; ".join(filter(None, [f"in {figure.unit}", base, figure.note]))
        lines += textwrap.wrap(
            note, _NOTE, initial_indent=f"{number:3}  ", subsequent_indent=" " * 5
        )
    return "\n".join(lines) + "\n"


def _row(figure: Figure, number: int) -> list[str]:
    name, *more = textwrap.wrap(f"{number:3}  {figure.name}", _NAME - 1)
    base = "" if figure.base is None else show(figure.base)
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
    row = f"{name:{_NAME}}{show(figure.ours):>10}{base:>10}{ratio:>8}"
    row += f"  {figure.target:14}{verdict}"
    return [row.rstrip(), *(f"     {line}" for line in more)]


def show(value: float) -> str:
    """*value* with about three digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def rates(figures: Iterable[Figure]) -> list[Curve]:
    """Bars of one worker's rate, as far as it was measured, by the distance to Redis."""
    by_name = {figure.name: figure for figure in figures}
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    labels: list[str] = []
    for name, figure in by_name.items():
        found = _RATE.match(name)
        if found is None or figure.ratio is None or not figure.base:
            continue
        at = len(labels)
        labels.append(f"{found[2]} ms" if found[2] else "loopback")
        ours.append((at, figure.ratio))
        other = by_name.get(_THEIRS.format(found[1]))
        if other is not None and other.base is not None:
            theirs.append((at, other.base / figure.base))
    if not labels:
        return []
    series = {"scrapy-dist": ours, "scrapy-redis": theirs}
    return [
        Curve(
            title="Speed of one worker, against Scrapy's own scheduler",
            x_label="round trip to Redis",
            y_label="pages per second, memory scheduler = 1",
            series={label: points for label, points in series.items() if points},
            file="speed",
            labels=labels,
            level=(1.0, "memory scheduler"),
        )
    ]


def write(
    folder: Path,
    text: str,
    sections: dict[str, Sequence[Figure]],
    curves: Sequence[Curve],
    info: dict[str, Any],
) -> None:
    """Write figures.txt, figures.json and, where matplotlib is installed, plots."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.txt").write_text(text, "utf-8")
    data = {
        "circumstances": info,
        "figures": {
            name: [f.as_dict() for f in found] for name, found in sections.items()
        },
        "curves": [curve.as_dict() for curve in curves],
    }
    (folder / "figures.json").write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    try:
        from tests.benchmarks.plots import plot
    except ImportError:
        print("No plots: pip install matplotlib")
        return
    for curve in curves:
        plot(curve, folder / f"{curve.file}.png")
