"""The few private names of Scrapy that scrapy-dist needs, all in one place.

Scrapy has no signal for "this request is finished" and no public way to wake an idle
engine (https://github.com/scrapy/scrapy/issues/7978). ``tests/integration/
test_engine.py`` fails on the Scrapy version that changes one of these names.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable
from collections.abc import Set as AbstractSet
from contextvars import copy_context
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from scrapy import Request, Spider, signals, version_info
from scrapy.core import downloader
from scrapy.exceptions import CloseSpider

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.core.slots import host_of
from scrapy_dist.exceptions import FrontierError
from scrapy_dist.worker import downloads

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from scrapy.statscollectors import StatsCollector

    from scrapy_dist.worker.view import Downloads

logger = get_logger("scrapy_dist")

#: Whether the downloader looks a slot up with its spider.
_get_slot = inspect.unwrap(downloader.Downloader._get_slot)  # noqa: SLF001
_SLOT_OF_SPIDER = "spider" in inspect.getfullargspec(_get_slot).args and not (
    _get_slot.__defaults__
)
#: Whether Scrapy's ``Spider.start()`` calls ``start_requests()``.
CALLS_START_REQUESTS = hasattr(Spider, "start_requests")
#: Whether pipelines' open_spider() may be a coroutine; before, it is a Deferred.
PIPELINES_AWAIT = version_info >= (2, 14)
#: Whether what a callback, its middlewares and the pipelines do runs in the context of its
#: page; before, one loop goes through the outputs of all pages.
HAS_CONTEXTS = version_info >= (2, 14)

#: Turns of the event loop after which a request that reached the downloader has been sent
#: over a connection that is there: a task takes it in the first one, its socket is written
#: to in the second, after all else that happens then.
_TURNS = 3

#: Crawlers whose downloads pass the gate of a polite crawl.
has_gate: WeakSet[Crawler] = WeakSet()
#: Crawlers whose start has failed, and those that end because of an error.
_not_opened: WeakSet[Crawler] = WeakSet()
_failing: WeakSet[Crawler] = WeakSet()
#: Tasks that close a spider; the event loop itself keeps no strong reference.
_closing: list[asyncio.Future[None]] = []


def _engine(crawler: Crawler) -> Any:
    """The engine of *crawler*, or None before there is one, as in a unit test."""
    try:
        return crawler.engine
    except (AttributeError, RuntimeError):  # from Scrapy 2.15 on it raises
        return None


def _slot(crawler: Crawler) -> Any:
    return getattr(_engine(crawler), "_slot", None)


class ScrapyEngine:
    """`EngineView` of the engine of *crawler*, of which a unit test may have none."""

    def __init__(self, crawler: Crawler) -> None:
        self.crawler: Any = crawler

    @property
    def spider(self) -> Spider:
        return self.crawler.spider  # type: ignore[no-any-return]

    @property
    def stats(self) -> StatsCollector:
        return self.crawler.stats  # type: ignore[no-any-return]

    # What becomes of requests

    def in_progress(self) -> AbstractSet[Request]:
        slot = _slot(self.crawler)
        return frozenset() if slot is None else slot.inprogress

    def in_scraper(self) -> AbstractSet[Request]:
        scraper = self.crawler.engine.scraper
        return frozenset() if scraper.slot is None else scraper.slot.active

    def downloading(self, request: Request) -> bool:
        return request in self.crawler.engine.downloader.active

    def in_downloader(self) -> set[Request]:
        return self.crawler.engine.downloader.active  # type: ignore[no-any-return]

    def download_slot(self, request: Request) -> str:
        try:
            key = self.crawler.engine.downloader.get_slot_key(request)
        except AttributeError:  # a downloader of the project's
            return host_of(request)
        return key if isinstance(key, str) else repr(key)

    def _download_slot(self, key: str, request: Request) -> Any:
        downloader: Any = self.crawler.engine.downloader
        slot = downloader.slots.get(key)
        if slot is None:
            spider = (self.spider,) if _SLOT_OF_SPIDER else ()
            _, slot = downloader._get_slot(request, *spider)  # noqa: SLF001
        return slot

    def watch_downloads(
        self,
        reached: Callable[[Request, float], None],
        sent: Callable[[Request, float], None],
    ) -> None:
        def reaches(request: Request) -> None:
            reached(request, time.monotonic())
            loop.call_soon(turn, request, _TURNS - 1)

        def turn(request: Request, more: int) -> None:
            if more:
                loop.call_soon(turn, request, more - 1)
            else:
                sent(request, time.monotonic())

        loop = asyncio.get_running_loop()
        self.crawler.signals.connect(
            reaches, signal=signals.request_reached_downloader, weak=False
        )

    def start_now(self, request: Request) -> None:
        # A downloader of the project's may have no such slots.
        with contextlib.suppress(AttributeError, TypeError):
            slot = self._download_slot(self.download_slot(request), request)
            downloads.start_now(slot)

    def end_delay(self, key: str) -> None:
        with contextlib.suppress(AttributeError, TypeError):
            slot = self.crawler.engine.downloader.slots.get(key)
            if slot is not None:
                downloads.end_delay(slot)

    def set_delay(self, request: Request, delay: float) -> None:
        with contextlib.suppress(AttributeError, TypeError):
            self._download_slot(self.download_slot(request), request).delay = delay

    def download_state(self, key: str, request: Request) -> Downloads | None:
        try:
            return downloads.state(self._download_slot(key, request))
        except (AttributeError, TypeError):
            # A downloader of the project's, or a request that none will take.
            return None

    def left_downloader(self, request: Request) -> bool:
        return (
            request in self.in_progress()
            and not self.downloading(request)
            and request not in self.in_scraper()
        )

    def report_dropped(self, request: Request) -> None:
        self.crawler.signals.send_catch_log(
            signals.request_dropped, request=request, spider=self.spider
        )

    # Start, idle and the end

    def wake(self, after: float = 0.0) -> None:
        if after > 0:
            asyncio.get_running_loop().call_later(after, self.wake)
            return
        slot = _slot(self.crawler)
        if slot is not None and slot.closing is None:
            slot.nextcall.schedule()

    def start_ended(self) -> bool:
        engine = self.crawler.engine
        return engine is not None and engine._start is None  # noqa: SLF001

    def start_is_over(self) -> bool:
        return bool(self.crawler.engine.running) and self.start_ended()

    def crawl(self, request: Request) -> None:
        self.crawler.engine.crawl(request)

    def crawl_from_threads(self, crawl: Callable[[Request], None]) -> None:
        engine: Any = self.crawler.engine
        loop = asyncio.get_running_loop()
        here, there = threading.get_ident(), engine.crawl
        close_spider = engine.close_spider

        def crawl_anywhere(request: Request, *args: Any, **kwargs: Any) -> None:
            in_loop = threading.get_ident() == here
            (there if in_loop or args or kwargs else crawl)(request, *args, **kwargs)

        def close_anywhere(spider: Spider, reason: str = "cancelled") -> Any:
            if threading.get_ident() == here:
                return close_spider(spider, reason)
            return loop.call_soon_threadsafe(self.close, reason)

        engine.crawl, engine.close_spider = crawl_anywhere, close_anywhere

    @property
    def heartbeat(self) -> float:
        return self.crawler.engine._SLOT_HEARTBEAT_INTERVAL  # type: ignore[no-any-return]  # noqa: SLF001

    def tell_idle(self) -> None:
        engine: Any = self.crawler.engine
        slot = _slot(self.crawler)
        if slot is None or slot.closing is not None or engine.paused:
            return
        start, engine._start = engine._start, None  # noqa: SLF001
        try:
            if slot.close_if_idle and engine.spider_is_idle():
                engine._spider_idle()  # noqa: SLF001
        finally:
            engine._start = start  # noqa: SLF001

    def closing(self) -> bool:
        slot = _slot(self.crawler)
        return slot is None or slot.closing is not None

    def close(self, reason: str) -> None:
        engine: Any = self.crawler.engine
        if not PIPELINES_AWAIT:
            engine.close_spider(self.spider, reason)
            return
        _closing.append(asyncio.ensure_future(engine.close_spider_async(reason=reason)))
        _closing[-1].add_done_callback(_closing.remove)

    def end_with_error(self, reason: str) -> None:
        exit_with_error(self.crawler)
        self.close(reason)


def watch_start(crawler: Crawler) -> Callable[[], bool]:
    """Look after the spider's ``start()``; whether an error has ended it.

    To be called while the spider is being opened. Scrapy logs the error, and goes on.
    """
    engine: Any = _engine(crawler)
    start: Any = getattr(engine, "_start", None)
    errors: list[Exception] = []

    async def watched() -> AsyncIterator[Any]:
        try:
            async for output in start:
                yield output
        except CloseSpider:
            raise
        except Exception as e:
            errors.append(e)
            raise

    if start is not None:
        engine._start = watched()  # noqa: SLF001
    return lambda: bool(errors)


def watch_results(
    crawler: Crawler, has_result: Callable[[Request, object], None]
) -> None:
    """Call *has_result* with each request of the scheduler, and what has come of it.

    That is a response, a request or a failure, from behind the downloader middlewares. It
    is called in the context in which the engine goes on with that.
    """
    engine: Any = crawler.engine
    handle = engine._handle_downloader_output  # noqa: SLF001

    def watched(result: object, request: Request) -> Any:
        context = copy_context()
        context.run(has_result, request, result)
        return context.run(handle, result, request)

    engine._handle_downloader_output = watched  # noqa: SLF001


def exit_with_error(crawler: Crawler) -> None:
    """Let ``scrapy crawl`` exit with 1 when *crawler*, which is closing, has stopped."""

    def forget_spider() -> None:
        # Scrapy's commands take a crawler without a spider for one that has failed.
        crawler.spider = None

    _failing.add(crawler)
    crawler.signals.connect(forget_spider, signals.engine_stopped, weak=False)


def ends_with_error(crawler: Crawler) -> bool:
    """Whether ``exit_with_error`` was called for *crawler*."""
    return crawler in _failing


def scheduler(crawler: Crawler) -> Any:
    """The scheduler in use, or None before the spider is opened."""
    slot = _slot(crawler)
    return None if slot is None else slot.scheduler


def shares(crawler: Crawler) -> bool:
    """Whether the frontier's scheduler is in use, or a subclass of it."""
    return bool(getattr(scheduler(crawler), "shares_frontier", False))


