"""Show the crawls of SPIDER that have finished within a day, the newest first and a hundred
at the most; without SPIDER, those of every spider that Redis knows. It only reads.

  took       from its first worker's start to its end     pages    acknowledged
  reason     why its last worker closed                   items    of RedisPipeline
  workers    that have taken part                         failed   dead letters it added

Exit code: 0 shown, also if there is none; 2 wrong use, Redis away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.base import times, words
from scrapy_dist.commands import base, project
from scrapy_dist.commands.options import common

if TYPE_CHECKING:
    from scrapy.settings import Settings

    from scrapy_dist.core.status import Finished

_COLUMNS = (
    *("SPIDER", "JOB", "STARTED", "ENDED", "TOOK", "PAGES", "ITEMS", "FAILED"),
    *("WORKERS", "REASON"),
)
_LEFT = ("SPIDER", "JOB", "STARTED", "ENDED", "REASON")


async def _run(settings: Settings, opts: base.Namespace) -> int:
    found: list[tuple[project.Crawl, Finished]] = []
    if opts.spider is not None:
        async with project.opened(project.find_crawl(settings, opts)) as crawl:
            found += [(crawl, each) for each in await crawl.port.history()]
            if not found:
                await crawl.known_status()
            where = crawl.where
    else:
        async with project.all_crawls(settings, opts) as crawls:
            for crawl in await crawls.find(finished=True):
                found += [(crawl, each) for each in await crawl.port.history()]
            where = crawls.where
    if opts.json:
        for crawl, record in found:
            names = {"spider": crawl.spider, "job": crawl.job}
            if not base.write_json({**names, **record.as_json()}):
                break
    elif found:
        base.write(*_table(found))
    else:
        of = "" if opts.spider is None else f" of {words.clean(opts.spider)}"
        base.write(f"No crawl{of} at {where} has finished within a day.")
    return base.OK


def _table(found: list[tuple[project.Crawl, Finished]]) -> list[str]:
    rows = [
        (
            words.clean(crawl.spider),
            words.clean(crawl.job or words.UNKNOWN),
            times.shown(record.start),
            times.shown(record.end),
            words.age(record.seconds),
            *map(
                words.number,
                (record.pages, record.items, record.failed, record.workers),
            ),
            words.clean(record.reason),
        )
        for crawl, record in found
    ]
    return words.table(_COLUMNS, rows, left=_LEFT)


SUBCOMMAND = base.Subcommand(
    name="history",
    summary="crawls that have finished",
    description=__doc__,
    example="scrapy frontier history myspider --json",
    topic="watching",
    options=common(spider_optional=True, a_line_for="crawl"),
    run=_run,
)
