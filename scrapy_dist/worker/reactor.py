"""Asyncio on Twisted's reactor: what Scrapy waits for, and what waits for Scrapy."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from scrapy.utils.reactor import is_asyncio_reactor_installed, is_reactor_installed
from twisted.internet.defer import Deferred

from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


def require_asyncio(crawler: Crawler) -> None:
    """Raise ConfigurationError unless Scrapy runs on an asyncio event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if is_asyncio_reactor_installed():
            return  # Scrapy 2.13 builds components before its event loop runs
        raise ConfigurationError(
            f"TWISTED_REACTOR = {crawler.settings['TWISTED_REACTOR']!r} has no asyncio"
            " event loop. scrapy-dist needs Scrapy's default reactor: remove the setting"
            " or set it to 'twisted.internet.asyncioreactor.AsyncioSelectorReactor'."
        ) from None


def deferred(coroutine: Coroutine[Any, Any, None]) -> Deferred[None]:
    """What Scrapy waits for in ``open`` and ``close``."""
    # Scrapy 2.13 calls open() before its event loop runs.
    loop = asyncio.get_event_loop()
    return Deferred.fromFuture(asyncio.ensure_future(coroutine, loop=loop))


async def both(result: Any, ours: Deferred[None]) -> None:
    """Wait for what a subclass returned, and for ours."""
    loop = asyncio.get_running_loop()
    own = ours.asFuture(loop)
    if isinstance(result, Deferred):
        result = result.asFuture(loop)
    if inspect.isawaitable(result):
        await asyncio.gather(result, own)
    else:
        await own


def before_forced_end(
    work: Callable[[], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    """Run *work* before Scrapy ends the process without closing the spider.

    So it does at the second Ctrl-C, or when somebody stops the reactor; it waits for
    *work*. Without a reactor it cancels all tasks instead, and waits for these. Returns
    what withdraws it.
    """
    if not is_reactor_installed():
        return lambda: None
    from twisted.internet import reactor  # noqa: PLC0415  importing it installs one

    system: Any = reactor

    def run() -> Deferred[None]:
        return Deferred.fromFuture(asyncio.ensure_future(work()))

    trigger = system.addSystemEventTrigger("before", "shutdown", run)

    def withdraw() -> None:
        # It is gone when the reactor is about to stop.
        with contextlib.suppress(KeyError, ValueError, TypeError):
            system.removeSystemEventTrigger(trigger)

    return withdraw
