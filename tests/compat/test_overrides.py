"""Components as projects write them for scrapy-redis: they act as there, or are refused."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.support.project import FRONTIERS, assert_finished
from tests.support.redis_state import count_items, count_suspects, stored_items
from tests.support.redis_state import keys as all_keys
from tests.support.site import tree_pages
from tests.support.together import start_together
from tests.support.wait import wait_until


def keys(client):
    """What a finished crawl has left, but for its record."""
    return [key for key in all_keys(client) if not key.endswith(":history")]


PAGES = """
class Pages(Spider):
    name = "pages"

    async def start(self):
        for i in range(12):
            yield Request(f"{self.url}/page/{i}")

    def parse(self, response):
        yield {"url": response.url}
"""

PIPELINES = """
import asyncio
from scrapy_dist import connection
from scrapy_dist.pipelines import RedisPipeline

class Stamped(RedisPipeline):
    def open_spider(self, spider):
        self.opened = True

    def process_item(self, item, spider):
        item["stamped"] = self.opened
        super().process_item(item, spider)
        item["later"] = True  # what is queued is the item as it was
        return item

class Awaited(RedisPipeline):
    @classmethod
    def from_settings(cls, settings):
        return cls(connection.from_settings(settings), key="awaited:%(spider)s")

    async def process_item(self, item, spider):
        return await super().process_item(item, spider)

class Called(RedisPipeline):
    def item_key(self, item, spider):
        return "called"

    def process_item(self, item, spider):
        return super().process_item(item, spider).addCallback(lambda item: item)

class Hashed(RedisPipeline):
    def _process_item(self, item, spider):
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self.server.hset("hashed", item["url"], 1)
        return item

class Elsewhere(RedisPipeline):
    @classmethod
    def from_settings(cls, settings):
        url = settings["REDIS_URL"].rpartition("/")[0] + "/5"
        return cls(connection.get_redis(url=url))

class Dropping(RedisPipeline):
    def process_item(self, item, spider):
        super().process_item(item, spider)
        return item

    def _process_item(self, item, spider):
        self.server.sadd("dropped", item["url"])
"""


@pytest.mark.parametrize("frontier", ["classic", "addon", "memory"])
def test_pipelines_act_as_there(project, site, redis_server, frontier):
    project.module("pipelines", PIPELINES)
    project.spider(PAGES)
    names = ["Stamped", "Awaited", "Called", "Hashed", "Elsewhere", "Dropping"]
    worker = project.crawl(
        "pages",
        args={"url": site.url},
        frontier=frontier,
        settings={
            "ITEM_PIPELINES": {
                f"shop.pipelines.{name}": 300 + i for i, name in enumerate(names)
            }
        },
    )
    assert_finished([worker])

    assert worker.stats()["item_scraped_count"] == 12
    assert "never awaited" not in worker.log()
    with redis_server.client() as client, redis_server.client(db=5) as other:
        stamped = [json.loads(item) for item in stored_items(client, "pages")]
        assert len(stamped) == 12
        assert all(item["stamped"] and "later" not in item for item in stamped)
        assert client.llen("awaited:pages") == client.llen("called") == 12
        assert client.hlen("hashed") == client.scard("dropped") == 12
        assert count_items(other, "pages") == 12
        other.flushdb()
        client.delete("pages:items", "awaited:pages", "called", "hashed", "dropped")
        assert keys(client) == []


FILTERS = """
from scrapy_dist.connection import get_redis_from_settings
from scrapy_dist.dupefilter import RFPDupeFilter
from scrapy_dist.scheduler import Scheduler
from scrapy.utils.misc import load_object

class Odd(RFPDupeFilter):
    # Odd numbers are filtered by a set of its own, even ones never.
    def request_seen(self, request):
        number = int(request.url.rsplit("/", 1)[1])
        return number % 2 == 1 and not self.server.sadd("odd:seen", number)

class Sets(RFPDupeFilter):
    def __init__(self, server, key, debug=False):
        super().__init__(server, key, debug)
        self.asked = 0

    @classmethod
    def from_spider(cls, spider):
        return cls(get_redis_from_settings(spider.settings), key=f"own:{spider.name}")

    def request_seen(self, request):
        self.asked += 1
        return not self.server.sadd(self.key, self.request_fingerprint(request))

class Calls(RFPDupeFilter):
    def request_seen(self, request):
        return super().request_seen(request)

