"""Scrapy's scheduler on top of the shared frontier."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from scrapy import Request, Spider, signals
from scrapy.core.scheduler import BaseScheduler
from scrapy.dupefilters import BaseDupeFilter
from scrapy.exceptions import CloseSpider
from scrapy.utils.misc import load_object
from twisted.internet.defer import Deferred

from scrapy_dist import connection, defaults
from scrapy_dist.admin.reporter import Reporter
from scrapy_dist.base.escaping import get_logger
from scrapy_dist.base.settings import flag, number
from scrapy_dist.base.waits import cancel, in_thread, wait_for
from scrapy_dist.brokers.opening import open_session
from scrapy_dist.brokers.redis.buckets import compact
from scrapy_dist.brokers.redis.commit import clear
from scrapy_dist.brokers.redis.keys import Keys, fill_template, tagged
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.codec.seed import check_limits
from scrapy_dist.compat import extension_points
from scrapy_dist.compat.overrides import names_in
from scrapy_dist.core.crawl import job_from_settings
from scrapy_dist.core.politeness_settings import PolitenessOptions
from scrapy_dist.core.settings import Options
from scrapy_dist.core.slots import Order
from scrapy_dist.dupefilter import (
    CompactDupeFilter,
    RFPDupeFilter,
    build,
    decides_itself,
    fingerprint_of,
    load,
)
from scrapy_dist.exceptions import ConfigurationError, FrontierError, RedisUnavailable
from scrapy_dist.redis_client.client import describe
from scrapy_dist.worker import engine, gc_freeze, in_memory
from scrapy_dist.worker.command import command_without_crawl
from scrapy_dist.worker.filtering import Filter
from scrapy_dist.worker.intake import Intake
from scrapy_dist.worker.neighbours import find_self
from scrapy_dist.worker.politeness import Politeness
from scrapy_dist.worker.queues import Queues
from scrapy_dist.worker.reactor import (
    before_forced_end,
    both,
    deferred,
    require_asyncio,
)
from scrapy_dist.worker.session import LAST_WORDS, Session
from scrapy_dist.worker.worker import Worker

if TYPE_CHECKING:
    import redis
    from scrapy.crawler import Crawler
    from scrapy.settings import BaseSettings
    from typing_extensions import Self


logger = get_logger(__name__)

#: Arguments of the scheduler that are settings, too.
_GIVEN = {
    "queue_key": "SCHEDULER_QUEUE_KEY",
    "queue_cls": "SCHEDULER_QUEUE_CLASS",
    "dupefilter_key": "SCHEDULER_DUPEFILTER_KEY",
    "dupefilter_cls": "DUPEFILTER_CLASS",
    "serializer": "SCHEDULER_SERIALIZER",
}
#: Why a worker closes that people, or a system, have told to close.
_FROM_OUTSIDE = ("shutdown", "stopped")


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

    Its methods never talk to Redis: they work on buffers, which
    exchanges fill and empty in the background. Stats: ``scheduler/enqueued``,
    ``scheduler/enqueued/redis``, ``scheduler/enqueued/memory`` (requests that stay in
    this worker, those made of seeds too), the same of ``dequeued``,
    ``scheduler/unserializable``,
    ``frontier/exchanges``, ``frontier/rejected`` (requests that cannot be read),
    ``frontier/failed`` (requests that failed for good; with the add-on),
    ``frontier/dropped`` (requests and seeds of tasks that were cancelled).
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
        for name in extension_points.overridden(type(self), ["open", "close"]):
            vars(self)[name] = partial(self._around, name)

    @classmethod
    def from_settings(cls, settings: BaseSettings) -> Self:
        """What `__init__` takes, by the settings; nothing is connected."""
        server = None
        if extension_points.overridden(cls, ["__init__"]):
            server = connection.get_redis_from_settings(settings)
        given = {
            name: settings.get(setting)
            for name, setting in _GIVEN.items()
            if settings.get(setting)
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
            return in_memory.scheduler_for(crawler, command, df)  # type: ignore[return-value]
        try:
            require_asyncio(crawler)
            options = Options.from_settings(crawler.settings)
            scheduler = cls.from_settings(crawler.settings)
        except Exception as e:  # noqa: BLE001  of any code
            raise engine.fail_start(crawler, e, engine.current_task()) from None
        scheduler._bind(crawler, options)  # noqa: SLF001
        return scheduler

    def _bind(self, crawler: Crawler, options: Options) -> None:
        self.crawler = crawler
        self.options = options
        self.stats = crawler.stats
        self._engine = engine.ScrapyEngine(crawler)
        self._score: Any = options.discipline.score
        self._seen: Any = None
        #: Requests that ``df.request_seen`` was asked about.
        self._asked_about: WeakSet[Request] = WeakSet()
        self._closed = False
        self._frozen = False
        #: What has ended ``Spider.start()`` before its time.
        self._start_error: Callable[[], Exception | None] = lambda: None
        self._closing: asyncio.Future[None] | None = None

    def _around(self, name: str, argument: Any) -> Deferred[None]:
        """``open`` or ``close`` of a subclass, and ours, whether it calls ours or not."""
        if name == "open":
            self._crawl = engine.current_task()
        self._closed = name == "close"
        try:
            result = getattr(type(self), name)(self, argument)
        except Exception as e:
            if name == "close" or isinstance(e, CloseSpider):
                raise
            if self._opened is not None:  # nobody waits for ours any more
                self._opened.addErrback(lambda _: None)
                self._opened.cancel()
            raise engine.fail_start(argument.crawler, e, self._crawl) from None
        ours = self._opened if name == "open" else self._left
        if ours is None:
            ours = getattr(Scheduler, name)(self, argument)
        assert ours is not None
        if result is None or result is ours:
            return ours
        if name == "close":
            return deferred(both(result, ours))
        return deferred(self._opened_by(both(result, ours)))

    async def _opened_by(self, opening: Coroutine[Any, Any, None]) -> None:
        """Wait for *opening*, the errors of which keep the spider from being opened."""
        try:
            await opening
        except CloseSpider:
            raise
        except Exception as e:  # noqa: BLE001
            raise engine.fail_start(self.spider.crawler, e, self._crawl) from None

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
        if self._server is not None and not connection.is_from_settings(
            self._server, settings
        ):
            raise ConfigurationError(
                f"{extension_points.path_of(type(self))} has a server of its own, and"
                f" the frontier is at {describe(settings)}. Say where Redis"
                " is in REDIS_URL, or in REDIS_HOST and REDIS_PORT."
            )
        used = names_in(type(self).enqueue_request) or ()
        if "request_seen" in used and decides_itself(self.df):
            raise ConfigurationError(
                f"{extension_points.path_of(type(self))}.enqueue_request() waits for"
                f" {extension_points.path_of(type(self.df))}.request_seen(), which"
                " blocks the event loop: call super().enqueue_request(request) in its"
                " place."
            )

    # Opening

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

    def _make_dupefilter(self, spider: Spider) -> None:
        # Calling the log() that BaseDupeFilter has itself is deprecated.
        self._logs_duplicates = type(self.df).log is not BaseDupeFilter.log
        if decides_itself(self.df):
            if isinstance(self.df, RFPDupeFilter):
                self.df.is_asked = True
                self.df.bind(self.crawler)
            self._seen = self.df.request_seen
        elif isinstance(self.df, RFPDupeFilter):
            self.df.ask_later = self._asked_about.add
        self._compact = isinstance(self.df, CompactDupeFilter) and not self._seen

    def open(self, spider: Spider) -> Deferred[None]:
        """Connect, check Redis and join the frontier.

        Fails with ConfigurationError, EmbeddedRedisError or RedisUnavailable.
        """
        self.spider = spider
        self._crawl = engine.current_task()
        try:
            if "crawler" not in vars(self):  # a from_crawler() that does not call ours
                self._bind(spider.crawler, Options.from_settings(spider.settings))
            extension_points.check(self.crawler, type(self))
            check_limits(spider, self.crawler)
            self._polite = None
            if self.options.is_polite:
                self._polite = PolitenessOptions.from_settings(
                    self.crawler.settings,
                    spider,
                    self.options.discipline,
                    self.options.slots,
                )
            self._make_queue(spider)
        except CloseSpider:
            raise
        except Exception as e:  # noqa: BLE001
            raise engine.fail_start(spider.crawler, e, self._crawl) from None
        self._opened = deferred(self._open(spider))
        return self._opened

    async def _open(self, spider: Spider) -> None:
        await self._opened_by(self._connect(spider))

    async def _connect(self, spider: Spider) -> None:
        settings, options = self.crawler.settings, self.options
        self._check_given()
        keys = Keys.from_settings(settings, spider.name)
        codec = PayloadCodec.from_crawler(self.crawler, keys.requests)
        self._make_dupefilter(spider)
        # What a subclass has set since.
        options = self.options = replace(
            options,
            persist=bool(self.persist),
            flush_on_start=bool(self.flush_on_start),
            idle_before_close=float(self.idle_before_close),
        )
        opened = self.df.open() if hasattr(self.df, "open") else None
        if opened is not None:
            await opened.asFuture(asyncio.get_running_loop())
        self.frontier = await open_session(
            spider,
            options,
            compact=self._compact,
            filters_itself=self._seen is not None,
            process=find_self(),
        )
        try:
            self.worker = self._make_worker(codec)
            await self._join()
            if self._polite is not None and self._polite.own:
                await self.frontier.set_rules(self._polite.own)
        except BaseException:
            await self.frontier.disconnect()
            raise
        self._begin()

    def _begin(self) -> None:
        """The frontier is joined."""
        self.crawler.signals.connect(self._say_goodbye, signal=signals.spider_closed)
        # What a worker that cleared an earlier crawl did not come to.
        self._sweeping = asyncio.create_task(self._sweep())
        self.worker.joined_at = time.monotonic()
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
        self._start_error = engine.watch_start(self.crawler)
        self.worker.loop.start()
        self._no_forced_end = before_forced_end(self._end_early)
        if self.options.gc_freeze:
            gc_freeze.freeze()
            self._frozen = True

    def _make_worker(self, codec: PayloadCodec) -> Worker:
        order = Order(self._score, self.options.slots)
        queues = Queues(
            self._engine,
            codec,
            self.options,
            order=order,
            report_duplicate=self._report_duplicate,
            failed_key=self.frontier.failed_key,
            politeness=self._politeness(),
        )
        filter_ = Filter(
            self.df,
            queues,
            fingerprint_of=fingerprint_of(self.df, self._plain_fingerprint),
            plain=self._plain_fingerprint,
            stored=compact if self._compact else clear,
            worker=self.frontier.worker,
            log=self._report_duplicate,
        )
        intake = Intake(
            self._engine,
            codec,
            queues,
            filter_,
            order=order,
            seen=self._seen,
            name=extension_points.path_of(type(self.df)),
        )
        return Worker(
            self._engine,
            self.frontier,
            queues,
            intake,
            self.options,
            name=f"{socket.gethostname()}:{os.getpid()}",
        )

    def _politeness(self) -> Politeness | None:
        if self._polite is None:
            return None
        is_gated = self.crawler in engine.has_gate
        if not is_gated:
            logger.warning(
                "FRONTIER_POLITENESS: robots.txt, media and what redirects of them lead to"
                " are fetched without regard to other workers, as the gate is not there. Use"
                " ADDONS = {'scrapy_dist.Addon': 500}, or add"
                " 'scrapy_dist.middleware.FrontierGateMiddleware': 1_000_000 to"
                " DOWNLOADER_MIDDLEWARES."
            )
        return Politeness(
            self._engine,
            self._polite,
            self.options.slots,
            ttl=self.options.worker_ttl,
            is_gated=is_gated,
        )

    async def _join(self) -> None:
        spider, job = self.spider, job_from_settings(self.crawler.settings)
        self._session = Session(
            self.worker,
            command=f"{spider.name} --job {job}" if job else spider.name,
            clear=self._frontier_deleted,
        )
        if not await self._session.join():
            missed = self.worker.miss_end
            self.crawler.signals.connect(missed, signal=signals.spider_opened)

    # Scrapy's interface

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

    # For scheduler.queue

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
        if self._start_broke_off():
            engine.exit_with_error(self.crawler)
        try:
            await self._deliver(reason)
        except asyncio.CancelledError:
            # The process is about to end, without waiting for this.
            await self.worker.loop.say_goodbye()
            raise
        except Exception:
            logger.exception(
                "The orderly end of this worker has failed. What it holds goes back.",
                extra={"spider": self.spider},
            )
            engine.exit_with_error(self.crawler)
            await self.worker.loop.say_goodbye()
        finally:
            self._no_forced_end()
        self.stats.set_value("frontier/exchanges", self.worker.queues.pacing.exchanges)
        closing = None
        close = getattr(self.df, "close", None)
        if close is not None and self._seen is not None:
            await self._have_filter_do("close", partial(close, reason))
        elif close is not None:
            closing = close(reason)
        if closing is not None:
            await closing.asFuture(asyncio.get_running_loop())

    async def _have_filter_do(self, name: str, work: Callable[[], object]) -> None:
        """A method of the project's filter, which may wait for its store."""
        try:
            done = asyncio.wrap_future(in_thread(work))
            await wait_for(done, self.options.close_timeout)
        except Exception:  # of any code
            logger.exception(
                "%s.%s() has failed: what it keeps may still be there.",
                extension_points.path_of(type(self.df)),
                name,
                extra={"spider": self.spider},
            )

    async def _deliver(self, reason: str) -> None:
        all_done = await self._session.deliver()
        if all_done is not None:
            await self.reporter.sum_up()
            finished = all_done and self._may_be_end(reason)
            await self._session.leave(reason, finished=finished)
        await asyncio.wait([self._sweeping], timeout=LAST_WORDS)
        self._sweeping.cancel()  # the next worker goes on with it

    async def _end_early(self) -> None:
        """The process ends now, although nobody has closed this worker."""
        if self._closing is None:
            await self.worker.loop.end_early()
        elif not self._closing.done():
            await cancel([self._closing])

    def _start_broke_off(self) -> bool:
        """Whether an error has ended ``start()``, with requests that did not come.

        One that has come to its seeds has no others, and those are still read.
        """
        if self.worker.intake.is_start_lost:
            return True
        waited = self.worker.has_waited_for_seeds
        return self._start_error() is not None and not waited

    def _may_be_end(self, reason: str) -> bool:
        """Whether the crawl is over if nothing is left when this worker closes.

        A spider that waits for seeds and is shut down is in the middle of its life.
        """
        if self._start_broke_off():
            return False  # what it did not come to is still to be crawled
        if reason == "finished":
            return True
        if self.worker.feed is None:
            return self._engine.start_ended()
        from_outside = reason in _FROM_OUTSIDE or engine.ends_with_error(self.crawler)
        waits = self.worker.has_waited_for_seeds or self._engine.start_ended()
        return waits and not from_outside

    async def _frontier_deleted(self) -> None:
        """So is what a filter of the project's keeps; and buckets, as far as we come."""
        forget = getattr(self.df, "clear", None)
        if self._seen is not None and forget is not None:
            await self._have_filter_do("clear", forget)
        if self._has_joined:
            await self._sweep()

    async def _sweep(self) -> None:
        """Delete the buckets of cleared crawls (CompactDupeFilter)."""
        if not self._compact:
            return
        try:
            await self.frontier.sweep()
        except RedisUnavailable as e:
            logger.info(
                "Fingerprints of a cleared crawl are left in Redis (%s); the next worker"
                " deletes them.",
                e,
                extra={"spider": self.spider},
            )

    async def _say_goodbye(self) -> None:
        try:
            await self._session.say_goodbye()
        finally:
            await self.frontier.disconnect()

    # Taking requests

    def _plain_fingerprint(self, request: Request) -> str:
        return self.crawler.request_fingerprinter.fingerprint(request).hex()

    def _report_duplicate(self, request: Request) -> None:
        if self._logs_duplicates:
            self.df.log(request, self.spider)
