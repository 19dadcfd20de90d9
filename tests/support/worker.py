"""The real worker on a small engine, without Scrapy's downloader and callbacks.

    worker = await Worker.start(redis_url)
    page = await worker.next()
    worker.yields(page, Request(url), {"an": "item"})
    worker.end(page)

Only this module knows how a worker is built. Tests say what a spider yields and which
pages end, and look at what reaches the engine, Redis, the stats and the log.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextvars import copy_context
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from pydispatch.dispatcher import getAllReceivers, liveReceivers
from pydispatch.robustapply import robustApply
from scrapy import Request, Spider, signals
from scrapy.crawler import Crawler
from scrapy.http import Response
from scrapy.settings import Settings
from scrapy.utils.misc import build_from_crawler, load_object
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from scrapy_dist.brokers.redis import scripts
from scrapy_dist.core.slots import host_of
from scrapy_dist.middleware import (
    FrontierDownloaderMiddleware,
    FrontierPipeline,
    FrontierSpiderMiddleware,
)
from scrapy_dist.pipelines import RedisPipeline
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    import pytest
    import redis
    from scrapy.statscollectors import MemoryStatsCollector
    from typing_extensions import Self

T = TypeVar("T")

#: Seconds that a fact may take to come true.
_PATIENCE = 60.0
#: Seconds between two looks.
_LOOK = 0.003

#: What makes a worker quick enough for tests, and leaves the test's process alone.
_SETTINGS = {
    "STATS_CLASS": "scrapy_dist.stats.RedisStatsCollector",
    "FRONTIER_FLUSH_INTERVAL": 0.01,
    "FRONTIER_GC_FREEZE": False,
    "LOGSTATS_INTERVAL": 0,
}


class Example(Spider):
    """A spider that yields nothing by itself."""

    name = "s"

    async def start(self) -> AsyncIterator[Any]:
        return
        yield


async def until(predicate: Callable[[], T], description: str) -> T:
    """Wait until *predicate* returns something true, and return that."""
    deadline = time.monotonic() + _PATIENCE
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {_PATIENCE:g} s for: {description}")
        await asyncio.sleep(_LOOK)
    return value


class Clock:
    """Lets time go on at once; the event loop and the worker see it, Redis does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._leapt = 0.0
        monotonic = time.monotonic
        monkeypatch.setattr("time.monotonic", lambda: monotonic() + self._leapt)

    def leap(self, seconds: float) -> None:
        self._leapt += seconds


class Frontier:
    """The frontier of the workers, as people and time change it from outside."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def is_silent(self, worker: Worker) -> None:
        """Redis has not heard of *worker* for long, and of the others has."""
        self._client.zadd("s:workers", {worker.number: 1})
        self._client.hdel("s:state", "grace")

    def is_idle(self, seconds: float) -> None:
        """Nobody has done anything for *seconds* more."""
        self._client.hincrby("s:state", "active", -int(seconds * 1000))

    def pause(self, *, on: bool = True) -> None:
        if on:
            self._client.hset("s:control", "paused", 1)
        else:
            self._client.hdel("s:control", "paused")

    def stop(self, worker: Worker) -> None:
        """What ``scrapy frontier workers --stop`` asks."""
        self._client.hset("s:control", f"stop:{worker.number}", 1)

    def take_away(self, worker: Worker) -> int:
        """Redis does not hold the leases of *worker* any more; how many there were."""
        ids = self._client.zrangebyscore("s:leases", worker.number, worker.number)
        for id_ in ids:
            self._client.zrem("s:leases", id_)
            self._client.hdel("s:leased", id_)
        return len(ids)

    def dump(self) -> dict[bytes, bytes]:
        """All data, for `go_back`."""
        return {key: self._client.dump(key) for key in self._client.keys("*")}

    def go_back(self, data: dict[bytes, bytes]) -> None:
        """Redis was restored from an older copy."""
        pipeline = self._client.pipeline()
        pipeline.flushdb()
        for key, value in data.items():
            pipeline.restore(key, 0, value)
        pipeline.execute()


class Downloader:
    """What a worker sees of Scrapy's downloader, if DOWNLOAD_DELAY is set."""

    def __init__(self, active: set[Request], crawler: Crawler) -> None:
        self.active = active
        self.slots: dict[str, Any] = {}
        self._settings = crawler.settings

    def get_slot_key(self, request: Request) -> str:
        return host_of(request)

    def _get_slot(
        self, request: Request, spider: Spider | None = None
    ) -> tuple[str, Any]:
        key = host_of(request)
        places = self._settings.getint("CONCURRENT_REQUESTS_PER_DOMAIN")
        delay = self._settings.getfloat("DOWNLOAD_DELAY")
        slot = SimpleNamespace(concurrency=places, delay=delay, transferring=set())
        slot.jitter, slot.randomize_delay, slot.lastseen = 0.0, False, 0.0
        return key, self.slots.setdefault(key, slot)


