"""Show who works on the crawl of SPIDER, since when, and on what: one line a worker, with
one of the URLs that it holds.

  ALIVE      no: silent for FRONTIER_WORKER_TTL; its leases go to the others
  SINCE      for how long it has been there     BEAT    time since its last sign of life
  PAGES/S    over the last minute               LEASED  requests in its hands

With --stop it asks workers to close, by the name that the first column shows, and
returns at once. They finish what they have begun, give the rest back, and end with the
reason "stopped"; the crawl goes on with the others, or when somebody starts it again.

Exit code: 0 shown or asked, 2 not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.base import words
from scrapy_dist.commands import base, project
from scrapy_dist.commands.options import common, option, whole

if TYPE_CHECKING:
    from datetime import datetime

    from scrapy.settings import Settings

    from scrapy_dist.core.crawl import Stopped
    from scrapy_dist.core.status import Status, WorkerStatus

#: URLs of one worker that can be asked for.
_MAX_URLS = 100

COLUMNS = (
    *("WORKER", "ALIVE", "SINCE", "BEAT", "PAGES", "PAGES/S", "FAILED", "LEASED"),
    *("MEMORY", "WORKS ON"),
)


async def _run(settings: Settings, opts: base.Namespace) -> int:
    crawl = project.find_crawl(settings, opts)
    async with project.opened(crawl, changes=bool(opts.stop)):
        status = await crawl.known_status(holds=0 if opts.stop else opts.urls)
        stopped = await crawl.stop(opts.stop) if opts.stop else None
    told = status.as_json()
    names = {name: told[name] for name in ("spider", "job", "redis")}
    if stopped is not None:
        chosen = [worker.worker for worker in stopped.workers]
        value = {**names, "asked": stopped.asked, "workers": chosen}
        base.tell(opts, value, _lines_of_stopped(status, stopped))
    else:
        value = {**names, "time": told["time"], "workers": told["workers"]}
        base.tell(opts, value, _lines(status))
    return base.OK


def _lines_of_stopped(status: Status, stopped: Stopped) -> list[str]:
    if not stopped.workers:
        return [f"Nobody works on {status.spider}."]
    lines = [
        f"Asked {words.count(stopped.asked, 'worker')} of {status.spider} to close."
    ]
    if silent := sum(not worker.alive for worker in stopped.workers):
        were = "was" if silent == 1 else "were"
        lines.append(
            f"{words.number(silent)} of them {were} silent, and may not be there any more."
        )
    return lines


def _lines(status: Status) -> list[str]:
    if not status.workers:
        return [f"Nobody works on {status.spider}."]
    rows = [cells(worker, status.time) for worker in status.workers]
    return words.table(COLUMNS, rows, left=("WORKER", "ALIVE", "WORKS ON"))


def cells(worker: WorkerStatus, now: datetime) -> tuple[str, ...]:
    """What each column has of *worker*."""
    state = "stopping" if worker.stopping else "yes"
    since = None
    if worker.since is not None:
        since = max(0.0, (now - worker.since).total_seconds())
    return (
        words.clean(worker.worker),
        state if worker.alive else "no",
        words.age(since),
        words.age(worker.silent_for),
        words.number(worker.pages),
        words.rate(worker.pages_per_second),
        words.number(worker.failed),
        words.number(worker.leased),
        words.memory(worker.memory),
        " ".join(map(words.clean, worker.holds)) or words.UNKNOWN,
    )


SUBCOMMAND = base.Subcommand(
    name="workers",
    summary="who works, and on what; --stop asks them to close",
    description=__doc__,
    example="scrapy frontier workers myspider --stop web1:4711",
    topic="watching",
    options=(
        *common(),
        option(
            "--urls",
            "N",
            "show at most N URLs of what each worker holds; 1 without it",
            type=whole(0, _MAX_URLS),
            default=1,
        ),
        option(
            "--stop",
            "HOST:PID",
            'ask this worker to close, or "all" of them (may be repeated)',
            action="append",
            default=[],
        ),
    ),
    run=_run,
)
