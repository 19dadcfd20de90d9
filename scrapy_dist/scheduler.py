"""Scrapy's scheduler on top of the shared frontier."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from scrapy.core.scheduler import BaseScheduler
from scrapy.utils.misc import load_object
from twisted.internet.defer import Deferred

from scrapy_dist import connection, defaults
from scrapy_dist.admin.reporter import Reporter
from scrapy_dist.base.settings import flag, number
from scrapy_dist.base.waits import cancel
from scrapy_dist.brokers.opening import open_session
from scrapy_dist.brokers.redis.keys import Keys, fill_template, tagged
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.codec.seed import check_limits
from scrapy_dist.compat import extension_points
from scrapy_dist.core.crawl import job_from_settings
from scrapy_dist.core.politeness_settings import PolitenessOptions
from scrapy_dist.core.settings import Options
from scrapy_dist.core.slots import Order
from scrapy_dist.dupefilter import build, check_nobody_waits, filter_for, load
from scrapy_dist.exceptions import ConfigurationError, FrontierError
from scrapy_dist.worker import engine, gc_freeze
from scrapy_dist.worker.command import command_without_crawl, scheduler_for
from scrapy_dist.worker.neighbours import find_self
from scrapy_dist.worker.reactor import (
    before_forced_end,
    both,
    deferred,
    require_asyncio,
)
from scrapy_dist.worker.session import Session
from scrapy_dist.worker.worker import Worker

if TYPE_CHECKING:
    import redis
    from scrapy import Request, Spider
    from scrapy.crawler import Crawler
    from scrapy.dupefilters import BaseDupeFilter
    from scrapy.settings import BaseSettings
    from typing_extensions import Self

#: Arguments of the scheduler that are settings, too.
_GIVEN = {
    "queue_key": "SCHEDULER_QUEUE_KEY",
    "queue_cls": "SCHEDULER_QUEUE_CLASS",
    "dupefilter_key": "SCHEDULER_DUPEFILTER_KEY",
    "dupefilter_cls": "DUPEFILTER_CLASS",
    "serializer": "SCHEDULER_SERIALIZER",
}


def _equal(given: Any, wanted: Any) -> bool:
    """Whether an argument of scrapy-redis' Scheduler is what the setting says."""
    if given == wanted or getattr(given, "__name__", None) == wanted:
        return True
    try:
        return bool(load_object(given) is load_object(wanted))
    except (TypeError, ValueError, ImportError, NameError):
        return False


