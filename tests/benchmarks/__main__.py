"""All benchmarks.

    python -m tests.benchmarks [--quick] [--only SECTION] [--pairs 5] [--out DIR]

Prints one table. A whole run, and one with --out, also writes it, with all samples as
JSON and with plots. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.figures import Curve, Figure

#: Modules, each with ``run(quick, pairs)``.
SECTIONS = ("crawls", "hosts", "capacity", "memory", "long_queues")
RESULTS = Path(__file__).with_name("results")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Run the benchmarks."
    )
    parser.add_argument("--quick", action="store_true", help="rough figures, soon")
    parser.add_argument(
        "--only",
        choices=SECTIONS,
        action="append",
        help="this section, may be repeated",
    )
    parser.add_argument("--pairs", type=int, default=5, help="rounds, default 5")
    parser.add_argument(
        "--out", type=Path, help=f"where to write, default of whole runs: {RESULTS}"
    )
    options = parser.parse_args()
    if options.pairs < 1:
        parser.error("--pairs must be at least 1")
    info = report.circumstances()
    sections: dict[str, list[Figure]] = {}
    curves: list[Curve] = []
    for name in options.only or SECTIONS:
        started = time.monotonic()
        found = import_module(f"tests.benchmarks.{name}").run(
            options.quick, options.pairs
        )
        sections[name] = [part for part in found if isinstance(part, Figure)]
        curves += [part for part in found if isinstance(part, Curve)]
        print(
            f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True
        )
    curves += report.rates(figure for part in sections.values() for figure in part)
    text = report.table(sections, info)
    print(text, end="")
    folder = options.out
    if folder is None and not options.quick and not options.only:
        folder = RESULTS
    if folder is not None:
        report.write(folder, text, sections, curves, info)


if __name__ == "__main__":
    main()
