"""``scrapy frontier status``: how one crawl stands, or all of a Redis."""

from __future__ import annotations

import argparse
import asyncio
import math
from typing import TYPE_CHECKING

from scrapy_dist.commands import base, project
from scrapy_dist.commands.terminal import text
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable
from scrapy_dist.redis_client.client import describe

if TYPE_CHECKING:
    from scrapy.settings import Settings

    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.core.status import Status

#: Crawls that are asked at the same time.
_AT_ONCE = 10

_DESCRIPTION = """\
Show how the crawl of SPIDER stands; without SPIDER, every crawl that Redis knows, one
line each. It only reads, and costs Redis less than a millisecond.

  pending    requests that nobody works on      failed   set aside, with a reason
  leased     requests in the hands of workers   seen     fingerprints
  suspect    their worker died                  seeds    waiting in start_urls
  left       time for all of them at the rate of the last minute

State: running, paused, idle (workers wait for seeds), stopped (something is left, and no
worker is there), done, none (no frontier: not begun, or finished and cleared).

Exit code: 0 shown, 2 not."""

_COLUMNS = (
    *("SPIDER", "JOB", "STATE", "WORKERS", "SILENT", "PENDING", "LEASED", "SUSPECT"),
    *("FAILED", "SEEN", "SEEDS", "ITEMS", "PAGES", "PAGES/S", "LEFT"),
)


#: Seconds in which Redis has to answer all that is asked, without --timeout.
_TIMEOUT = 5.0


def add_options(parser: argparse.ArgumentParser) -> None:
    base.add_common_options(parser, spider_optional=True)
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=_TIMEOUT,
        help=f"time that Redis has to answer; {_TIMEOUT:g} without it",
    )


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{value!r} is no time up to 86400 s")
    return seconds


async def run(settings: Settings, opts: argparse.Namespace) -> int:
    try:
        return await asyncio.wait_for(_run(settings, opts), opts.timeout)
    except asyncio.TimeoutError:
        raise RedisUnavailable(
            f"Redis has not answered for {opts.timeout:g} s"
            f" ({describe(settings)}). Is it frozen, or cut off? --timeout"
            " gives it more time."
        ) from None


async def _run(settings: Settings, opts: argparse.Namespace) -> int:
    if opts.spider is None:
        return await _show_all(settings, opts)
    async with project.opened(project.find_crawl(settings, opts)) as crawl:
        status = await crawl.known_status()
    if opts.json:
        base.write_json(status.as_json())
    else:
        base.write(*_lines(status))
    return base.OK


async def _show_all(settings: Settings, opts: argparse.Namespace) -> int:
    async with project.all_crawls(settings, opts) as crawls:
        limit = asyncio.Semaphore(_AT_ONCE)

        async def read(crawl: Crawl) -> Status | ConfigurationError:
            async with limit:
                try:
                    return await crawl.status()
                except ConfigurationError as e:
                    return e

        found = await asyncio.gather(*map(read, await crawls.find()))
        where = crawls.where
    statuses = [each for each in found if not isinstance(each, ConfigurationError)]
    errors = [each for each in found if isinstance(each, ConfigurationError)]
    if opts.json:
        base.write_json([status.as_json() for status in statuses])
    elif statuses:
        base.write(*_table(statuses))
    elif not errors:
        base.write(f"There is no frontier at {where}.")
    for error in errors:
        base.warn("status", str(error))
    return base.TROUBLE if errors else base.OK


def _table(statuses: list[Status]) -> list[str]:
    rows = [
        (
            text.clean(status.spider),
            text.clean(status.job or text.UNKNOWN),
            status.phase,
            str(len(status.alive)),
            str(len(status.workers) - len(status.alive)),
            str(status.pending),
            str(status.leased),
            str(status.suspect),
            str(status.failed),
            str(status.seen),
            str(status.seeds),
            str(status.items),
            str(status.pages),
            text.rate(status.pages_per_second),
            text.age(status.seconds_left),
        )
        for status in statuses
    ]
    return text.table(_COLUMNS, rows, left=_COLUMNS[:3])


def _lines(status: Status) -> list[str]:
    alive, silent = len(status.alive), len(status.workers) - len(status.alive)
    rows = {
        "spider": text.clean(status.spider),
        "job": text.clean(status.job or text.UNKNOWN),
        "redis": status.redis,
        "state": _PHASES[status.phase],
        "workers": f"{alive} alive, {silent} silent",
        "pending": str(status.pending),
        "leased": str(status.leased),
        "suspect": str(status.suspect),
        "failed": str(status.failed),
        "seen": str(status.seen),
        "seeds": str(status.seeds),
        "items": str(status.items),
        "pages": str(status.pages),
        "pages/s": text.rate(status.pages_per_second),
        "left": text.age(status.seconds_left),
    }
    if status.failed:
        job = f" --job {status.job}" if status.job else ""
        rows["failed"] += f"  (scrapy frontier failed {rows['spider']}{job})"
    return [f"{name:<8} {value}" for name, value in rows.items()]


_PHASES = {
    "running": "running",
    "paused": "paused: go on with scrapy frontier resume",
    "idle": "idle: nothing is left, the workers wait for seeds",
    "stopped": "stopped: something is left, and no worker is there",
    "done": "done",
    "none": "none: not begun, or finished and cleared",
}

SUBCOMMAND = base.Subcommand(
    name="status",
    summary="how a crawl stands, or all crawls",
    description=_DESCRIPTION,
    example="scrapy frontier status myspider --json",
    topic="watching",
    add_options=add_options,
    run=run,
)
