"""Show the largest hosts of the crawl of SPIDER (or what else FRONTIER_SLOT lets take turns),
one line each. It only reads.

  PENDING  nobody works on them       IN FLIGHT  in the hands of workers
  OWNER    who may ask it now, where FRONTIER_POLITENESS gives a host to one worker at a time;
           empty: any worker
  DELAY    seconds between two starts, for all workers together; -: each worker has its own, or
           only the settings of the project, which is not here, say it
  NEXT     when a worker may get the host: now, or in so many seconds; -: when its owner lets
           it go
  ERRORS   dead letters of it, among the newest 1,000

A host is named by its first request; one whose request cannot be read by its number (#…);
#0 has all requests of a crawl whose SCHEDULER_QUEUE_CLASS keeps them in one order. Of
more than 2,000 hosts only some are looked at: those of 1,000 requests chosen at random, which
finds the largest ones, and those that workers had last.

Exit code: 0 shown, also if there is none; 2 wrong use, Redis away.
"""

from __future__ import annotations

from scrapy_dist.base import words
from scrapy_dist.commands import base, project
from scrapy_dist.commands.options import common, option, whole
from scrapy_dist.core.hosts import SORTS, Host, Hosts

#: Hosts shown by default, and at the most.
_SHOWN, _MOST = 20, 1000


COLUMNS = ("HOST", "PENDING", "IN FLIGHT", "OWNER", "DELAY", "NEXT", "ERRORS")
#: Those with names, to the left.
LEFT = ("HOST", "OWNER")

#: Seconds below which a worker may get a host now.
_NOW = 0.05


def cells(host: Host) -> tuple[str, ...]:
    """What each column has of *host*."""
    return (
        words.clean(host.name, 80) or words.UNKNOWN,
        words.number(host.pending),
        words.number(host.leased),
        " ".join(words.clean(owner, 60) for owner in host.owners),
        words.span(host.delay),
        _next_start(host),
        words.number(host.errors),
    )


def _next_start(host: Host) -> str:
    if host.wait is None:
        return words.UNKNOWN
    return "now" if host.wait < _NOW else words.age(host.wait)


def summary(found: Hosts) -> str:
    """How many there are, and how they stand."""
    said = f"{words.number(len(found.hosts))} of {words.count(found.looked_at, 'host')}"
    if found.slots > found.looked_at:
        said += f" that were looked at, of {words.number(found.slots)}"
    said += f", {words.count(found.pending, 'pending request')}"
    if found.polite:
        said += f"; {found.owned:,} owned, {found.waiting:,} wait for their delay"
    return said


async def _run(crawl: project.Crawl, opts: base.Namespace) -> int:
    await crawl.known_status()
    found = await crawl.hosts(opts.count, opts.sort)
    value = {"spider": crawl.spider, "job": crawl.job, **found.as_json()}
    base.tell(opts, value, _lines(crawl, found))
    return base.OK


def _lines(crawl: project.Crawl, found: Hosts) -> list[str]:
    if not found.looked_at:
        return [f"No host of {words.clean(crawl.name)} has a request."]
    rows = [*map(cells, found.hosts)]
    lines = words.table(COLUMNS, rows, left=LEFT) if rows else []
    return [*lines, f"{summary(found)}."]


SUBCOMMAND = base.Subcommand(
    name="hosts",
    summary="the largest hosts: what waits, who has them, and when they are next",
    description=__doc__,
    example="scrapy frontier hosts myspider --sort errors -n 50",
    topic="watching",
    options=(
        *common(),
        option(
            "--sort",
            None,
            "the largest first by pending requests (without it), delay or errors",
            choices=SORTS,
            default=SORTS[0],
        ),
        option(
            "-n",
            "N",
            f"show N hosts; {_SHOWN} without it",
            dest="count",
            type=whole(0, _MOST),
            default=_SHOWN,
        ),
    ),
    run=project.of_crawl(_run),
)
