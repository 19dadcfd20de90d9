"""Scrapy's scheduler on top of the shared frontier."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import socket
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from redis.exceptions import RedisError, ResponseError
from scrapy import signals
from scrapy.core.scheduler import BaseScheduler
from scrapy.dupefilters import BaseDupeFilter
from scrapy.exceptions import CloseSpider
from scrapy.utils.misc import load_object
from twisted.internet.defer import Deferred

from scrapy_dist import connection, defaults
from scrapy_dist.admin.reporter import Reporter
from scrapy_dist.base.escaping import get_logger
from scrapy_dist.base.waits import in_thread, within
from scrapy_dist.brokers.redis.buckets import compact
from scrapy_dist.brokers.redis.commit import clear
from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import (
    Keys,
    fill_template,
    tagged,
)
from scrapy_dist.brokers.redis.session import RedisFrontier
from scrapy_dist.brokers.redis.version import check_format
from scrapy_dist.brokers.redis.views.status import read_status
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.codec.seal import Seal
from scrapy_dist.codec.seed import check_limits
from scrapy_dist.compat import extension_points
from scrapy_dist.core.crawl import job_from_settings
from scrapy_dist.core.frontier import (
    BATCH,
    Counts,
    JoinOutcome,
    LeaveOutcome,
)
from scrapy_dist.core.settings import Options, flag, number
from scrapy_dist.dupefilter import (
    CompactDupeFilter,
    RFPDupeFilter,
    build,
    decides_itself,
    fingerprint_of,
    load,
)
from scrapy_dist.exceptions import (
    ConfigurationError,
    FrontierError,
    RedisUnavailable,
)
from scrapy_dist.redis_client.client import close_client, describe, open_client
from scrapy_dist.worker import engine, gc_freeze, in_memory
from scrapy_dist.worker.exchange import Exchange
from scrapy_dist.worker.filtering import Filter
from scrapy_dist.worker.intake import Intake
from scrapy_dist.worker.neighbours import Neighbours, find_self, process_age
from scrapy_dist.worker.queues import Queues
from scrapy_dist.worker.seed_feed import SeedFeed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import redis
    from scrapy import Request, Spider
    from scrapy.crawler import Crawler
    from scrapy.settings import BaseSettings
    from typing_extensions import Self

    from scrapy_dist.redis_client.typed import Redis

logger = get_logger(__name__)

#: Seconds that each last word to Redis may take, after the results are delivered.
_LAST_WORDS = 5.0
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
#: Keys of the frontiers that this process has joined.
_begun: set[str] = set()


def deferred(coroutine: Coroutine[Any, Any, None]) -> Deferred[None]:
    """What Scrapy waits for in ``open`` and ``close``."""
    # Scrapy 2.13 calls open() before its event loop runs.
    loop = asyncio.get_event_loop()
    return Deferred.fromFuture(asyncio.ensure_future(coroutine, loop=loop))


async def _both(result: Any, ours: Deferred[None]) -> None:
    """Wait for what a subclass returned, and for ours."""
    loop = asyncio.get_running_loop()
    own = ours.asFuture(loop)
    if isinstance(result, Deferred):
        result = result.asFuture(loop)
    if inspect.isawaitable(result):
        await asyncio.gather(result, own)
    else:
        await own


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
    ``frontier/failed`` (requests that failed for good; with the add-on).
    """

    #: See `engine.shares`.
    shares_frontier = True
    _opened: Deferred[None] | None = None
    _left: Deferred[None] | None = None
    #: When the frontier was joined (`time.monotonic`); 0: not yet.
    _opened_at = 0.0
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
        command = engine.command_without_crawl(crawler)
        if command:
            df = load(crawler.settings["DUPEFILTER_CLASS"])
            return in_memory.scheduler_for(crawler, command, df)  # type: ignore[return-value]
        try:
            engine.require_asyncio(crawler)
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
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._score: Any = options.discipline.score
        self._seen: Any = None
        #: Requests that ``df.request_seen`` was asked about.
        self._asked_about: WeakSet[Request] = WeakSet()
        self._idle_limit: float | None = options.idle_before_close
        self._closed = self._is_stuck = False
        #: For a spider that reads seeds.
        self.feed: SeedFeed | None = None
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
            return deferred(_both(result, ours))
        return deferred(self._opened_by(_both(result, ours)))

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
                f"{extension_points.described(type(self))} sets {name} ="
                f" {given!r}, and the settings say {wanted!r}. Set"
                f" {setting}, which the commands read, too."
            )
        if self._server is not None and not connection.is_from_settings(
            self._server, settings
        ):
            raise ConfigurationError(
                f"{extension_points.described(type(self))} has a server of its own, and"
                f" the frontier is at {describe(settings)}. Say where Redis"
                " is in REDIS_URL, or in REDIS_HOST and REDIS_PORT."
            )
        if "request_seen" in (
            extension_points.used_names(type(self).enqueue_request) or ()
        ) and decides_itself(self.df):
            raise ConfigurationError(
                f"{extension_points.described(type(self))}.enqueue_request() waits for"
                f" {extension_points.described(type(self.df))}.request_seen(), which"
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
        self._idle_limit = options.idle_before_close
        if self._seen is not None:
            # Its own key may be the setting's, and anything but a set.
            keys = replace(keys, dupefilter=keys.started)
        opened = self.df.open() if hasattr(self.df, "open") else None
        if opened is not None:
            await opened.asFuture(asyncio.get_running_loop())
        self.client: Redis = await open_client(settings, keys.requests)
        try:
            self.frontier = Frontier(
                self.client,
                keys,
                ttl=options.worker_ttl,
                max_deliveries=options.max_deliveries,
                failed_limit=options.failed_limit,
                newest_first=options.discipline.newest_first,
                seed_keys=getattr(spider, "seed_keys", ()),
                compact=self._compact,
                seal=Seal.from_settings(settings, keys.requests),
                max_payload=options.max_payload,
                max_seed=options.max_seed,
            )
            await self.frontier.check_types()
            self._make_worker(codec)
            self._make_loop()
            await self._join()
        except BaseException:
            await close_client(self.client)
            raise
        take_changes = getattr(self.stats, "take_changes", None)
        if take_changes is not None:
            self.exchange.changes = take_changes
        self.crawler.signals.connect(self._say_goodbye, signal=signals.spider_closed)
        # What a worker that cleared an earlier crawl did not come to.
        self._sweeping = asyncio.create_task(self._sweep())
        self._opened_at = time.monotonic()
        self.reporter = Reporter(
            partial(read_status, self.frontier, spider.name),
            self.queues.progress,
            spider,
            interval=options.report_interval,
            job=job_from_settings(settings),
            failed_key=keys.failed,
        )
        self.reporter.start()
        self._start_error = engine.watch_start(self.crawler)
        self.exchange.start()
        self._no_forced_end = engine.before_forced_end(self._end_early)
        if options.gc_freeze:
            gc_freeze.freeze()
            self._frozen = True

    def _make_worker(self, codec: PayloadCodec) -> None:
        options = self.options
        self.queues = Queues(
            self._engine,
            codec,
            options,
            score=self._score,
            report_duplicate=self._report_duplicate,
            failed_key=self.frontier.keys.failed,
        )
        self.queues.on_drained = self._look
        filter_ = Filter(
            self.df,
            self.queues,
            fingerprint_of=fingerprint_of(self.df, self._plain_fingerprint),
            plain=self._plain_fingerprint,
            stored=compact if self._compact else clear,
            worker=self.frontier.worker,
            log=self._report_duplicate,
        )
        self._intake = Intake(
            self._engine,
            codec,
            self.queues,
            filter_,
            score=self._score,
            seen=self._seen,
            name=extension_points.described(type(self.df)),
        )

    def _make_loop(self) -> None:
        options = self.options
        found = find_self()
        self.exchange = Exchange(
            RedisFrontier(
                self.frontier,
                self.spider,
                ttl=options.worker_ttl,
                max_payload=options.max_payload,
                process=found,
            ),
            self.queues,
            self.spider,
            name=self._name,
            failed_key=self.frontier.keys.failed,
            concurrency=options.concurrency,
            flush=options.flush_interval,
            ttl=options.worker_ttl,
            patience=options.redis_patience,
            persist=options.persist,
        )
        self.exchange.give_up = partial(
            self._engine.end_with_error, "redis_unavailable"
        )
        self.exchange.broken = partial(self._engine.end_with_error, "frontier_defect")
        self.exchange.refused = partial(self._engine.end_with_error, "frontier_format")
        self.exchange.stop_asked = partial(self._engine.close, "stopped")
        self.exchange.missed_end = self._missed_end
        self.exchange.info = self.queues.progress.info
        if found is not None:
            near = self.exchange.neighbours = Neighbours(*found)
            near.on_gone = self.exchange.request
        if hasattr(self.spider, "seed_idle_limit"):
            self._idle_limit = self.spider.seed_idle_limit
            self.feed = SeedFeed(
                self._engine,
                self.spider,
                self.queues,
                limit=self._idle_limit,
                is_idle=lambda: not self.has_pending_requests(),
            )

    async def _join(self) -> None:
        near = self.exchange.neighbours
        if near is not None:
            await check_format(self.client, self.frontier.keys.state)
            await self._meet(near)
        call = self.frontier.register(
            self._name,
            commit=0,
            flush=self.options.flush_on_start,
            persist=self.options.persist,
            age=self._age(),
        )
        await self.frontier.exchange([call])
        joined = call.reply()
        if joined.refusal:
            raise ConfigurationError(joined.refusal)
        if joined.outcome is JoinOutcome.LATE:
            self._come_late()
            return
        if near is not None:
            await self._meet(near)
        self.queues.view.alone = joined.blank and not joined.others
        if joined.outcome is JoinOutcome.FLUSHED:
            await self._clear_dupefilter()
        extra = {"spider": self.spider}
        if joined.outcome is JoinOutcome.NOT_FLUSHED:
            logger.warning(
                "SCHEDULER_FLUSH_ON_START deletes nothing: %d other worker(s) use the"
                " frontier. Only the first worker of a crawl flushes.",
                joined.others,
                extra=extra,
            )
        logger.info(
            "Frontier at %s, key %s: %d pending, %d other worker(s)",
            describe(self.client),
            self.frontier.keys.requests,
            joined.pending,
            joined.others,
            extra=extra,
        )

    def _age(self) -> float:
        """Seconds since this worker was started, for it may come too late for its crawl.

        Workers that are started together are of one crawl, however quick the first of
        them is. 0: it begins a new crawl whenever the last one ended, as a program may
        crawl once more, and a spider that reads seeds waits for new ones.
        """
        key = self.frontier.keys.requests
        is_first = key not in _begun
        _begun.add(key)
        may_begin = self.feed is not None or self.options.flush_on_start
        if may_begin or not is_first or not engine.runs_by_command():
            return 0.0
        return process_age()

    def _come_late(self) -> None:
        self.queues.view.is_over = self.queues.is_drained = True
        self.crawler.signals.connect(self._missed_end, signal=signals.spider_opened)
        logger.info(
            "This crawl has finished while this worker was starting, and nothing is left"
            " for it: see scrapy frontier history. Start it once more for a new crawl.",
            extra={"spider": self.spider},
        )

    async def _meet(self, near: Neighbours) -> None:
        """See who is on this machine, and which of them were killed: they keep nothing.

        Before it has registered, this worker only looks; it tells of itself later.
        """
        meet = self.frontier.meet(near.machine, near.process)
        await self.frontier.exchange([meet])
        near.see(*meet.reply())
        gone = list(near.gone)[:BATCH]
        if gone:
            call = self.frontier.gone(near.machine, gone)
            await self.frontier.exchange([call])
            call.reply()
            near.told(gone)

    # Scrapy's interface

    def enqueue_request(self, request: Request) -> bool:
        """Take *request*; false if it is known to be a duplicate."""
        return self._intake.take(request)

    def next_request(self) -> Request | None:
        """The next request for this worker, or None for now."""
        if self.queues.view.is_over:
            return None
        if self.queues.outbox.is_full(self.options.outbox_limit):
            return None
        if self.queues.waits_for(self.options.outbox_limit):
            return None
        found = self.queues.next()
        request, shared = found or (None, False)
        if (
            self.queues.view.pending or self.queues.view.seeds_left
        ) and self.queues.is_low:
            self.exchange.request()
        elif self.queues.chain.may_have_finished(request):
            # The engine asks whenever something has.
            self.queues.outbox.something_waits()
        if request is None:
            if self.feed is not None:
                self.feed.hungry()
            return None
        self.queues.is_drained = False
        self.stats.inc_value("scheduler/dequeued")
        self.stats.inc_value(
            "scheduler/dequeued/redis" if shared else "scheduler/dequeued/memory"
        )
        return request

    def has_pending_requests(self) -> bool:
        """Whether anybody may still have work for this worker."""
        if self.feed is None:
            return not self.queues.is_drained
        return (
            not self.queues.is_drained
            or len(self.queues) > 0
            or len(self.queues.seeds) > 0
        )

    def __len__(self) -> int:
        """Pending requests: in this worker, and in Redis as last seen."""
        if not self._opened_at:
            return 0  # nobody has looked yet
        return len(self.queues) + self.queues.view.pending

    def close(self, reason: str) -> Deferred[None]:
        """Deliver what is left, give back what was not started, leave."""
        self._closed = True
        if self.feed is not None:
            self.feed.close()
        self._closing = asyncio.ensure_future(self._close(reason))
        self._left = Deferred.fromFuture(self._closing)
        return self._left

    def flush(self) -> None:
        """Delete what an earlier crawl has left; to be called while the spider opens.

        At the end a finished crawl is deleted by itself, unless it is to persist.
        """
        if not self._opened_at:
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
            await self.exchange.say_goodbye()
            raise
        except Exception:
            logger.exception(
                "The orderly end of this worker has failed. What it holds goes back.",
                extra={"spider": self.spider},
            )
            engine.exit_with_error(self.crawler)
            await self.exchange.say_goodbye()
        finally:
            self._no_forced_end()
        self.stats.set_value("frontier/exchanges", self.exchange.exchanges)
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
            await within(self.options.close_timeout, done)
        except Exception:  # of any code
            logger.exception(
                "%s.%s() has failed: what it keeps may still be there.",
                extension_points.described(type(self.df)),
                name,
                extra={"spider": self.spider},
            )

    async def _wait_for_threads(self) -> None:
        """Wait for what threads do, for FRONTIER_CLOSE_TIMEOUT seconds at the most."""
        limit = self.options.close_timeout
        if self._intake.asking is not None:
            await self._intake.asking.finish(limit)
        if not self.queues.outputs.outside:
            return
        _, running = await asyncio.wait(self.queues.outputs.outside, timeout=limit)
        if running:
            logger.warning(
                "%d items are with pipelines that have not ended in %g seconds"
                " (FRONTIER_CLOSE_TIMEOUT). Their pages will be crawled again.",
                len(running),
                limit,
                extra={"spider": self.spider},
            )

    async def _deliver(self, reason: str) -> None:
        timeout = self.options.close_timeout
        deadline = time.monotonic() + timeout
        await self._wait_for_threads()
        if self.feed is not None and self.feed.thread is not None:
            await self.feed.thread.finish()
        await self.exchange.stop(timeout)
        dropped = self.queues.give_back()
        delivered = await self.exchange.finish(max(0.0, deadline - time.monotonic()))
        if delivered and not self.queues.view.is_over:
            self.frontier.limit = _LAST_WORDS
            await self.reporter.sum_up()
            await self._leave(reason, finished=not dropped and self._may_be_end(reason))
        self.frontier.limit = _LAST_WORDS
        await asyncio.wait([self._sweeping], timeout=_LAST_WORDS)
        self._sweeping.cancel()  # the next worker goes on with it

    async def _end_early(self) -> None:
        """The process ends now, although nobody has closed this worker."""
        if self._closing is None:
            await self.exchange.end_early()
        elif not self._closing.done():
            self._closing.cancel()
            await asyncio.wait([self._closing])

    def _missed_end(self) -> None:
        if not self._engine.closing():
            self._engine.close("finished")

    def _start_broke_off(self) -> bool:
        """Whether an error has ended ``start()``, with requests that did not come.

        One that has come to its seeds has no others, and those are still read.
        """
        if self._intake.is_start_lost:
            return True
        waited = self.feed is not None and self.feed.has_waited
        return self._start_error() is not None and not waited

    def _may_be_end(self, reason: str) -> bool:
        """Whether the crawl is over if nothing is left when this worker closes.

        A spider that waits for seeds and is shut down is in the middle of its life.
        """
        if self._start_broke_off():
            return False  # what it did not come to is still to be crawled
        if reason == "finished":
            return True
        if self.feed is None:
            return self._engine.start_ended()
        from_outside = reason in _FROM_OUTSIDE or engine.ends_with_error(self.crawler)
        waits = self.feed.has_waited or self._engine.start_ended()
        return waits and not from_outside

    async def _leave(self, reason: str, *, finished: bool) -> None:
        call = self.frontier.leave(
            finished=finished, persist=self.options.persist, reason=reason
        )
        try:
            await self.frontier.exchange([call])
            outcome, seen = call.reply()
            if outcome is LeaveOutcome.DELETED:
                await self._clear_dupefilter()
                await self._sweep()
            elif outcome is LeaveOutcome.KEPT and seen:
                self._say_kept(reason, seen)
        except (RedisUnavailable, ResponseError) as e:
            # Nothing is lost: it holds no lease, and will count as dead.
            logger.warning(
                "Redis does not know that this worker has left: %s",
                e,
                extra={"spider": self.spider},
            )

    async def _clear_dupefilter(self) -> None:
        """The frontier was deleted: so is what a filter of the project's keeps."""
        clear = getattr(self.df, "clear", None)
        if self._seen is None or clear is None:
            return
        await self._have_filter_do("clear", clear)

    def _say_kept(self, reason: str, seen: int) -> None:
        waits = self.feed is not None and self.feed.has_waited
        job = job_from_settings(self.crawler.settings)
        logger.log(
            logging.INFO if waits else logging.WARNING,
            "Nothing is left to crawl, and the %d fingerprint(s) of this crawl are kept"
            " (%s): the next start does not crawl these requests again. To begin afresh:"
            " scrapy frontier clear %s%s.",
            seen,
            f"closed as {reason}, and it reads seeds"
            if waits
            else f"closed as {reason} before start() had come to its end",
            self.spider.name,
            f" --job {job}" if job else "",
            extra={"spider": self.spider},
        )

    async def _sweep(self) -> None:
        """Delete the buckets of cleared crawls (CompactDupeFilter)."""
        if not self._compact:
            return
        try:
            await self.frontier.sweep()
        except (RedisError, OSError, ValueError) as e:
            logger.info(
                "Fingerprints of a cleared crawl are left in Redis (%s); the next worker"
                " deletes them.",
                e,
                extra={"spider": self.spider},
            )

    async def _say_goodbye(self) -> None:
        """Deliver the last stats, unless they were deleted with the frontier."""
        # Other handlers of spider_closed set them first.
        await asyncio.sleep(0)
        changes = self.exchange.changes()
        try:
            if changes and not self.queues.view.is_over:
                last = self.frontier.count(changes, left=True)
                await self.frontier.exchange([last])
        except RedisUnavailable as e:
            logger.warning("The last stats did not reach Redis: %s", e)
        finally:
            await close_client(self.client)

    # Taking requests

    def _plain_fingerprint(self, request: Request) -> str:
        return self.crawler.request_fingerprinter.fingerprint(request).hex()

    def _report_duplicate(self, request: Request) -> None:
        if self._logs_duplicates:
            self.df.log(request, self.spider)

    # Idle and the end

    def _look(self, state: Counts) -> float | None:
        """What is left for anybody; says after how many seconds to look again."""
        was_drained, self.queues.is_drained = self.queues.is_drained, False
        if self.feed is not None and not state.is_drained:
            self.feed.busy(state.seeds)
        if not (state.is_drained or state.is_stuck):
            return None
        if len(self.queues.outbox) or not self.queues.is_empty():
            return None  # something came while the reply was on its way
        # A worker that has just come counts from then.
        idle = min(state.idle, time.monotonic() - self._opened_at)
        if self.feed is not None and state.is_drained:
            self.queues.is_drained = True
            return self.feed.nothing_left(idle, was_idle=was_drained)
        limit = self._idle_limit
        if limit is None:
            return None
        if idle < limit:
            return limit - idle
        if state.is_stuck:
            self._stuck(state.waiting)
            return None
        self.queues.is_drained = True
        self._engine.wake()
        return None

    def _stuck(self, waiting: int) -> None:
        """Close: nothing is left but what fails, and there is no room for it."""
        if self._is_stuck:
            return
        self._is_stuck = True
        logger.error(
            "Closing: nothing is left to do but %d requests that have failed, and %s is"
            " full (FRONTIER_FAILED_LIMIT = %d). They stay in Redis. Put dead letters"
            " back or delete them (scrapy frontier retry, forget), or raise the limit,"
            " and start a worker: it goes on with them.",
            waiting,
            self.frontier.keys.failed,
            self.options.failed_limit,
            extra={"spider": self.spider},
        )
        self._engine.end_with_error("failed_limit")