class Engine:
    """What a worker sees of Scrapy's engine."""

    _SLOT_HEARTBEAT_INTERVAL = 5.0

    def __init__(self, crawler: Crawler) -> None:
        self.running = True
        self.paused = False
        self.spider = crawler.spider
        self.downloader: Any = SimpleNamespace(active=set())
        if crawler.settings.getfloat("DOWNLOAD_DELAY"):
            self.downloader = Downloader(set(), crawler)
        self.scraper = SimpleNamespace(slot=SimpleNamespace(active=set()))
        #: Reasons for which the worker has asked to be closed.
        self.asked_to_close: list[str] = []
        #: How often the worker has woken the engine.
        self.woken = 0
        self._start: object = None
        self._slot = SimpleNamespace(
            inprogress=set(),
            closing=None,
            close_if_idle=True,
            nextcall=SimpleNamespace(schedule=self._wake),
            scheduler=None,
        )

    def _wake(self) -> None:
        self.woken += 1

    async def close_spider_async(self, *, reason: str = "cancelled") -> None:
        self.asked_to_close.append(reason)

    def close_spider(self, spider: Spider, reason: str = "cancelled") -> None:
        self.asked_to_close.append(reason)

    def crawl(self, request: Request) -> None:
        if not self._slot.scheduler.enqueue_request(request):
            self.dropped.append(request)

    def _handle_downloader_output(
        self, result: Request | Failure, request: Request
    ) -> bool:
        """A middleware has answered *request* with a request; whether that was taken."""
        if isinstance(result, Failure):
            return False
        taken: bool = self._slot.scheduler.enqueue_request(result)
        if not taken:
            self.dropped.append(result)
        return taken

    #: Requests that the scheduler did not take.
    dropped: list[Request]


