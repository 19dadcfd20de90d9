"""The few private names of Scrapy that scrapy-dist needs, all in one place.

Scrapy has no signal for "this request is finished" and no public way to wake an idle
engine (https://github.com/scrapy/scrapy/issues/7978). ``tests/integration/
test_engine.py`` fails on the Scrapy version that changes one of these names.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from scrapy import signals

from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from scrapy import Request
    from scrapy.crawler import Crawler


def _slot(crawler: Crawler) -> Any:
    engine = crawler.engine
    return None if engine is None else engine._slot  # noqa: SLF001


def require_asyncio(crawler: Crawler) -> None:
    """Raise ConfigurationError unless Scrapy runs on an asyncio event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            f"TWISTED_REACTOR = {crawler.settings['TWISTED_REACTOR']!r} has no asyncio"
            " event loop. scrapy-dist needs Scrapy's default reactor: remove the setting"
            " or set it to 'twisted.internet.asyncioreactor.AsyncioSelectorReactor'."
        ) from None


def in_progress(crawler: Crawler) -> AbstractSet[Request]:
    """Requests between ``next_request`` and the end of all their processing."""
    slot = _slot(crawler)
    return frozenset() if slot is None else slot.inprogress


def in_scraper(crawler: Crawler) -> AbstractSet[Request]:
    """Requests whose callback, errback or items are being processed."""
    scraper = crawler.engine.scraper
    return frozenset() if scraper.slot is None else scraper.slot.active


def left_downloader(crawler: Crawler, request: Request) -> bool:
    """Whether *request* has been downloaded and has not reached its callback.

    A request that a downloader middleware returns in its place (redirect, retry)
    is scheduled at exactly this moment.
    """
    return (
        request in in_progress(crawler)
        and request not in crawler.engine.downloader.active
        and request not in in_scraper(crawler)
    )


def wake(crawler: Crawler) -> None:
    """Let the engine ask for requests now; by itself it looks every 5 seconds."""
    slot = _slot(crawler)
    if slot is not None and slot.closing is None:
        slot.nextcall.schedule()


def closing(crawler: Crawler) -> bool:
    """Whether the spider is being closed."""
    slot = _slot(crawler)
    return slot is None or slot.closing is not None


def scheduler(crawler: Crawler) -> Any:
    """The scheduler in use, or None before the spider is opened."""
    slot = _slot(crawler)
    return None if slot is None else slot.scheduler


def abandon(crawler: Crawler) -> None:
    """The spider cannot be opened: an error is about to be raised.

    Scrapy would close what it never opened, and its complaints would hide the error.
    """
    if crawler.engine is not None:
        crawler.engine.spider = None


def report_dropped(crawler: Crawler, request: Request) -> None:
    """Send ``request_dropped``, as the engine does when a scheduler says no at once."""
    crawler.signals.send_catch_log(
        signals.request_dropped, request=request, spider=crawler.spider
    )
