"""How fast one worker is that waits for its hosts, beside Scrapy's own scheduler.

One page links to all others, host after host: a flat queue would hand them out so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from tests.benchmarks.bench import MEMORY, OURS, Bench, Run
from tests.benchmarks.figures import Figure
from tests.benchmarks.pairs import alternate, below, compare
from tests.support.redis_state import wait_for_workers
from tests.support.site import arrivals_of
from tests.support.site_server import host

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


@dataclass(frozen=True)
class Manners:
    """What several workers did: *gaps* at the site in seconds, of all hosts.

    *starts*: the same, between starts in the workers. *seconds*: from the first page to the
    last one, *begun*: until all hosts had their first one.
    """

    gaps: list[float]
    starts: list[float]
    pages: int
    seconds: float
    begun: float
    delay: float
    #: When each request arrived, and of which worker it was.
    arrivals: list[tuple[float, str]]

    @property
    def rate(self) -> float:
        """Pages/s of a host since its first one, to those that the delay allows."""
        return self.delay * len(self.gaps) / sum(self.gaps)

    def short(self, gaps: list[float]) -> int:
        """Those of *gaps* shorter than the delay by more than 2 ms."""
        return sum(gap < self.delay - 0.002 for gap in gaps)


def polite(bench: Bench, *, quick: bool, politeness: bool = True) -> list[Figure]:
    """Gaps and rates at the site, for 1 to 4 workers and 1 to 60 hosts."""
    figures = []
    for workers in (1, 3) if quick else (1, 2, 3, 4):
        for hosts in (1, 6, 60):
            pages = (20 if hosts < 60 else 8) if quick else 40
            seen = manners(bench, workers, hosts, pages, politeness=politeness)
            name = f"{workers} worker(s), {hosts} host(s), delay {DELAY} s"
            for where, gaps in (("the site", seen.gaps), ("the workers", seen.starts)):
                figures.append(
                    below(
                        f"gaps at {where} shorter than the delay by more than 2 ms, {name}",
                        [seen.short(gaps)],
                        unit=f"of {len(gaps)}",
                        at_most=0,
                        note=f"the shortest {min(gaps) * 1000:.1f} ms",
                    )
                )
            figures.append(
                Figure(
                    name=f"rate at the site, {name}",
                    ours=seen.rate,
                    unit="of the rate allowed",
                    target=">= 0.97",
                    met=round(seen.rate, 2) >= 0.97,
                    note=f"{seen.pages} pages in {seen.seconds:.1f} s, all hosts have"
                    f" begun after {seen.begun:.2f} s",
                )
            )
    return figures


def manners(
    bench: Bench,
    workers: int,
    hosts: int,
    pages: int,
    *,
    politeness: bool,
    delay: float = DELAY,
) -> Manners:
    """Let *workers* crawl *pages* of each of *hosts*, and look at the site's log."""
    bench.clear()
    site = bench.town(hosts)
    site.pause()
    settings = {
        "DOWNLOAD_DELAY": delay,
        "DOWNLOAD_DELAY_JITTER": 0.0,
        "RANDOMIZE_DOWNLOAD_DELAY": False,
        "FRONTIER_POLITENESS": politeness,
    }
    count = hosts * pages
    crawls = [
        bench.start(
            OURS,
            f"/hosts/{hosts}/{pages}",
            count + 1,
            site=site.url,
            settings={**settings, "USER_AGENT": f"worker {n + 1}"},
            starts=True,
        )
        for n in range(workers)
    ]
    with bench.redis.client() as client:
        wait_for_workers(client, "bench", workers)
    site.resume()
    runs = [crawl.result() for crawl in crawls]
    log = [hit for hit in site.log() if hit.host != "127.0.0.1"]
    assert len(log) == count, f"{len(log)} requests for {count} pages"
    hits = [arrivals_of(log, host(n)) for n in range(hosts)]
    starts = [
        sorted(time for run in runs for at, time in run.starts if at == host(n))
        for n in range(hosts)
    ]
    first = min(times[0] for times in hits)
    return Manners(
        gaps=_between(hits),
        starts=_between(starts),
        pages=count - hosts,  # the first one of each waits for nothing
        seconds=max(times[-1] for times in hits) - first,
        begun=max(times[0] for times in hits) - first,
        delay=delay,
        arrivals=[(hit.time, hit.agent) for hit in log],
    )


def _between(hosts: list[list[float]]) -> list[float]:
    """Seconds between neighbours, of all *hosts*."""
    return [later - time for times in hosts for time, later in pairwise(times)]
