"""Watch the crawl of SPIDER: how far it is, how fast, every worker, the newest failures.
q or Ctrl-C ends it, h switches between the workers and the largest hosts (see hosts --help).
Without a terminal it prints one line each time, and with --hosts one more for each host.

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
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from scrapy.settings import Settings

    from scrapy_dist.core.dead_letters import DeadLetter
    from scrapy_dist.core.hosts import Hosts
    from scrapy_dist.core.status import Status

T = TypeVar("T")

#: Seconds after which a Redis that does not answer is taken to be away.
_TIMEOUT = 5.0
#: Seconds after which what is shown is marked as old, and between two such marks.
_LATE, _LATE_AGAIN = 2.0, 1.0
#: Newest dead letters that are read, at the most.
_FAILURES = 8
#: Hosts that are shown at the most; hosts and dead letters that are looked at for them.
_HOSTS, _LOOK, _LETTERS = 30, 500, 200
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
        switch = Switch(hosts=opts.hosts)
        watching = asyncio.ensure_future(
            _watch(crawl, screen, opts.interval, opts.count, switch)
        )
        with (
            _keys({b"q": watching.cancel, b"h": switch.turn}, wanted=live),
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


class Switch:
    """Whether *hosts* are shown, or workers; the event *turned* tells of a change."""

    def __init__(self, *, hosts: bool = False) -> None:
        self.hosts = hosts
        self.turned = asyncio.Event()

    def turn(self) -> None:
        self.hosts = not self.hosts
        self.turned.set()


async def _watch(
    crawl: project.Crawl,
    screen: Lines,
    interval: float,
    count: int | None,
    switch: Switch | None = None,
) -> None:
    """Look, show, wait; *count* times, or as long as somebody watches.

    Looks at once when the *switch* is turned.
    """
    looks, switch = 0, switch or Switch()
    while True:
        try:
            switch.turned.clear()
            look_at = _look(crawl, hosts=switch.hosts)
            looking = _marking_what_is_old(look_at, screen)
            look = await asyncio.wait_for(looking, _TIMEOUT)
        except (RedisUnavailable, asyncio.TimeoutError) as e:
            # A reply that comes late must not be taken for that of the next question.
            await crawl.reconnect()
            reason = str(e) or f"no answer for {text.span(_TIMEOUT)}"
            watched = screen.fail(f"Redis is away ({text.clean(reason)}).")
        else:
            watched = screen.show(*look)
        looks += 1
        if looks == count or not watched:
            return
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(switch.turned.wait(), interval)


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


async def _look(
    crawl: project.Crawl, *, hosts: bool
) -> tuple[Status, list[DeadLetter], Hosts | None]:
    status = await crawl.status()
    failures = await crawl.newest_failed(_FAILURES) if status.failed else []
    if not hosts:
        return status, failures, None
    return status, failures, await crawl.hosts(_HOSTS, look=_LOOK, letters=_LETTERS)


@contextmanager
def _keys(do: Mapping[bytes, Callable[[], object]], *, wanted: bool) -> Iterator[None]:
    """Let each key call what *do* says, and give the terminal back as it was.

    A terminal that has gone is the key q. Nothing is done without a terminal to type on.
    """
    if not wanted or sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    terminal = sys.stdin.fileno()

    def typed() -> None:
        keys = b""
        with suppress(OSError):  # the terminal has gone
            keys = os.read(terminal, 1024)
        for key in (bytes([code]) for code in keys.lower() or b"q"):
            if key in do:
                do[key]()

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
        options.flag("--hosts", "begin with the largest hosts in place of the workers"),
        options.option(
            "--svg", metavar="FILE", help="at the end, write the last picture as SVG"
        ),
    ),
    run=_run,
)