class Bits(RFPDupeFilter):
    # A Bloom filter as those on PyPI: no call of the constructor of ours, and its bits
    # lie under the key that the settings name.
    def __init__(self, server, key, debug, bits):
        self.server = server
        self.key = key
        self.debug = debug
        self.bits = bits
        self.logdupes = True

    @classmethod
    def from_spider(cls, spider):
        settings = spider.settings
        key = settings.get("SCHEDULER_DUPEFILTER_KEY") % {"spider": spider.name}
        return cls(get_redis_from_settings(settings), key, False, 1 << 20)

    def request_seen(self, request):
        fingerprint = self.request_fingerprint(request)
        places = [int(fingerprint[i : i + 8], 16) % self.bits for i in (0, 8, 16)]
        pipe = self.server.pipeline(transaction=False)
        for place in places:
            pipe.setbit(self.key, place, 1)
        return all(pipe.execute())

class BitsScheduler(Scheduler):
    def open(self, spider):
        self.spider = spider
        self.queue = load_object(self.queue_cls)(
            server=self.server,
            spider=spider,
            key=self.queue_key % {"spider": spider.name},
            serializer=self.serializer,
        )
        self.df = load_object(self.dupefilter_cls).from_spider(spider)
        if self.flush_on_start:
            self.flush()
        if len(self.queue):
            spider.logger.info("Resuming")
"""

LINKS = """
class Links(Spider):
    name = "links"

    async def start(self):
        for i in range(3):
            yield Request(f"{self.url}/page/{200 + i}")

    def parse(self, response):
        for i in list(range(12)) * 2:
            yield Request(f"{self.url}/page/{i}", self.page)

    def page(self, response):
        pass
"""


@pytest.mark.parametrize("frontier", ["classic", "addon"])
@pytest.mark.parametrize("name", ["Odd", "Sets", "Calls", "Bits"])
def test_a_dupefilter_that_decides_itself_is_shared_by_two_workers(
    project, site, redis_server, frontier, name
):
    project.module("filters", FILTERS)
    project.spider(LINKS)
    settings = {"DUPEFILTER_CLASS": f"shop.filters.{name}"}
    if name == "Bits":
        settings["SCHEDULER_DUPEFILTER_KEY"] = "%(spider)s:dupefilter"
        settings["SCHEDULER"] = "shop.filters.BitsScheduler"
    workers = start_together(
        project,
        site,
        2,
        "links",
        args={"url": site.url},
        settings=settings,
        frontier=frontier,
    )
    assert_finished(workers)

    times = Counter({f"/page/{200 + i}": 1 for i in range(3)})
    for i in range(12):
        # Even numbers are never filtered: each of three pages links to them twice.
        times[f"/page/{i}"] = 6 if name == "Odd" and i % 2 == 0 else 1
    if name == "Odd":
        times["/page/201"] = 1
    assert site.hits() == times
    with redis_server.client() as client:
        client.delete("odd:seen")
        assert keys(client) == []  # clear() was called


def test_no_page_is_lost_with_a_filter_of_its_own_when_a_worker_is_killed(
    project, site, redis_server
):
    project.module("filters", FILTERS)
    project.spider("""
    class Follow(Spider):
        name = "follow"

        async def start(self):
            yield Request(self.url)

        def parse(self, response):
            yield from response.follow_all(css="a::attr(href)")
    """)
    site.delay(60)
    workers = start_together(
        project,
        site,
        3,
        "follow",
        args={"url": f"{site.url}/tree/200/3/0"},
        settings={"DUPEFILTER_CLASS": "shop.filters.Calls"},
        frontier="addon",
    )
    for worker in workers[:2]:
        wait_until(lambda: site.hits_by_worker()[worker.agent] >= 10, "10 pages")  # noqa: B023
        worker.kill()
    assert_finished([workers[2]])
    assert set(site.hits()) == set(tree_pages(200, 3))
    with redis_server.client() as client:
        assert keys(client) == []


COPIED = """
from scrapy_dist import connection
from scrapy_dist.scheduler import Scheduler

class Copied(Scheduler):
    # The methods of scrapy-redis' Scheduler, copied, and a little added.
    def __init__(self, server, settings, **kwargs):
        super().__init__(server=server, **kwargs)
        self.bot = settings["BOT_NAME"]

    @classmethod
    def from_settings(cls, settings):
        kwargs = {"persist": settings.getbool("SCHEDULER_PERSIST")}
        for name, setting in {
            "queue_key": "SCHEDULER_QUEUE_KEY",
            "queue_cls": "SCHEDULER_QUEUE_CLASS",
            "dupefilter_cls": "DUPEFILTER_CLASS",
        }.items():
            if settings.get(setting):
                kwargs[name] = settings[setting]
        return cls(connection.from_settings(settings), settings, **kwargs)

    def open(self, spider):
        super().open(spider)
        spider.logger.info(f"{self.bot}: {len(self.queue)} of {type(self.df).__name__}")

    def enqueue_request(self, request):
        if not request.dont_filter and self.df.request_seen(request):
            self.df.log(request, self.spider)
            return False
        self.stats.inc_value("copied/enqueued")
        self.queue.push(request)
        return True

    def next_request(self):
        request = self.queue.pop(self.idle_before_close)
        if request:
            self.stats.inc_value("copied/dequeued")
        return request

    def close(self, reason):
        if not self.persist:
            self.flush()
