"""Fails on the Scrapy version that changes a private name used in engine.py."""

from __future__ import annotations

from tests.support.project import assert_finished

SPIDER = """
from inspect import signature

from scrapy import signals
from scrapy.core.engine import ExecutionEngine
from scrapy_dist.worker import downloads, engine

# Nothing but `wake` lets the engine look again.
ExecutionEngine._SLOT_HEARTBEAT_INTERVAL = 600.0


class Private(Spider):
    name = "private"
    custom_settings = {
        "DOWNLOAD_SLOTS": {"slow": {"concurrency": 3, "delay": 30.0}},
        "CONCURRENT_REQUESTS_PER_DOMAIN": 5,
    }

    @classmethod
    def from_crawler(cls, crawler, *args, **kwargs):
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.scheduled, signals.request_scheduled)
        crawler.signals.connect(spider.dropped, signals.request_dropped)
        crawler.signals.connect(spider.reached, signals.request_reached_downloader)
        crawler.signals.connect(spider.idle, signals.spider_idle)
        return spider

    async def start(self):
        self.woken = False
        self.engine = engine.ScrapyEngine(self.crawler)
        self.first = Request(self.url + "/redirect/302/page/target")
        yield self.first

    def reached(self, request):
        # By the second one, the first has left.
        record(self, what="reached", active=len(self.engine.in_downloader()))

    def scheduled(self, request):
        if "redirect_urls" in request.meta:
            [old] = [r for r in self.engine.in_progress()]
            record(
                self,
                what="replaced",
                same=old.url == self.first.url,
                left=self.engine.left_downloader(old),
                scraped=old in self.engine.in_scraper(),
            )

    def dropped(self, request):
        record(self, what="dropped", url=request.url)

    def parse(self, response):
        slow = self.engine.download_state(
            "slow", Request(self.url, meta={"download_slot": "slow"})
        )
        key = self.engine.download_slot(response.request)
        here = self.engine.download_state(key, response.request)
        rests = self.rests("slow")
        record(
            self,
            what="slots",
            key=self.engine.download_slot(response.request) in self.url,
            own=self.engine.download_slot(Request("http://a", meta={"download_slot": "b"})),
            slow=[slow.places, slow.delay, slow.jitter, slow.transferring],
            never=slow.since > 1000,
            here=[here.places, here.delay, here.transferring],
            since=0 <= here.since < 60,
            rests=rests,
            odd=self.engine.download_state("[]", Request(self.url, meta={"download_slot": []})),
            active=response.request in self.engine.in_downloader(),
        )
        record(
            self,
            what="parsed",
            in_progress=response.request in self.engine.in_progress(),
            in_scraper=response.request in self.engine.in_scraper(),
            left=self.engine.left_downloader(response.request),
            scheduler=type(engine.scheduler(self.crawler)).__name__,
            closing=self.engine.closing(),
        )
        self.engine.report_dropped(Request("http://dropped.example"))

    def rests(self, key):
        # Before its first start, behind one, and when that is over.
        downloader = self.crawler.engine.downloader
        slot = downloader.slots[key]
        process = downloader._process_queue
        spider = [self] if "spider" in signature(process).parameters else []

        def state():
            return self.engine.download_state(
                key, Request(self.url, meta={"download_slot": key})
            )

        before = state().rests
        slot.lastseen = downloads.clock()
        process(*spider, slot)  # as behind a start
        behind = state().rests
        self.engine.end_delay(key)
        early = state().since < 10
        slot.latercall.cancel()
        if not spider:
            slot.latercall = None
        over = state().rests
        self.engine.end_delay(key)
        process(*spider, slot)  # which draws a delay
        return [before, 14 < behind < 46, early, over, state().rests]

    def idle(self):
        if not self.woken:
            self.woken = True
            self.engine.wake(0.1)
            raise DontCloseSpider
        record(self, what="idle again")

    def closed(self, reason):
        record(self, what="closed", closing=self.engine.closing())
"""


def test_private_names_of_scrapy_mean_what_they_meant(project, site):
    project.spider("from scrapy.exceptions import DontCloseSpider\n" + SPIDER)
    worker = project.crawl("private", args={"url": site.url}, frontier="memory")
    assert_finished([worker])

    agent = {"worker": worker.agent}
    assert project.records() == [
        {"what": "reached", "active": 1, **agent},
        {"what": "replaced", "same": True, "left": True, "scraped": False, **agent},
        {"what": "reached", "active": 1, **agent},
        {
            "what": "slots",
            "key": True,
            "own": "b",
            "slow": [3, 30.0, 0.5, 0],
            "never": True,
            "here": [5, 0.0, 0],
            "since": True,
            "rests": [0, True, True, 0, 0],
            "odd": None,
            "active": False,
            **agent,
        },
        {
            "what": "parsed",
            "in_progress": True,
            "in_scraper": True,
            "left": False,
            "scheduler": "Scheduler",
            "closing": False,
            **agent,
        },
        {"what": "dropped", "url": "http://dropped.example", **agent},
        {"what": "idle again", **agent},
        {"what": "closed", "closing": True, **agent},
    ]


SENT = """
from twisted.internet.tcp import Connection

from scrapy_dist.worker.engine import ScrapyEngine


class Sent(Spider):
    name = "sent"

    async def start(self):
        self.seen = []
        write = Connection.writeSomeData

        def writes(connection, data):
            self.seen.append("written")
            return write(connection, data)

        Connection.writeSomeData = writes
        ScrapyEngine(self.crawler).watch_downloads(
            lambda request, now: self.seen.append("reached"),
            lambda request, now: self.seen.append("sent"),
        )
        yield Request(self.url + "/chain/4/0")

    def parse(self, response):
        yield from response.follow_all(css="a")

    def closed(self, reason):
        record(self, seen=self.seen)
"""


def test_a_request_is_sent_only_when_it_is_in_the_socket(project, site):
    project.spider(SENT)
    assert_finished([project.crawl("sent", args={"url": site.url}, frontier="memory")])

    [found] = project.records()
    # The first one had to wait for its connection.
    assert found["seen"][3:] == ["reached", "written", "sent"] * 3
