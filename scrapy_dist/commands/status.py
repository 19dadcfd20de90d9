"""Show how the crawl of SPIDER stands; without SPIDER, every crawl that Redis knows, one
line each. It only reads, and costs Redis less than a millisecond.

  pending    requests that nobody works on      failed   set aside, with a reason
  leased     requests in the hands of workers   seen     fingerprints
  suspect    their worker died                  seeds    waiting in start_urls
  left       time for all of them at the rate of the last minute

State: running, paused, idle (workers wait for seeds), stopped (something is left, and no
worker is there), done, none (no frontier: not begun, or finished and cleared).

Exit code: 0 shown, 2 not.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from scrapy_dist.admin.crawls import read_statuses
from scrapy_dist.base import words
from scrapy_dist.base.waits import wait_for
from scrapy_dist.commands import base, project
from scrapy_dist.commands.options import common, number, option
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.redis_client.client import describe

if TYPE_CHECKING:
    from scrapy.settings import Settings

    from scrapy_dist.core.status import Status

_COLUMNS = (
    *("SPIDER", "JOB", "STATE", "WORKERS", "SILENT", "PENDING", "LEASED", "SUSPECT"),
    *("FAILED", "SEEN", "SEEDS", "ITEMS", "PAGES", "PAGES/S", "LEFT"),
)


#: Seconds in which Redis has to answer all that is asked, without --timeout.
_TIMEOUT = 5.0


async def _run(settings: Settings, opts: base.Namespace) -> int:
    try:
        return await wait_for(_show(settings, opts), opts.timeout)
    except asyncio.TimeoutError:
        raise RedisUnavailable(
            f"Redis has not answered for {words.span(opts.timeout)}"
            f" ({describe(settings)}). Is it frozen, or cut off? --timeout"
            " gives it more time."
        ) from None


async def _show(settings: Settings, opts: base.Namespace) -> int:
    if opts.spider is None:
        return await _show_all(settings, opts)
    async with project.opened(project.find_crawl(settings, opts)) as crawl:
        status = await crawl.known_status()
    base.tell(opts, status.as_json(), _lines(status))
    return base.OK


async def _show_all(settings: Settings, opts: base.Namespace) -> int:
    async with project.all_crawls(settings, opts) as crawls:
        statuses, unreadable = await read_statuses(await crawls.find())
        where = crawls.where
    if opts.json:
        base.write_json([status.as_json() for status in statuses])
    elif statuses:
        base.write(*_table(statuses))
    elif not unreadable:
        base.write(f"There is no frontier at {where}.")
    for _, error in unreadable:
        base.warn("status", str(error))
    return base.TROUBLE if unreadable else base.OK


def _table(statuses: list[Status]) -> list[str]:
    rows = [
        (
            words.clean(status.spider),
            words.clean(status.job or words.UNKNOWN),
            status.phase,
            words.number(len(status.alive)),
            words.number(len(status.workers) - len(status.alive)),
            *_counted(status).values(),
            words.rate(status.pages_per_second),
            words.age(status.seconds_left),
        )
        for status in statuses
    ]
    return words.table(_COLUMNS, rows, left=_COLUMNS[:3])


def _lines(status: Status) -> list[str]:
    alive, silent = len(status.alive), len(status.workers) - len(status.alive)
    rows = {
        "spider": words.clean(status.spider),
        "job": words.clean(status.job or words.UNKNOWN),
        "redis": status.redis,
        "state": _PHASES[status.phase],
        "workers": f"{words.number(alive)} alive, {words.number(silent)} silent",
        **_counted(status),
        "pages/s": words.rate(status.pages_per_second),
        "left": words.age(status.seconds_left),
    }
    job = f" --job {status.job}" if status.job else ""
    if status.failed:
        rows["failed"] += f"  (scrapy frontier failed {rows['spider']}{job})"
    if status.tasks:
        rows["tasks"] = (
            f"{words.number(status.tasks)}, of which {words.number(status.tasks_open)}"
            " have not ended"
        )
        rows["tasks"] += f"  (scrapy frontier tasks {rows['spider']}{job})"
    return [f"{name:<8} {value}" for name, value in rows.items()]


def _counted(status: Status) -> dict[str, str]:
    return {
        name.lower(): words.number(getattr(status, name.lower()))
        for name in _COLUMNS[5:13]
    }


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
    description=__doc__,
    example="scrapy frontier status myspider --json",
    topic="watching",
    options=(
        *common(spider_optional=True),
        option(
            "--timeout",
            "SECONDS",
            f"time that Redis has to answer; {_TIMEOUT:g} without it",
            type=number(float, math.ulp(0.0), 86_400, "is no time up to 86400 s"),
            default=_TIMEOUT,
        ),
    ),
    run=_run,
)
