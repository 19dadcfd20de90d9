"""Fails on the Scrapy version that changes a private name used in engine.py."""

from __future__ import annotations

from tests.support.project import assert_finished

SPIDER = """
from scrapy import signals
from scrapy.core.engine import ExecutionEngine
from scrapy_dist.worker import engine

# Nothing but `wake` lets the engine look again.
ExecutionEngine._SLOT_HEARTBEAT_INTERVAL = 600.0


class Private(Spider):
    name = "private"

    @classmethod
    def from_crawler(cls, crawler, *args, **kwargs):
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.scheduled, signals.request_scheduled)
        crawler.signals.connect(spider.dropped, signals.request_dropped)
        crawler.signals.connect(spider.idle, signals.spider_idle)
        return spider

    async def start(self):
        self.woken = False
        self.engine = engine.ScrapyEngine(self.crawler)
        self.first = Request(self.url + "/redirect/302/page/target")
        yield self.first

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

    def idle(self):
        if not self.woken:
            self.woken = True
            asyncio.get_running_loop().call_later(0.1, self.engine.wake)
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
        {"what": "replaced", "same": True, "left": True, "scraped": False, **agent},
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
