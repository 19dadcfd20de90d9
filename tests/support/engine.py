"""An engine without Scrapy: what a worker's queues see of one (`view.EngineView`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from scrapy import Request, Spider
from scrapy.crawler import Crawler
from scrapy.settings import Settings
from scrapy.statscollectors import MemoryStatsCollector

from scrapy_dist.core.settings import Options
from scrapy_dist.core.slots import Order, host_of
from scrapy_dist.worker.queues import Queues
from scrapy_dist.worker.view import Downloads

if TYPE_CHECKING:
    from scrapy_dist.codec.request import PayloadCodec
    from scrapy_dist.worker.politeness import Politeness
    from scrapy_dist.worker.recovery import Ending


class FakeEngine:
    """Tests move requests between its sets, and look at what it was told."""

    heartbeat = 5.0

    def __init__(self, spider: Spider | None = None) -> None:
        self.spider = spider or Spider("s")
        self.stats = MemoryStatsCollector(Crawler(Spider))
        self.requests: set[Request] = set()
        self.downloads: set[Request] = set()
        self.scraping: set[Request] = set()
        self.dropped: list[Request] = []
        self.crawled: list[Request] = []
        #: What the downloader is to start at once; and the delays that were set, by slot.
        self.started: list[Request] = []
        self.delays: dict[str, float] = {}
        #: Slots of which the downloader's delay was said to be over.
        self.ended: list[str] = []
        #: Reasons for which it was asked to close; 'error: …' with an exit code of 1.
        self.asked_to_close: list[str] = []
        self.is_closing = False
        self.has_started = True
        self.woken = self.idle = 0
        #: Seconds after which it was asked to wake.
        self.alarms: list[float] = []
        #: Places and delay of the downloader's slots, and what is known of some of them.
        self.places, self.delay, self.jitter = 8, 0.0, 0.0
        self.slots: dict[str, Downloads] = {}

    def in_progress(self) -> set[Request]:
        return self.requests

    def in_scraper(self) -> set[Request]:
        return self.scraping

    def downloading(self, request: Request) -> bool:
        return request in self.downloads

    def in_downloader(self) -> set[Request]:
        return self.downloads

    def download_slot(self, request: Request) -> str:
        return host_of(request)

    def download_state(self, key: str, request: Request) -> Downloads | None:
        idle = Downloads(self.places, self.delay, self.jitter, 0, 1e9)
        return self.slots.get(key, idle)

    def watch_downloads(
        self,
        reached: Callable[[Request, float], None],
        sent: Callable[[Request, float], None],
    ) -> None:
        self.reached, self.sent = reached, sent

    def start_now(self, request: Request) -> None:
        self.started.append(request)

    def end_delay(self, key: str) -> None:
        self.ended.append(key)

    def set_delay(self, request: Request, delay: float) -> None:
        self.delays[host_of(request)] = delay

    def left_downloader(self, request: Request) -> bool:
        waits = request in self.downloads or request in self.scraping
        return request in self.requests and not waits

    def report_dropped(self, request: Request) -> None:
        self.dropped.append(request)

    def wake(self, after: float = 0.0) -> None:
        self.woken += not after
        if after:
            self.alarms.append(after)

    def start_ended(self) -> bool:
        return self.has_started

    def start_is_over(self) -> bool:
        return self.has_started

    def crawl(self, request: Request) -> None:
        self.crawled.append(request)

    def crawl_from_threads(self, crawl: Callable[[Request], None]) -> None:
        raise NotImplementedError

    def tell_idle(self) -> None:
        self.idle += 1

    def closing(self) -> bool:
        return self.is_closing

    def close(self, reason: str) -> None:
        self.asked_to_close.append(reason)

    def end_with_error(self, reason: str) -> None:
        self.asked_to_close.append(f"error: {reason}")


def make_crawler(spider: Spider | None = None, **settings: object) -> Crawler:
    """Scrapy's own crawler of *spider*, with *settings* as of the spider; no engine."""
    crawler = Crawler(type(spider) if spider else Spider)
    crawler.settings.setdict(settings, priority="spider")
    crawler.spider = spider
    return crawler


class Closer:
    """Who closes a worker: notes why."""

    def __init__(self) -> None:
        self.reasons: list[Ending] = []

    def must_close(self, why: Ending) -> None:
        self.reasons.append(why)


def make_options(**options: object) -> Options:
    """*options* as settings are."""
    settings = {"FRONTIER_LOCAL_FINGERPRINTS": 100, "FRONTIER_COMMIT_CHUNK": 100}
    return Options.from_settings(Settings(settings | options))


def make_queues(
    engine: FakeEngine,
    codec: PayloadCodec,
    duplicates: list[Request] | None = None,
    politeness: Politeness | None = None,
    **options: object,
) -> Queues:
    """The real queues on *engine*; *options* as settings are."""
    made = make_options(**options)
    return Queues(
        engine,
        codec,
        made,
        order=Order(lambda request: 0.0, made.slots),
        report_duplicate=[].append if duplicates is None else duplicates.append,
        failed_key="s:failed",
        politeness=politeness,
    )
