"""Watch the crawl of SPIDER: how far it is, how fast, every worker, the newest failures.
q or Ctrl-C ends it. Without a terminal it prints one line each time.

The history shows pages per second from one look to the next. What the bar calls known is
what is done and what is left; a crawl that still finds links makes it longer.

It needs rich (pip install "scrapy-dist[top]"), except without a terminal.

Exit code: 0 ended, 2 not begun.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import termios
import time
import tty
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scrapy_dist.commands import base, files, options, project
from scrapy_dist.commands.terminal import text
from scrapy_dist.commands.terminal.screen import Lines
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from scrapy.settings import Settings

    from scrapy_dist.core.dead_letters import DeadLetter
    from scrapy_dist.core.status import Status

T = TypeVar("T")

#: Seconds after which a Redis that does not answer is taken to be away.
_TIMEOUT = 5.0
#: Seconds after which what is shown is marked as old, and between two such marks.
_LATE, _LATE_AGAIN = 2.0, 1.0
#: Newest dead letters that are read, at the most.
_FAILURES = 8
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
        watching = asyncio.ensure_future(
            _watch(crawl, screen, opts.interval, opts.count)
        )
        with (
            _keys(watching.cancel, wanted=live),
            screen,
            base.on_signals(watching.cancel, *_ENDING),
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
) -> None:
    """Look, show, wait; *count* times, or as long as somebody watches."""
    looks = 0
    while True:
        try:
            looking = _marking_what_is_old(_look(crawl), screen)
            look = await asyncio.wait_for(looking, _TIMEOUT)
        except (RedisUnavailable, asyncio.TimeoutError) as e:
            # A reply that comes late must not be taken for that of the next question.
            await crawl.reconnect()
            reason = str(e) or f"no answer for {_TIMEOUT:g} s"
            watched = screen.fail(f"Redis is away ({text.clean(reason)}).")
        else:
            watched = screen.show(*look)
        looks += 1
        if looks == count or not watched:
            return
        await asyncio.sleep(interval)


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


async def _look(crawl: project.Crawl) -> tuple[Status, list[DeadLetter]]:
    status = await crawl.status()
    return status, await crawl.newest_failed(_FAILURES) if status.failed else []


@contextmanager
def _keys(end: Callable[[], object], *, wanted: bool) -> Iterator[None]:
    """Let the key q call *end*, and give the terminal back as it was.

    Nothing is done without a terminal to type on.
    """
    if not wanted or sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    terminal = sys.stdin.fileno()

    def typed() -> None:
        keys = b""
        with suppress(OSError):  # the terminal has gone
            keys = os.read(terminal, 1024)
        if not keys or b"q" in keys.lower():
            end()

    before = termios.tcgetattr(terminal)
    loop = asyncio.get_running_loop()
    try:
        tty.setcbreak(terminal)
        # Ctrl-Z would leave the shell with this screen.
        modes = termios.tcgetattr(terminal)
        modes[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(terminal, termios.TCSANOW, modes)
        loop.add_reader(terminal, typed)
        yield
    finally:
        loop.remove_reader(terminal)
        # What was typed for this command must not reach the shell.
        with suppress(termios.error):
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


SUBCOMMAND = base.Subcommand(
    name="top",
    summary="watch a crawl, live",
    description=__doc__,
    example="scrapy frontier top myspider",
    topic="watching",
    options=(
        *options.common(),
        options.option(
            "--interval",
            metavar="SECONDS",
            type=options.number(
                float, 0.1, 86_400, "is not a time from 0.1 to 86400 s"
            ),
            default=1.0,
            help="time between two looks; 1 without it",
        ),
        options.option(
            "-n",
            "--count",
            metavar="N",
            type=options.number(options.whole, 1, math.inf, "is not a number above 0"),
            help="look N times, then end",
        ),
        options.option(
            "--svg", metavar="FILE", help="at the end, write the last picture as SVG"
        ),
    ),
    run=_run,
)
