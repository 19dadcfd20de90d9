"""Watch the crawl of SPIDER: how far it is, how fast, every worker, the newest failures.
Keys show the largest hosts (h, see hosts --help), all workers and what they work on (w), the
newest dead letters by reason (f), tasks and batches (t), and the overview again (o); p pauses
the crawl or lets it go on, after a question; ? explains, q or Ctrl-C ends it. Without a
terminal it prints one line each time, and with --hosts one more for each host.

The history shows pages per second from one look to the next. What the bar calls known is
what is done and what is left; a crawl that still finds links makes it longer.

It needs rich (pip install "scrapy-dist[top]"), except without a terminal.

Exit code: 0 ended, 2 not begun.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scrapy_dist.admin.task_glance import glance
from scrapy_dist.base import words
from scrapy_dist.base.waits import sleep_until, wait_for
from scrapy_dist.commands import base, files, pause, project
from scrapy_dist.commands.options import common, flag, number, option, positive_number
from scrapy_dist.commands.terminal.desk import Desk, Page, typed
from scrapy_dist.commands.terminal.screen import Lines, Look
from scrapy_dist.exceptions import ConfigurationError, FrontierError, RedisUnavailable

if TYPE_CHECKING:
    from scrapy.settings import Settings

T = TypeVar("T")

#: Seconds after which a Redis that does not answer is taken to be away.
_TIMEOUT = 5.0
#: Seconds after which what is shown is marked as old, and between two such marks.
_LATE, _LATE_AGAIN = 2.0, 1.0
#: Newest dead letters that are read: for the overview, and by reason or host.
_FAILURES, _LETTERS = 8, 200
#: Hosts that are shown at the most, and that are looked at for them.
_HOSTS, _LOOK = 100, 500
#: Tasks and batches that are shown at the most, and seconds of looking for them.
_TASKS, _BATCHES, _TASKS_SECONDS = 100, 5, 0.25
#: Signals that end the command in order.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def _run(settings: Settings, opts: base.Namespace) -> int:
    in_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    live = in_terminal and not opts.json
    if live or opts.svg:
        _require_rich()
    crawl = project.find_crawl(settings, opts)
    async with project.opened(crawl, timeout=_TIMEOUT):
        status = await crawl.known_status()
        screen = Lines(as_json=opts.json)
        if live or opts.svg:
            from scrapy_dist.commands.terminal.picture import Picture  # noqa: PLC0415

            screen = Picture(status, None if live else screen)
        desk = Desk(Page.HOSTS if opts.hosts else Page.OVERVIEW)
        desk.changed = screen.turn
        screen.turn(desk.face)
        watching = asyncio.ensure_future(
            _watch(crawl, screen, opts.interval, opts.count, desk)
        )
        with (
            typed(desk.press, watching.cancel, wanted=live),
            screen,
            base.on_signals(watching.cancel, *_ENDING),
            base.on_signals(screen.redraw, signal.SIGWINCH),
        ):
            try:
                await asyncio.wait([watching])
            finally:
                watching.cancel()
    if not watching.cancelled():
        watching.result()
    if opts.svg:
        _save(Path(opts.svg), screen.as_svg())
    return base.OK


def _require_rich() -> None:
    try:
        import rich  # noqa: F401, PLC0415
    except ImportError as e:
        raise ConfigurationError(
            f"top draws with rich, which cannot be imported ({e}). Install it: pip"
            ' install "scrapy-dist[top]". Without it: scrapy frontier top SPIDER | cat'
        ) from None


def _save(path: Path, picture: str) -> None:
    try:
        with files.written(path, overwrite=True) as file:
            file.write(picture.encode())
    except OSError as e:
        raise ConfigurationError(f"--svg {path}: {e.strerror}. Name a file.") from None


async def _watch(
    crawl: project.Crawl,
    screen: Lines,
    interval: float,
    count: int | None,
    desk: Desk | None = None,
) -> None:
    """Look, show, wait; *count* times, or as long as somebody watches.

    Does at once what the *desk* wishes.
    """
    looks, desk = 0, desk or Desk()
    while True:
        try:
            desk.turned.clear()
            await _fulfil(crawl, desk)
            looking = _marking_what_is_old(_look(crawl, desk.face.page), screen)
            look = await wait_for(looking, _TIMEOUT)
        except (RedisUnavailable, asyncio.TimeoutError) as e:
            # A reply that comes late must not be taken for that of the next question.
            await crawl.reconnect()
            reason = str(e) or f"no answer for {words.span(_TIMEOUT)}"
            watched = screen.fail(f"Redis is away ({words.clean(reason)}).")
        else:
            desk.paused = look.status.paused
            watched = screen.show(look)
        looks += 1
        if looks == count or not watched:
            return
        await sleep_until(desk.turned, interval)


async def _fulfil(crawl: project.Crawl, desk: Desk) -> None:
    """Pause or resume, if that is wished. Raises as a look does."""
    wish = desk.take_wish()
    if wish is None:
        return
    failed = "Not paused" if wish else "Not resumed"
    try:
        done = await wait_for(crawl.pause(wish), _TIMEOUT)
    except (RedisUnavailable, asyncio.TimeoutError):
        desk.tell(f"{failed}, as far as is known: Redis does not answer.")
        raise
    except FrontierError as e:
        desk.tell(f"{failed}: {e}")
    else:
        desk.paused = wish
        desk.tell(
            pause.sentence(crawl.name, done.alive, pause=wish, before=done.before)
        )


async def _marking_what_is_old(look: Coroutine[Any, Any, T], screen: Lines) -> T:
    """The result of *look*; the screen says meanwhile how old it is."""
    looking, started = asyncio.ensure_future(look), time.monotonic()
    pause = _LATE
    try:
        while not (await asyncio.wait([looking], timeout=pause))[0]:
            pause = _LATE_AGAIN
            screen.late(time.monotonic() - started)
    finally:
        looking.cancel()
    return looking.result()


async def _look(crawl: project.Crawl, page: Page) -> Look:
    status = await crawl.status(holds=page is Page.WORKERS)
    most = _LETTERS if page is Page.FAILED else _FAILURES
    failures = await crawl.newest_failed(most) if status.failed else []
    hosts = None
    if page is Page.HOSTS:
        hosts = await crawl.hosts(_HOSTS, look=_LOOK, letters=_LETTERS)
    tasks = None
    if page is Page.TASKS:
        tasks = await glance(
            crawl, tasks=_TASKS, batches=_BATCHES, seconds=_TASKS_SECONDS
        )
    return Look(status, failures, hosts, tasks)


SUBCOMMAND = base.Subcommand(
    name="top",
    summary="watch a crawl, live",
    description=__doc__,
    example="scrapy frontier top myspider",
    topic="watching",
    options=(
        *common(),
        option(
            "--interval",
            "SECONDS",
            "time between two looks; 1 without it",
            type=number(float, 0.1, 86_400, "is not a time from 0.1 to 86400 s"),
            default=1.0,
        ),
        option(
            "--count", "N", "look N times, then end", short="-n", type=positive_number
        ),
        flag("--hosts", "begin with the largest hosts in place of the workers"),
        option("--svg", "FILE", "at the end, write the last picture as SVG"),
    ),
    run=_run,
)
