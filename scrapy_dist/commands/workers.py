"""``scrapy frontier workers``: who works on a crawl; ``--stop`` asks them to close."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from scrapy_dist.commands import base, project
from scrapy_dist.commands.terminal import text

if TYPE_CHECKING:
    from scrapy.settings import Settings

    from scrapy_dist.core.crawl import Stopped
    from scrapy_dist.core.status import Status, WorkerStatus

#: URLs of one worker that can be asked for.
_MAX_URLS = 100

_DESCRIPTION = """\
Show who works on the crawl of SPIDER, since when, and on what: one line a worker, with
one of the URLs that it holds.

  ALIVE      no: silent for FRONTIER_WORKER_TTL; its leases go to the others
  SINCE      for how long it has been there     BEAT    time since its last sign of life
  PAGES/S    over the last minute               LEASED  requests in its hands

With --stop it asks workers to close, by the name that the first column shows, and
returns at once. They finish what they have begun, give the rest back, and end with the
reason "stopped"; the crawl goes on with the others, or when somebody starts it again.

Exit code: 0 shown or asked, 2 not."""

_COLUMNS = (
    *("WORKER", "ALIVE", "SINCE", "BEAT", "PAGES", "PAGES/S", "FAILED", "LEASED"),
    *("MEMORY", "WORKS ON"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    base.add_common_options(parser)
    parser.add_argument(
        "--urls",
        metavar="N",
        type=_count,
        default=1,
        help="show at most N URLs of what each worker holds; 1 without it",
    )
    parser.add_argument(
        "--stop",
        metavar="HOST:PID",
        action="append",
        default=[],
        help='ask this worker to close, or "all" of them (may be repeated)',
    )


def _count(value: str) -> int:
    if not value.isdecimal() or int(value) > _MAX_URLS:
        raise argparse.ArgumentTypeError(
            f"{value!r} is not a number from 0 to {_MAX_URLS}"
        )
    return int(value)


async def run(settings: Settings, opts: argparse.Namespace) -> int:
    crawl = project.find_crawl(settings, opts)
    async with project.opened(crawl, changes=bool(opts.stop)):
        status = await crawl.known_status(holds=0 if opts.stop else opts.urls)
        stopped = await crawl.stop(opts.stop) if opts.stop else None
    if stopped is not None:
        _tell_stopped(status, stopped, as_json=opts.json)
    elif opts.json:
        told = status.as_json()
        names = ("spider", "job", "redis", "time", "workers")
        base.write_json({name: told[name] for name in names})
    else:
        base.write(*_lines(status))
    return base.OK


def _tell_stopped(status: Status, stopped: Stopped, *, as_json: bool) -> None:
    asked, chosen = stopped.asked, stopped.workers
    if as_json:
        told = status.as_json()
        told = {name: told[name] for name in ("spider", "job", "redis")}
        names = [worker.worker for worker in chosen]
        base.write_json({**told, "asked": asked, "workers": names})
        return
    if not chosen:
        base.write(f"Nobody works on {status.spider}.")
        return
    base.write(f"Asked {text.count(asked, 'worker')} of {status.spider} to close.")
    silent = sum(not worker.alive for worker in chosen)
    if silent:
        were = "was" if silent == 1 else "were"
        base.write(f"{silent} of them {were} silent, and may not be there any more.")


def _lines(status: Status) -> list[str]:
    if not status.workers:
        return [f"Nobody works on {status.spider}."]
    rows = [
        (
            text.clean(worker.worker),
            _state(worker),
            text.age(_seconds_since(status, worker)),
            text.age(worker.silent_for),
            str(worker.pages),
            text.rate(worker.pages_per_second),
            str(worker.failed),
            str(worker.leased),
            text.memory(worker.memory),
            " ".join(map(text.clean, worker.holds)) or text.UNKNOWN,
        )
        for worker in status.workers
    ]
    return text.table(_COLUMNS, rows, left=("WORKER", "ALIVE", "WORKS ON"))


def _state(worker: WorkerStatus) -> str:
    if not worker.alive:
        return "no"
    return "stopping" if worker.stopping else "yes"


def _seconds_since(status: Status, worker: WorkerStatus) -> float | None:
    if worker.since is None:
        return None
    return max(0.0, (status.time - worker.since).total_seconds())


SUBCOMMAND = base.Subcommand(
    name="workers",
    summary="who works, and on what; --stop asks them to close",
    description=_DESCRIPTION,
    example="scrapy frontier workers myspider --stop web1:4711",
    topic="watching",
    add_options=add_options,
    run=run,
)
