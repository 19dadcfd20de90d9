"""How fast one worker is that waits for its hosts, beside Scrapy's own scheduler.

One page links to all others, host after host: a flat queue would hand them out so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.benchmarks.bench import MEMORY, OURS, Bench, Run
from tests.benchmarks.pairs import alternate, compare

if TYPE_CHECKING:
    from tests.benchmarks.figures import Figure

#: Seconds of DOWNLOAD_DELAY.
DELAY = 0.25
MEMORY_NAME = "memory scheduler"
#: How long hosts take, in ms, from the first to the last.
LATENCIES = "20/2000"


@dataclass(frozen=True)
class Visit:
    """*pages* of each of *hosts* under *settings*; a quick run has fewer."""

    name: str
    hosts: int
    pages: int
    quick: int
    latencies: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


VISITS = (
    Visit("delay 0.25 s, 6 hosts", 6, 40, 10, settings={"DOWNLOAD_DELAY": DELAY}),
    Visit("delay 0.25 s, 60 hosts", 60, 30, 8, settings={"DOWNLOAD_DELAY": DELAY}),
    Visit(
        "no delay, 200 hosts that take 20 to 2,000 ms",
        200,
        8,
        2,
        latencies=f"/{LATENCIES}",
        settings={"CONCURRENT_REQUESTS": 100, "CONCURRENT_REQUESTS_PER_DOMAIN": 8},
    ),
)


def run(bench: Bench, pairs: int, *, quick: bool, only: str = "") -> list[Figure]:
    """Pages/s of each visit."""
    return [
        _of_visit(bench, visit, pairs, visit.quick if quick else visit.pages)
        for visit in VISITS
        if only in visit.name
    ]


def _of_visit(bench: Bench, visit: Visit, pairs: int, pages: int) -> Figure:
    path = f"/hosts/{visit.hosts}/{pages}{visit.latencies}"
    count = visit.hosts * pages + 1

    def crawl(library: str) -> Run:
        bench.clear()
        site = bench.town(visit.hosts)
        run = bench.run(library, path, count, site=site.url, settings=visit.settings)
        assert len(site.log()) == count, f"{len(site.log())} requests for {count} pages"
        return run

    found = alternate(partial(crawl, MEMORY), {OURS: partial(crawl, OURS)}, pairs)
    return compare(
        f"pages/s of one worker, {visit.name}",
        found[OURS],
        lambda run: run.rate,
        unit="pages/s",
        base_name=MEMORY_NAME,
        at_least=0.97,
        note=f"{count} pages, queued host after host",
    )
