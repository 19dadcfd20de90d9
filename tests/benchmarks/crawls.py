"""Real crawls, side by side with Scrapy's memory scheduler and with scrapy-redis.

    python -m tests.benchmarks.crawls [--quick] [--pairs 5] [--only SECTION] [--json FILE]

Every run is a process of its own that crawls a loopback site; a proxy puts Redis some
milliseconds away. Runs alternate, and figures are medians of ratios of neighbours: quote
those, single figures of a busy machine mean nothing. scrapy-redis takes part if this
Python has it, or if SCRAPY_REDIS_PYTHON names one that has.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks import rates, waits
from tests.benchmarks.bench import Bench

if TYPE_CHECKING:
    from tests.benchmarks.figures import Figure

SECTIONS = {
    section.__name__: section
    for section in (
        rates.speed,
        rates.signed,
        rates.seeds,
        rates.chain,
        waits.gaps,
        waits.latency,
        waits.end,
        waits.idle,
        waits.memory,
    )
}


def run(quick: bool, pairs: int, only: str = "") -> list[Figure]:
    """All figures, or those of one section."""
    figures = []
    with Bench() as bench:
        for name, section in SECTIONS.items():
            if only in ("", name):
                figures += section(bench, pairs, quick=quick)
    return figures


def show(figures: list[Figure]) -> None:
    """One row a figure, and its circumstances below it."""
    print(f"{'':66}{'ours':>9}{'base':>9}{'ratio':>7}  target")
    for figure in figures:
        base = "" if figure.base is None else f"{figure.base:.4g}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
        name = f"{figure.name}, {figure.unit}"
        print(
            f"{name:66}{figure.ours:9.4g}{base:>9}{ratio:>7}  {figure.target} {verdict}"
        )
        print(f"    {figure.note}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="short runs, rough figures"
    )
    parser.add_argument("--pairs", type=int, default=5, help="rounds, default 5")
    parser.add_argument("--only", choices=SECTIONS, default="", help="one section")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    figures = run(options.quick, options.pairs, options.only)
    show(figures)
    if options.json:
        rows = [figure.as_dict() for figure in figures]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
