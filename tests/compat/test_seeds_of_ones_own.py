"""Spiders that read seeds by themselves, or do other things first, as people write them."""

from __future__ import annotations

import json
import signal

import pytest
from scrapy import Spider

from tests.support.project import assert_finished
from tests.support.redis_state import failed, wait_for_workers
from tests.support.together import start_together
from tests.support.wait import wait_until

#: A spider named ``own`` with the argument ``url``, which closes after a second.
OWN = """
from urllib.parse import urlsplit
from scrapy_dist.spiders import RedisSpider

class Base(RedisSpider):
    max_idle_time = 1

    def parse(self, response):
        record(self, path=urlsplit(response.url).path)

class Own(Base):
    name = "own"
"""
KEY = "own:start_urls"

#: What people put into ``next_requests`` and beside it.
READERS = {
    "pops": """
    def next_requests(self):
        found = 0
        while found < self.redis_batch_size:
            data = self.server.lpop(self.redis_key)
            if not data:
                break
            request = self.make_request_from_data(data)
            if request:
                yield request
                found += 1
    """,
    "fetch_data": """
    def next_requests(self):
        for data in self.fetch_data(self.redis_key, self.redis_batch_size):
            yield self.make_request_from_data(data)
        assert self.count_size(self.redis_key) >= 0
    """,
    "endless": """
    def next_requests(self):
        while data := self.server.lpop(self.redis_key):
            yield Request(data.decode(), dont_filter=True)
    """,
    "asks Redis about ours": """
    def next_requests(self):
        for request in super().next_requests():
            if not self.known(request.url):
                yield request

    def known(self, url):
        return self.server.sismember("done", url)
    """,
    "asks Redis for each": """
    def make_request_from_data(self, data):
        if not self.server.sismember("done", data):
            return Request(data.decode(), dont_filter=True)
    """,
    "filters ours": """
    def next_requests(self):
        for request in super().next_requests():
            if not request.url.endswith("/known"):
                yield request
    """,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.keeps("done", reason="the spider's own set")
def test_next_requests_of_ones_own(project, site, client, reader):
    project.spider(OWN + READERS[reader])
    urls = [f"{site.url}/page/{n}" for n in range(130)]
    known = f"{site.url}/page/known"
    ours = (
        "super()" in READERS[reader]
        or "make_request_from_data(self" in (READERS[reader])
    )
    if ours:
        client.sadd("done", known)
        urls.append(known)
    if reader == "fetch_data":
        urls.insert(2, "no URL")  # which keeps none of the others from being crawled
    client.rpush(KEY, *urls)
    frontier = "addon" if ours else "classic"
    worker = project.crawl("own", args={"url": site.url}, frontier=frontier)
    wait_until(lambda: len(project.records()) == 130, "all pages")
    client.rpush(KEY, f"{site.url}/page/later")
    assert_finished([worker])
    pages = {f"/page/{n}": 1 for n in range(130)}
    assert site.hits() == {**pages, "/page/later": 1}
    assert not client.exists(KEY)
    assert failed(client, "own") == []
    assert "Traceback" not in worker.log()
    assert ("The seed b'no URL' is left out" in worker.log()) == ("no URL" in urls)


@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_next_requests_that_reads_another_key(project, site, client, frontier):
    project.spider(
        OWN
        + """
    def next_requests(self):
        while data := self.server.lpop("tasks:urgent"):
            yield Request(f"{self.url}/page/{json.loads(data)['id']}", dont_filter=True)
    """
    )
    client.rpush("tasks:urgent", *[json.dumps({"id": n}) for n in range(10)])
    workers = start_together(
        project, site, 2, "own", args={"url": site.url}, frontier=frontier
    )
    assert_finished(workers)
    assert site.hits() == {f"/page/{n}": 1 for n in range(10)}


def test_next_requests_that_hangs_does_not_hold_the_worker(project, site, client):
    project.spider(
        OWN
        + """
    max_idle_time = 0

    def next_requests(self):
        while True:
            _, data = self.server.blpop("tasks", 0)
            yield Request(data.decode(), dont_filter=True)
    """
    )
    worker = project.crawl("own", settings={"REDIS_PARAMS": {"socket_timeout": None}})
    for n in range(2):
        client.rpush("tasks", f"{site.url}/page/{n}")
        wait_until(lambda n=n: site.hits()[f"/page/{n}"], "the page")
    wait_until(lambda: len(project.records()) == 2, "its callback")
    worker._process.send_signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert worker.reason() == "shutdown"
    assert worker.log().count("has not ended within") == 1


def test_what_next_requests_has_read_survives_ctrl_c(project, site, client):
    project.spider(OWN + READERS["endless"])
    client.rpush(KEY, *[f"{site.url}/gate/{n}" for n in range(600)])
    settings = {"CONCURRENT_REQUESTS": 4}
    worker = project.crawl("own", settings=settings)
    wait_until(lambda: len(site.log()) == 4, "four pages at once")
    worker.interrupt()
    worker.wait_for_log("Closing spider")
    for n in range(600):
        site.open_gate(str(n))
    assert worker.wait() == 0
    assert client.llen(KEY) > 100  # a run takes a hundred, and there are few
    assert_finished([project.crawl("own")])
    assert site.hits() == {f"/gate/{n}": 1 for n in range(600)}


def test_seed_that_its_reader_breaks_off_is_set_aside_at_last(project, site, client):
    project.spider(
        OWN
        + """
    def next_requests(self):
        for request in super().next_requests():
            if request.url.endswith("/bad"):
                raise ValueError("no")
            yield request
    """
    )
    names = ["0", "1", "bad", "2", "3"]
    client.rpush(KEY, *[f"{site.url}/page/{name}" for name in names])
    worker = project.crawl("own", frontier="addon")
    assert worker.wait() == 0
    assert worker.reason() in ("start_error", "finished")
    assert site.hits() == {f"/page/{n}": 1 for n in range(4)}
    [letter] = failed(client, "own")
    assert letter["kind"] == b"seed"
    assert letter["payload"] == f"{site.url}/page/bad".encode()


def test_schedule_next_requests_is_called(project, site, client):
    project.spider(
        OWN
        + """
    def schedule_next_requests(self):
        self.crawler.stats.inc_value("calls")
        super().schedule_next_requests()
    """
    )
    client.rpush(KEY, *[f"{site.url}/page/{n}" for n in range(20)])
    worker = project.crawl("own")
    assert_finished([worker])
    assert site.hits() == {f"/page/{n}": 1 for n in range(20)}
    assert worker.stats()["calls"] >= 2


def test_schedule_next_requests_that_takes_a_few_at_a_time(project, site, client):
    project.spider(
        OWN
        + """
    def schedule_next_requests(self):
        from itertools import islice

        for request in islice(self.next_requests(), 3):
            self.crawler.engine.crawl(request)
    """
    )
    client.rpush(KEY, *[f"{site.url}/page/{n}" for n in range(20)])
    assert_finished([project.crawl("own")])
    assert site.hits() == {f"/page/{n}": 1 for n in range(20)}


def test_schedule_next_requests_that_reads_redis(project, site, client):
    project.spider(
        OWN
        + """
    def schedule_next_requests(self):
        for data in self.fetch_data(self.redis_key, 8):
            self.crawler.engine.crawl(Request(data.decode(), dont_filter=True))
    """
    )
    client.rpush(KEY, *[f"{site.url}/page/{n}" for n in range(20)])
    assert_finished([project.crawl("own")])
    assert site.hits() == {f"/page/{n}": 1 for n in range(20)}


#: Overrides that read Redis, and a heart that beats in the event loop.
BEATING = """
import time
from scrapy.exceptions import DontCloseSpider

class Beating(Base):
    async def start(self):
        self.beating = asyncio.ensure_future(self.beat())
        async for request in super().start():
            yield request

    async def beat(self):
        while True:
            record(self, beat=1)
            await asyncio.sleep(0.02)

class Both(Beating):
    name = "both"
    redis_key = "own:start_urls"
    max_idle_time = 0

    def next_requests(self):
        record(self, asks=1)
        for data in self.server.lpop(self.redis_key, 3) or ():
            yield Request(data.decode(), dont_filter=True)
        record(self, asked=1)

    def schedule_next_requests(self):
        for request in self.next_requests():
            self.crawler.engine.crawl(request)

class Idles(Beating):
    # As in scrapy-redis, and by a key of its own.
    name = "idles"
    redis_key = "own:start_urls"
    max_idle_time = 0

    def spider_idle(self):
        record(self, asks=1)
        stop = self.server.get("own:stop")
        record(self, asked=1)
        self.schedule_next_requests()
        if stop is None:
            raise DontCloseSpider
        self.crawler.engine.close_spider(self, stop.decode())
"""


@pytest.mark.parametrize("name", ["both", "idles"])
def test_overrides_that_read_redis_do_not_hold_the_event_loop(
    make_project, own_redis, site, name
):
    project = make_project(own_redis.url, FRONTIER_WORKER_TTL=60.0)
    project.spider(OWN + BEATING)
    urls = [f"{site.url}/page/{n}" for n in range(8)]
    with own_redis.client() as client:
        client.rpush(KEY, *urls)
    worker = project.crawl(name)
    wait_until(lambda: len(project.recorded("path")) == 8, "all pages", 60)
    before = len(project.recorded("asked"))
    asked_again = lambda: len(project.recorded("asked")) > before  # noqa: E731
    wait_until(asked_again, "an idle worker", 60)
    own_redis.freeze()

    def under_way() -> bool:
        return len(project.recorded("asks")) > len(project.recorded("asked"))

    wait_until(under_way, "it waits for Redis", 60)
    beats = len(project.recorded("beat"))
    wait_until(lambda: len(project.recorded("beat")) >= beats + 20, "the heart beats")
    assert under_way()
    own_redis.thaw()
    wait_until(lambda: not under_way(), "its answer has come", 60)
    if name == "idles":
        with own_redis.client() as client:
            client.set("own:stop", "enough")
    else:
        worker.interrupt()
    assert worker.wait() == 0
    assert worker.reason() == ("enough" if name == "idles" else "shutdown")
    assert site.hits() == {f"/page/{n}": 1 for n in range(8)}


def test_start_that_never_calls_super(project, site, client):
    project.spider(
        OWN
        + """
    async def start(self):
        yield Request(f"{self.url}/page/login", self.logged_in, dont_filter=True)

    def logged_in(self, response):
        pass
    """
    )
    client.rpush(KEY, *[f"{site.url}/page/{n}" for n in range(20)])
    workers = start_together(
        project, site, 2, "own", args={"url": site.url}, frontier="addon"
    )
    assert_finished(workers)
    assert site.hits() == {"/page/login": 1, **{f"/page/{n}": 1 for n in range(20)}}


@pytest.mark.parametrize(("seeds", "concurrency"), [(2, 1), (40, 16)])
def test_start_that_waits_for_a_page(project, site, client, seeds, concurrency):
    project.spider(
        OWN
        + """
    async def start(self):
        self.ready = asyncio.Event()
        yield Request(f"{self.url}/page/login", self.logged_in, dont_filter=True)
        await self.ready.wait()
        async for request in super().start():
            yield request.replace(url=request.url + "?open")

    def logged_in(self, response):
        self.ready.set()
    """
    )
    client.rpush(KEY, *[f"{site.url}/page/{n}" for n in range(seeds)])
    settings = {"CONCURRENT_REQUESTS": concurrency}
    worker = project.crawl("own", args={"url": site.url}, settings=settings)
    assert_finished([worker])
    assert site.hits() == {"/page/login": 1, **{f"/page/{n}": 1 for n in range(seeds)}}
    assert site.paths()[0] == "/page/login"


def test_others_get_the_seeds_while_start_is_busy(project, site, client):
    """One takes its seeds one by one, a step each ten seconds, the other does all."""
    project.spider(
        OWN
        + """
    slow = ""
    max_idle_time = 0

    async def start(self):
        async for request in super().start():
            yield request
            while self.slow:
                await asyncio.sleep(0.1)
    """
    )
    slow = project.crawl("own", args={"slow": "1"})
    wait_for_workers(client, "own", 1)
    client.rpush(KEY, *[f"{site.url}/page/{n}" for n in range(30)])
    wait_until(site.hits, "the first seed")
    other = project.crawl("own")
    wait_until(lambda: len(project.records()) == 30, "all pages")
    assert site.hits() == {f"/page/{n}": 1 for n in range(30)}
    assert site.hits_by_worker()[slow.agent] == 1
    for worker in (slow, other):
        worker.interrupt()
        assert worker.wait() == 0


CLOSES = """
from scrapy import signals
from scrapy.core.engine import ExecutionEngine
from scrapy.exceptions import CloseSpider, DontCloseSpider

ExecutionEngine._SLOT_HEARTBEAT_INTERVAL = 0.5

class CloseWhenIdle:
    def __init__(self, crawler):
        self.crawler, self.idle = crawler, 0
        crawler.signals.connect(self.spider_idle, signal=signals.spider_idle)

    @classmethod
    def from_crawler(cls, crawler):
        return cls(crawler)

    def spider_idle(self, spider):
        assert self.crawler.engine.spider_is_idle()
        self.idle = 0 if spider.server.exists(spider.redis_key) else self.idle + 1
        spider.crawler.stats.set_value("idle", self.idle)
        if self.idle >= 3:
            self.crawler.engine.close_spider(spider, "no_more_tasks")
        raise DontCloseSpider
"""


@pytest.mark.parametrize("start", ["", "    async def start(self):\n        yield {}"])
def test_extension_that_closes_an_idle_spider(project, site, client, start):
    project.module("idle", CLOSES)
    project.spider(OWN + "    max_idle_time = 0\n" + start)
    client.rpush(KEY, *[f"{site.url}/page/{n}" for n in range(5)])
    settings = {"EXTENSIONS": {"shop.idle.CloseWhenIdle": 500}}
    workers = project.crawl_many(2, "own", settings=settings)
    for worker in workers:
        assert worker.wait() == 0
        assert worker.reason() == "no_more_tasks"
        assert worker.stats()["idle"] == 3
    assert site.hits() == {f"/page/{n}": 1 for n in range(5)}


def test_handlers_of_spider_idle_decide(project, site, client):
    project.module("idle", CLOSES)
    project.spider(
        OWN
        + """
    max_idle_time = 0
    rounds = 0

    def spider_idle(self):
        self.rounds += 1
        if self.rounds <= 3:
            self.crawler.engine.crawl(Request(f"{self.url}/page/{self.rounds}"))
            raise DontCloseSpider
        # Nobody says no: it closes.
    """.replace("DontCloseSpider", "scrapy.exceptions.DontCloseSpider")
    )
    assert_finished([project.crawl("own", args={"url": site.url})])
    assert site.hits() == {f"/page/{n}": 1 for n in (1, 2, 3)}


def test_start_requests(project, site, client):
    project.spider(
        OWN
        + """
    def start_requests(self):
        for n in range(12):
            yield Request(f"{self.url}/page/{n}")
    """
    )
    client.rpush(KEY, f"{site.url}/page/seed")
    worker = project.crawl("own", args={"url": site.url})
    assert_finished([worker])
    called = hasattr(Spider, "start_requests")  # before Scrapy 2.19 or so
    pages = {f"/page/{n}": 1 for n in range(12)} if called else {}
    assert site.hits() == {**pages, "/page/seed": 1}
    assert worker.log().count("does not call Own.start_requests()") == (not called)


def test_server_may_be_assigned(project, site, client):
    project.spider(
        OWN
        + """
    def setup_redis(self, crawler=None):
        from scrapy_dist import connection

        self.server = connection.from_settings(crawler.settings)
        self.own = self.server

    def parse(self, response):
        record(self, same=self.server is self.own, size=self.count_size(self.redis_key))
    """
    )
    client.rpush(KEY, f"{site.url}/page/a")
    assert_finished([project.crawl("own")])
    assert project.recorded("same") == [True]
    assert project.recorded("size") == [0]


def test_seed_that_was_retried_and_fails_is_a_letter_of_what_was_pushed(
    project, site, client
):
    project.spider(OWN)
    seeds = [
        json.dumps({"url": f"{site.url}/status/503/a", "meta": {"shop": 7}}),
        json.dumps({"url": f"{site.url}/redirect/302/status/503/b", "meta": {"n": 1}}),
        f"{site.url}/once/503/c",
    ]
    client.rpush(KEY, *seeds)
    settings = {"RETRY_ENABLED": True, "RETRY_TIMES": 2}
    worker = project.crawl("own", settings=settings, frontier="addon")
    assert_finished([worker])
    assert site.hits() == {
        "/status/503/a": 3,
        "/redirect/302/status/503/b": 1,
        "/status/503/b": 3,
        "/once/503/c": 2,
    }
    letters = failed(client, "own")
    assert sorted(letter["payload"].decode() for letter in letters) == sorted(seeds[:2])
    assert {letter["kind"] for letter in letters} == {b"seed"}
    assert project.recorded("path") == ["/once/503/c"]