class Worker:
    """One worker. *proxy*: what lies between it and Redis.

    *addon*: whether the components of the add-on say which page an output comes from.
    """

    def __init__(
        self,
        redis_url: str,
        spider: type[Spider] = Example,
        *,
        addon: bool = True,
        round_trip_ms: float = 0,
        **settings: Any,
    ) -> None:
        port = int(redis_url.rpartition(":")[2].partition("/")[0])
        self.proxy = Proxy(port, round_trip_ms=round_trip_ms, record=True)
        own = Settings(_SETTINGS | {"REDIS_URL": self.proxy.url(redis_url)} | settings)
        self.crawler: Any = Crawler(spider, own)
        settings_ = self.crawler.settings
        self.stats: MemoryStatsCollector
        self.stats = load_object(settings_["STATS_CLASS"])(self.crawler)
        self.crawler.stats = self.stats
        self.crawler.request_fingerprinter = build_from_crawler(
            load_object(settings_["REQUEST_FINGERPRINTER_CLASS"]), self.crawler
        )
        self.spider = self.crawler.spider = spider.from_crawler(self.crawler)
        self.engine = self.crawler.engine = Engine(self.crawler)
        #: Requests that were found to be duplicates, at once or later.
        self.dropped = self.engine.dropped = []
        self.crawler.signals.connect(self._drop, signals.request_dropped)
        self._middleware = FrontierSpiderMiddleware.from_crawler(self.crawler)
        self._downloads = FrontierDownloaderMiddleware.from_crawler(self.crawler)
        self._first_pipeline = FrontierPipeline.from_crawler(self.crawler)
        self._pipeline = RedisPipeline.from_crawler(self.crawler)
        self._has_addon = addon
        #: Handed out, and not told to the test yet.
        self._begun: deque[Request] = deque()
        self._is_open = self._closed = False
        self._starting: asyncio.Task[None] | None = None
        self._asks_start = asyncio.Event()
        self._asks_start.set()

    def _drop(self, request: Request) -> None:
        self.dropped.append(request)

    @classmethod
    async def start(cls, redis_url: str, *args: Any, **options: Any) -> Self:
        """A worker that has joined the frontier."""
        worker = cls(redis_url, *args, **options)
        await worker.open()
        return worker

    async def open(self) -> None:
        """Join. Raises what keeps the spider from being opened."""
        cls = load_object("scrapy_dist.scheduler.Scheduler")
        self.scheduler = cls.from_crawler(self.crawler)
        await _result(self.scheduler.open(self.spider))
        self.engine._slot.scheduler = self.scheduler
        if not self._has_addon:
            self.crawler.signals.disconnect(
                self._middleware._spider_opened, signals.spider_opened
            )
        self._is_open = True
        await self._tell(signals.spider_opened)

    # The engine's part

    def starts_with(self, *requests: Request) -> list[bool]:
        """``Spider.start()`` yields *requests*; whether each was taken."""
        taken = []
        for request in requests:
            request.meta["is_start_request"] = True
            taken.append(self.enqueue(request))
        return taken

    def start_goes_on(self) -> None:
        """``Spider.start()`` is not at its end yet."""
        self.engine._start = object()

    def start_ends(self) -> None:
        self.engine._start = None

    def holds_start(self) -> None:
        """Scrapy has enough, and asks ``Spider.start()`` for no more for now."""
        self._asks_start.clear()

    def run_start(self) -> None:
        """Scrapy asks ``Spider.start()`` for one request after the other."""
        self.start_goes_on()
        self._starting = asyncio.create_task(self._run_start())

    async def _run_start(self) -> None:
        async for request in self.spider.start():
            self.starts_with(request)
            await asyncio.sleep(0)
            await self._asks_start.wait()
        self.start_ends()

    def enqueue(self, request: Request) -> bool:
        """What reaches the scheduler from anywhere."""
        taken: bool = self.scheduler.enqueue_request(request)
        if not taken:
            self.dropped.append(request)
        return taken

    def take(self) -> Request | None:
        """The next request for the downloader, None for now."""
        if self._begun:
            return self._begun.popleft()
        request: Request | None = self.scheduler.next_request()
        if request is not None:
            self.engine._slot.inprogress.add(request)
            self.engine.downloader.active.add(request)
        return request

    async def next(self) -> Request:
        """The next request, as soon as there is one."""
        return await until(self.take, "a request for the downloader")

    async def all(self, count: int) -> list[Request]:
        """The next *count* requests, in their order."""
        return [await self.next() for _ in range(count)]

    def arrives(self, page: Request) -> None:
        """The page is downloaded, and its callback begins."""
        self.engine.downloader.active.discard(page)
        self.engine.scraper.slot.active.add(page)

    def is_replaced(self, page: Request, request: Request) -> bool:
        """A downloader middleware answers with *request*: a redirect, or a retry."""
        self.engine.downloader.active.discard(page)
        return self.engine._handle_downloader_output(request, page)

    def yields(self, page: Request, *outputs: Any) -> list[bool]:
        """The callback of *page* yields requests and items; which requests were taken."""
        self.arrives(page)
        taken = []
        response = Response(page.url, request=page)
        noted = outputs
        if self._has_addon:
            noted = self._middleware.process_spider_output(response, outputs)
        for output in noted:
            if isinstance(output, Request):
                taken.append(self.enqueue(output))
            else:
                copy_context().run(self._process_item, output)
        return taken

    def _process_item(self, item: Any) -> None:
        if self._has_addon:
            self._first_pipeline.process_item(item)
        self._pipeline.process_item(item)

    def fails(self, page: Request, reason: str = "no route") -> None:
        """The download of *page* has failed for good."""
        self.engine._handle_downloader_output(Failure(OSError(reason)), page)

    def end(self, page: Request, *, ask: bool = True) -> None:
        """*page* is finished; the engine asks for another one, if *ask*."""
        self.engine.downloader.active.discard(page)
        self.engine.scraper.slot.active.discard(page)
        self.engine._slot.inprogress.discard(page)
        if ask:
            request = self.take()
            if request is not None:
                self._begun.append(request)

    async def crawl(self, page: Request, *outputs: Any) -> None:
        """*page* from its download to its end."""
        self.yields(page, *outputs)
        self.end(page)
        await asyncio.sleep(0)

    # What a test asks

    @property
    def is_finished(self) -> bool:
        """Whether Scrapy would close this worker as idle."""
        return not self.scheduler.has_pending_requests()

    @property
    def number(self) -> int:
        """By what Redis knows this worker."""
        number: int = self.scheduler.frontier.worker
        return number

    @property
    def workers_seen(self) -> int:
        """Workers of this crawl as this one knows, itself too."""
        alive: int = self.scheduler.worker.queues.view.alive
        return alive

    @property
    def start_is_over(self) -> bool:
        """Whether ``Spider.start()`` has come to its end."""
        return self.engine._start is None

    @property
    def is_paused(self) -> bool:
        """Whether it knows that the crawl is paused."""
        paused: bool = self.scheduler.worker.queues.view.paused
        return paused

    @property
    def asked_to_close(self) -> list[str]:
        return self.engine.asked_to_close

    def sent(self, script: str) -> int:
        """How often this worker has called *script*, e.g. "commit"."""
        return len(self.calls(script))

    @staticmethod
    def sha(script: str) -> bytes:
        """What Redis knows *script* by."""
        return scripts.load(script).sha.encode()

    def calls(self, script: str) -> list[list[bytes]]:
        """The calls of *script* so far: SHA-1, number of keys, keys and arguments."""
        sha = self.sha(script)
        return [
            words[1:]
            for words in self.proxy.commands
            if words[0].upper() == b"EVALSHA" and words[1] == sha
        ]

    def leases_compared(self) -> int:
        """How often this worker has asked for the leases that Redis holds for it."""
        return sum(
            words[:2] == [b"ZRANGEBYSCORE", b"s:leases"]
            for words in self.proxy.commands
        )

    async def has_sent(self, script: str, times: int = 1) -> None:
        """Wait until this worker has called *script* that often more."""
        before = self.sent(script)
        await until(lambda: self.sent(script) >= before + times, f"{script} in Redis")

    async def beats(self, clock: Clock, script: str = "heartbeat") -> None:
        """Let the time come for its next beat, and wait for that."""
        before = self.sent(script)
        clock.leap(6)
        await until(lambda: self.sent(script) > before, f"{script} in Redis")

    def stat(self, name: str) -> Any:
        return self.stats.get_value(name)

    # The end

    async def close(self, reason: str = "finished") -> None:
        """Scrapy closes the spider, whose pages have ended."""
        self._closed = True
        self.engine._slot.closing = object()
        await _result(self.scheduler.close(reason))
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        await self._tell(signals.spider_closed, reason=reason)
        self.proxy.close()

    async def _tell(self, signal: object, **arguments: Any) -> None:
        for receiver in liveReceivers(getAllReceivers(self.crawler, signal)):
            found = robustApply(
                receiver, signal=signal, sender=self, spider=self.spider, **arguments
            )
            if found is not None:
                await _result(found)

    async def is_cancelled(self) -> None:
        """The event loop ends, and nobody has closed this worker."""
        self._closed = True
        [task] = [t for t in asyncio.all_tasks() if t.get_name() == "frontier exchange"]
        task.cancel()
        await asyncio.wait([task])
        await self._tell(signals.spider_closed, reason="cancelled")
        self.proxy.close()

    async def vanish(self) -> None:
        """Its process is gone: Redis hears nothing of it any more, not even a goodbye."""
        if self._closed:
            return
        if self._is_open:
            self.proxy.refuse()
            # What runs in this process ends, without a word that reaches Redis.
            options = replace(self.scheduler.options, close_timeout=0.0)
            self.scheduler.options = self.scheduler.worker.options = options
            await self.close("shutdown")
        self.proxy.close()


async def _result(found: Any) -> Any:
    if isinstance(found, Deferred):
        found = found.asFuture(asyncio.get_running_loop())
    return await found


class Outsider:
    """A process with a scheduler that is none of ours, and our pipeline and stats."""

    def __init__(self, redis_url: str, **settings: Any) -> None:
        self._worker = Worker(redis_url, **settings)
        self._worker.engine._slot.scheduler = object()
        self.proxy = self._worker.proxy
        self.stats = self._worker.stats

    async def open(self) -> None:
        await self._worker._tell(signals.spider_opened)

    def item(self, item: Any) -> None:
        self._worker._process_item(item)

    async def close(self) -> None:
        if self._worker._closed:
            return
        self._worker._closed = True
        await self._worker._tell(signals.spider_closed, reason="finished")
        self.proxy.close()
