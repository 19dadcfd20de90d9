"""``scrapy frontier history``: the crawls that have finished within a day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.base import times
from scrapy_dist.commands import arguments, base, project
from scrapy_dist.commands.terminal import text

if TYPE_CHECKING:
    import argparse

    from scrapy.settings import Settings

    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.core.status import Finished

_DESCRIPTION = """\
Show the crawls of SPIDER that have finished within a day, the newest first and a hundred
at the most; without SPIDER, those of every spider that Redis knows. It only reads.

  took       from its first worker's start to its end     pages    acknowledged
  reason     why its last worker closed                   items    of RedisPipeline
  workers    that have taken part                         failed   dead letters it added

Exit code: 0 shown, also if there is none; 2 wrong use, Redis away."""

_COLUMNS = (
    *("SPIDER", "JOB", "STARTED", "ENDED", "TOOK", "PAGES", "ITEMS", "FAILED"),
    *("WORKERS", "REASON"),
)
_LEFT = ("SPIDER", "JOB", "STARTED", "ENDED", "REASON")


def add_options(parser: argparse.ArgumentParser) -> None:
    base.add_common_options(parser, spider_optional=True)
    arguments.json_lines(parser, "crawl")


async def run(settings: Settings, opts: argparse.Namespace) -> int:
    found: list[tuple[Crawl, Finished]] = []
    if opts.spider is not None:
        async with project.opened(project.find_crawl(settings, opts)) as crawl:
            found += [(crawl, each) for each in await crawl.history()]
            if not found:
                await crawl.known_status()
            where = crawl.where
    else:
        async with project.all_crawls(settings, opts) as crawls:
            for crawl in await crawls.find(finished=True):
                found += [(crawl, each) for each in await crawl.history()]
            where = crawls.where
    if opts.json:
        for crawl, record in found:
            names = {"spider": crawl.spider, "job": crawl.job}
            if not base.write_json({**names, **record.as_json()}):
                break
    elif found:
        base.write(*_table(found))
    else:
        of = "" if opts.spider is None else f" of {text.clean(opts.spider)}"
        base.write(f"No crawl{of} at {where} has finished within a day.")
    return base.OK


def _table(found: list[tuple[Crawl, Finished]]) -> list[str]:
    rows = [
        (
            text.clean(crawl.spider),
            text.clean(crawl.job or text.UNKNOWN),
            times.shown(record.start),
            times.shown(record.end),
            text.age(record.seconds),
            str(record.pages),
            str(record.items),
            str(record.failed),
            str(record.workers),
            text.clean(record.reason),
        )
        for crawl, record in found
    ]
    return text.table(_COLUMNS, rows, left=_LEFT)


SUBCOMMAND = base.Subcommand(
    name="history",
    summary="crawls that have finished",
    description=_DESCRIPTION,
    example="scrapy frontier history myspider --json",
    topic="watching",
    add_options=add_options,
    run=run,
)
