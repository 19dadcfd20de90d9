"""Many hosts: what they cost Redis, and how fast workers are that wait for hosts.

    python -m tests.benchmarks.hosts [--quick] [--pairs 5] [--only NAME]

NAME is ``redis``, ``polite``, or a part of the name of a crawl.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tests.benchmarks import host_capacity, host_crawls
from tests.benchmarks.bench import Bench
from tests.benchmarks.crawls import show

if TYPE_CHECKING:
    from tests.benchmarks.figures import Figure


def run(quick: bool, pairs: int, only: str = "") -> list[Figure]:
    """All figures of hosts, or those of *only*."""
    figures = []
    if only != "redis":
        with Bench() as bench:
            figures += host_crawls.run(bench, pairs, quick=quick, only=only)
            if only in ("", "polite"):
                figures += host_crawls.polite(bench, quick=quick)
    if only in ("", "redis"):
        figures += host_capacity.run(quick=quick, rounds=pairs)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="short, rough figures")
    parser.add_argument("--pairs", type=int, default=5, help="rounds, default 5")
    parser.add_argument("--only", default="", help="redis, polite, or a part of a name")
    options = parser.parse_args()
    show(run(options.quick, options.pairs, options.only))


if __name__ == "__main__":
    main()