def worker_of(crawler: Crawler) -> Any:
    """The `worker.Worker` of *crawler*; None beside another scheduler, or before it."""
    return getattr(scheduler(crawler), "worker", None) if shares(crawler) else None


class Starting:
    """Logs what is raised within it, which keeps the spider from being opened.

    Of *errors* only, and not CloseSpider. One that is not ours is of the project's code,
    and logged with its traceback. It is the only thing that a user of the command line
    then sees: Scrapy would close what it never opened and complain about that, and asyncio
    would add a traceback of the task that crawls, whose failure still reaches whoever
    awaits it.
    """

    def __init__(self, crawler: Crawler, errors: type[Exception] = Exception) -> None:
        self._crawler = crawler
        self._errors = errors
        self._crawl: asyncio.Task[Any] | None = None
        with contextlib.suppress(RuntimeError):  # no event loop
            self._crawl = asyncio.current_task()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, *rest: object) -> None:
        if not isinstance(error, self._errors) or isinstance(error, CloseSpider):
            return
        crawler = self._crawler
        extra = {"spider": crawler.spider}
        if crawler in _not_opened:
            pass  # what it called has said it
        elif isinstance(error, FrontierError):
            logger.error("%s", error, extra=extra)
        else:
            text = "The spider is not opened: %r"
            logger.error(text, error, exc_info=error, extra=extra)
        _not_opened.add(crawler)
        if (engine := _engine(crawler)) is not None:
            engine.spider = None
        # Older versions of Scrapy exit with 0 if there was a spider at all.
        crawler.spider = None
        if self._crawl is not None:
            self._crawl.add_done_callback(lambda t: t.cancelled() or t.exception())
        raise error.with_traceback(None) from None