class Scheduler(BaseScheduler):
    """Shares pending requests with all workers that run the same spider.

    Its methods never talk to Redis: they work on buffers, which exchanges fill and empty
    in the background. Stats: ``scheduler/enqueued``, ``scheduler/enqueued/redis``,
    ``scheduler/enqueued/memory`` (requests that stay in this worker, those made of seeds
    too), the same of ``dequeued``, ``scheduler/unserializable``, ``frontier/exchanges``,
    ``frontier/rejected`` (requests that cannot be read), ``frontier/failed`` (requests
    that failed for good; with the add-on), ``frontier/dropped`` (requests and seeds of
    tasks that were cancelled).
    """

    #: See `engine.shares`.
    shares_frontier = True
    _opened: Deferred[None] | None = None
    _left: Deferred[None] | None = None
    _has_joined = False
    _closed = False

    def __init__(
        self,
        server: redis.Redis | None = None,
        persist: bool = False,
        flush_on_start: bool = False,
        queue_key: str = defaults.SCHEDULER_QUEUE_KEY,
        queue_cls: Any = defaults.SCHEDULER_QUEUE_CLASS,
        dupefilter: BaseDupeFilter | None = None,
        dupefilter_key: str = defaults.SCHEDULER_DUPEFILTER_KEY,
        dupefilter_cls: Any = defaults.SCHEDULER_DUPEFILTER_CLASS,
        idle_before_close: float = 0,
        serializer: Any = None,
    ) -> None:
        if idle_before_close < 0:
            raise TypeError("idle_before_close cannot be negative")
        self._server = server
        self.persist = persist
        self.flush_on_start = flush_on_start
        self.queue_key = queue_key
        self.queue_cls = queue_cls
        self.df: Any = dupefilter
        self.dupefilter_key = dupefilter_key
        self.dupefilter_cls = dupefilter_cls
        self.idle_before_close = idle_before_close
        self.serializer = serializer
        self.queue: Any = None
        self.stats: Any = None
        # Overrides written for scrapy-redis return nothing, and may not call ours.
        arounds = {"open": self._open_around, "close": self._close_around}
        for name in extension_points.overridden(type(self), list(arounds)):
            vars(self)[name] = arounds[name]

    @classmethod
    def from_settings(cls, settings: BaseSettings) -> Self:
        """What `__init__` takes, by the settings; nothing is connected."""
        server = None
        if extension_points.overridden(cls, ["__init__"]):
            server = connection.get_redis_from_settings(settings)
        given = {
            name: value
            for name, setting in _GIVEN.items()
            if (value := settings.get(setting))
        }
        return cls(
            server=server,
            persist=flag(settings, "SCHEDULER_PERSIST"),
            flush_on_start=flag(settings, "SCHEDULER_FLUSH_ON_START"),
            idle_before_close=number(settings, "SCHEDULER_IDLE_BEFORE_CLOSE"),
            **given,
        )

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """The frontier's scheduler; for commands that are no crawl Scrapy's own."""
        command = command_without_crawl(crawler)
        if command:
            df = load(crawler.settings["DUPEFILTER_CLASS"])
            return scheduler_for(crawler, command, df)  # type: ignore[return-value]
        with engine.Starting(crawler):
            require_asyncio(crawler)
            options = Options.from_settings(crawler.settings)
            scheduler = cls.from_settings(crawler.settings)
        scheduler._bind(crawler, options)  # noqa: SLF001
        return scheduler

    def _bind(self, crawler: Crawler, options: Options) -> None:
        self.crawler = crawler
        self.options = options
        self.stats = crawler.stats
        self._engine = engine.ScrapyEngine(crawler)
        self._score: Any = options.discipline.score
        #: Requests that ``df.request_seen`` was asked about.
        self._asked_about: WeakSet[Request] = WeakSet()
        self._closed = False
        self._frozen = False
        self._closing: asyncio.Future[None] | None = None

    def _open_around(self, spider: Spider) -> Deferred[None]:
        """``open`` of a subclass, and ours, whether it calls ours or not."""
        self._starting = engine.Starting(spider.crawler)
        try:
            with self._starting:
                result: Any = type(self).open(self, spider)
        except Exception:
            if self._opened is not None:  # nobody waits for ours any more
                self._opened.addErrback(lambda _: None)
                self._opened.cancel()
            raise
        ours = self._opened or Scheduler.open(self, spider)
        if result is None or result is ours:
            return ours
        return deferred(self._opened_by(both(result, ours)))

    def _close_around(self, reason: str) -> Deferred[None]:
        """As ``_open_around``, of ``close``."""
        self._closed = True
        result: Any = type(self).close(self, reason)
        ours = self._left or Scheduler.close(self, reason)
        if result is None or result is ours:
            return ours
        return deferred(both(result, ours))

    async def _opened_by(self, opening: Coroutine[Any, Any, None]) -> None:
        with self._starting:
            await opening

    @property
    def server(self) -> redis.Redis:
        """A synchronous client for your own use; it blocks the event loop while it waits."""
        if self._server is None:
            self._server = connection.get_redis_from_settings(self.crawler.settings)
        return self._server

    @server.setter
    def server(self, client: redis.Redis) -> None:
        self._server = client

    def _check_given(self) -> None:
        """Refuse what a subclass has set to something else than the settings say."""
        settings = self.crawler.settings
        for name, setting in _GIVEN.items():
            wanted = settings.get(setting) or getattr(defaults, setting, None)
            given = getattr(self, name)
            if given is None or name == "dupefilter_cls" or _equal(given, wanted):
                continue
            raise ConfigurationError(
                f"{extension_points.path_of(type(self))} sets {name} ="
                f" {given!r}, and the settings say {wanted!r}. Set"
                f" {setting}, which the commands read, too."
            )
        if self._server is not None:
            connection.check_is_from_settings(self._server, settings, type(self))
        check_nobody_waits(type(self).enqueue_request, self.df)

    def _make_queue(self, spider: Spider) -> None:
        """``queue`` and ``df``, as in scrapy-redis, unless a subclass has made them."""
        cls = self.options.discipline
        if self.queue is None:
            needed = extension_points.overridden(cls, ["__init__"])
            name = tagged(self.crawler.settings, spider.name)
            self.queue = cls(
                self.server if needed else None,
                spider,
                fill_template(self.queue_key, "SCHEDULER_QUEUE_KEY", name),
            )
        if isinstance(self.queue, cls):
            self._score = self.queue.score
            self.queue.scheduler = self
        if self.df is None:
            self.df = build(self.dupefilter_cls, spider)

    def open(self, spider: Spider) -> Deferred[None]:
        """Connect, check Redis and join the frontier.

        Fails with ConfigurationError, EmbeddedRedisError or RedisUnavailable.
        """
        self.spider = spider
        self._starting = engine.Starting(spider.crawler)
        with self._starting:
            if "crawler" not in vars(self):  # a from_crawler() that does not call ours
                self._bind(spider.crawler, Options.from_settings(spider.settings))
            extension_points.check(self.crawler, type(self))
            check_limits(spider, self.crawler)
            options, settings = self.options, self.crawler.settings
            self._polite = None
            if options.is_polite:
                self._polite = PolitenessOptions.from_settings(
                    settings, spider, options.discipline, options.slots
                )
            self._make_queue(spider)
        self._opened = deferred(self._opened_by(self._connect(spider)))
        return self._opened

    async def _connect(self, spider: Spider) -> None:
        settings, options = self.crawler.settings, self.options
        self._check_given()
        keys = Keys.from_settings(settings, spider.name)
        codec = PayloadCodec.from_crawler(self.crawler, keys.requests)
        self._filter = filter_for(
            self.df, spider, self._asked_about.add, timeout=options.close_timeout
        )
        # What a subclass has set since.
        options = self.options = replace(
            options,
            persist=bool(self.persist),
            flush_on_start=bool(self.flush_on_start),
            idle_before_close=float(self.idle_before_close),
        )
        await self._filter.open()
        self.frontier = await open_session(
            spider,
            options,
            compact=self._filter.is_compact,
            filters_itself=self._filter.seen is not None,
            process=find_self(),
        )
        try:
            self.worker = Worker(
                self._engine,
                self.frontier,
                codec,
                options,
                self._filter,
                order=Order(self._score, options.slots),
                politeness=self._polite,
            )
            self._session = Session(self.worker)
            await self._session.join()
            if self._polite is not None and self._polite.own:
                await self.frontier.set_rules(self._polite.own)
        except BaseException:
            await self.frontier.disconnect()
            raise
        self._begin()

    def _begin(self) -> None:
        """The frontier is joined."""
        self._has_joined = True
        self.reporter = Reporter(
            self.frontier.status,
            self.worker.queues.progress,
            self.spider,
            interval=self.options.report_interval,
            job=job_from_settings(self.crawler.settings),
            failed_key=self.frontier.failed_key,
        )
        self.reporter.start()
        self._session.begin(engine.watch_start(self.crawler))
        self.worker.loop.start()
        self._no_forced_end = before_forced_end(self._end_early)
        if self.options.gc_freeze:
            gc_freeze.freeze()
            self._frozen = True

    def enqueue_request(self, request: Request) -> bool:
        """Take *request*; false if it is known to be a duplicate."""
        return self.worker.intake.take(request)

    def next_request(self) -> Request | None:
        """The next request for this worker, or None for now."""
        return self.worker.next_request()

    def has_pending_requests(self) -> bool:
        """Whether anybody may still have work for this worker."""
        return self.worker.has_pending_requests()

    def __len__(self) -> int:
        """Pending requests: in this worker, and in Redis as last seen."""
        # Before it is opened nobody has looked.
        return len(self.worker) if self._has_joined else 0

    def close(self, reason: str) -> Deferred[None]:
        """Deliver what is left, give back what was not started, leave."""
        self._closed = True
        if self.worker.feed is not None:
            self.worker.feed.close()
        self._closing = asyncio.ensure_future(self._close(reason))
        self._left = Deferred.fromFuture(self._closing)
        return self._left

    def flush(self) -> None:
        """Delete what an earlier crawl has left; to be called while the spider opens.

        At the end a finished crawl is deleted by itself, unless it is to persist.
        """
        if not self._has_joined:
            self.flush_on_start = True
        elif not self._closed:
            raise FrontierError(
                "Scheduler.flush() would take what other workers are working on. Run"
                " 'scrapy frontier clear' when they have ended, or set"
                " SCHEDULER_FLUSH_ON_START = True."
            )

    def push(self, request: Request) -> None:
        """Take *request*, which is filtered only if ``df.request_seen`` was asked."""
        if request in self._asked_about:
            self._asked_about.discard(request)
            if not Scheduler.enqueue_request(self, request):
                self._engine.report_dropped(request)
            return
        dont_filter, request.dont_filter = request.dont_filter, True
        try:
            Scheduler.enqueue_request(self, request)
        finally:
            request.dont_filter = dont_filter

    def pop(self) -> Request | None:
        """What ``next_request`` hands out."""
        return Scheduler.next_request(self)

    async def _close(self, reason: str) -> None:
        if self._frozen:
            self._frozen = False
            gc_freeze.thaw()
        self.reporter.stop()
        try:
            await self._session.end(reason, self.reporter.sum_up)
        finally:
            self._no_forced_end()
        self.stats.set_value("frontier/exchanges", self.worker.queues.pacing.exchanges)
        await self._filter.close(reason)

    async def _end_early(self) -> None:
        """The process ends now, although nobody has closed this worker."""
        if self._closing is None:
            await self.worker.loop.end_early()
        elif not self._closing.done():
            await cancel([self._closing])