"""


def test_a_scheduler_copied_from_there_works(project, site, redis_server):
    project.module("copied", COPIED)
    project.spider(LINKS)
    workers = start_together(
        project,
        site,
        2,
        "links",
        args={"url": site.url},
        settings={"SCHEDULER": "shop.copied.Copied"},
    )
    assert_finished(workers)
    pages = [*range(12), 200, 201, 202]
    assert site.hits() == {f"/page/{i}": 1 for i in pages}
    stats = [worker.stats() for worker in workers]
    assert sum(s.get("copied/dequeued", 0) for s in stats) == 15
    assert all("shop: 0 of RFPDupeFilter" in worker.log() for worker in workers)


REFUSED = """
from scrapy_dist import connection, queue, scheduler, stats
from scrapy_dist.dupefilter import RFPDupeFilter

class RandomQueue(queue.Base):
    def push(self, request):
        self.server.sadd(self.key, self._encode_request(request))

    def pop(self, timeout=0):
        data = self.server.spop(self.key)
        return self._decode_request(data) if data else None

class Popping(scheduler.Scheduler):
    def next_request(self):
        return self.server.zpopmax(self.queue_key)

class Elsewhere(scheduler.Scheduler):
    @classmethod
    def from_settings(cls, settings):
        return cls(connection.get_redis(host="localhost", port=1))

class Keyed(stats.RedisStatsCollector):
    def _get_key(self, spider=None):
        return "mine"

class PerProcess(RFPDupeFilter):
    @classmethod
    def from_settings(cls, settings):
        return cls(connection.from_settings(settings), key="dupefilter:1700000000")
"""


@pytest.mark.parametrize(
    ("setting", "name", "said"),
    [
        ("SCHEDULER_QUEUE_CLASS", "RandomQueue", "RandomQueue overrides pop, push: "),
        ("SCHEDULER", "Popping", "Popping overrides next_request, "),
        ("SCHEDULER", "Elsewhere", "Elsewhere has a server of its own"),
        ("STATS_CLASS", "Keyed", "Keyed overrides _get_key: "),
        ("DUPEFILTER_CLASS", "PerProcess", "PerProcess.from_settings() gives each"),
    ],
)
def test_what_cannot_act_as_there_is_refused_by_name(
    project, site, client, setting, name, said
):
    project.module("refused", REFUSED)
    project.spider(PAGES)
    worker = project.crawl(
        "pages",
        args={"url": site.url},
        settings={**FRONTIERS["classic"], setting: f"shop.refused.{name}"},
    )
    assert worker.wait() == 1
    errors = [line for line in worker.log().splitlines() if "ERROR" in line]
    assert len(errors) == 1, worker.tail()
    assert f"shop.refused.{said}" in errors[0]
    assert "Traceback" not in worker.log()
    assert not site.hits()
    assert keys(client) == []


HANGING = """
import threading
from shop.record import record
from scrapy_dist.dupefilter import RFPDupeFilter
from scrapy_dist.pipelines import RedisPipeline

class Hanging(RedisPipeline):
    def _process_item(self, item, spider):
        record(spider, hangs=item["url"])
        threading.Event().wait()

class NotAwaited(Hanging):
    def process_item(self, item, spider):
        super().process_item(item, spider)
        return item

class HangingFilter(RFPDupeFilter):
    def request_seen(self, request):
        record(self._crawler.spider, hangs=request.url)
        threading.Event().wait()
"""


@pytest.mark.parametrize("name", ["Hanging", "NotAwaited", "HangingFilter"])
def test_what_never_ends_holds_up_neither_the_closing_nor_the_end_of_the_process(
    project, site, redis_server, name
):
    project.module("hanging", HANGING)
    project.spider(PAGES)
    settings = {"FRONTIER_CLOSE_TIMEOUT": 0.5, "CONCURRENT_REQUESTS": 2}
    path = f"shop.hanging.{name}"
    if name == "HangingFilter":
        settings["DUPEFILTER_CLASS"] = path
    else:
        settings["ITEM_PIPELINES"] = {path: 300}
    worker = project.crawl("pages", args={"url": site.url}, settings=settings)
    wait_until(lambda: project.recorded("hangs"), "something that hangs")
    worker.interrupt()
    assert worker.wait() == 0
    assert worker.reason() == "shutdown"
    assert "Forcing unclean shutdown" not in worker.log()
    if name != "HangingFilter":  # of start(), for which no page waits
        with redis_server.client() as client:
            assert client.hlen("pages:leased") or count_suspects(client, "pages")
