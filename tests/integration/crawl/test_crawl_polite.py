"""A polite crawl: delays and places hold for all workers together.

What is checked is when the downloads start, as the workers' own clock says: on a busy
machine they arrive at the site earlier or later than that. It is one clock for all.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
from scrapy.settings import default_settings

from tests.support.project import assert_finished
from tests.support.redis_state import keys_of
from tests.support.site import host_pages
from tests.support.site_server import host
from tests.support.spiders import FOLLOW, SEEDED
from tests.support.together import start_together
from tests.support.wait import wait_until

#: Seconds of delay, and how much less a gap may be.
DELAY, TOLERANCE = 0.4, 0.002
EXACT = (
    {"DOWNLOAD_DELAY_JITTER": 0}
    if hasattr(default_settings, "DOWNLOAD_DELAY_JITTER")
    else {"RANDOMIZE_DOWNLOAD_DELAY": False}
)
POLITE = {
    "FRONTIER_POLITENESS": True,
    "DOWNLOAD_DELAY": DELAY,
    **EXACT,
    "FRONTIER_TURN": 1.0,
    "EXTENSIONS": {"shop.starts.Starts": 1},
}
STARTS = """
import time
from scrapy import signals
from shop.record import record

class Starts:
    def __init__(self, crawler):
        self.crawler = crawler
        crawler.signals.connect(self.starts, signals.request_reached_downloader)

    @classmethod
    def from_crawler(cls, crawler):
        return cls(crawler)

    def starts(self, request):
        record(self.crawler.spider, start=request.url, at=time.monotonic())
"""
NAMES = [host(n) for n in range(6)]


@pytest.fixture
def polite(project):
    """A project that records the starts of downloads."""
    project.module("starts", STARTS)
    return project


def starts(project):
    """When downloads have started, by host."""
    found = {}
    for each in project.records():
        if "start" in each:
            name = urlsplit(each["start"]).hostname
            found.setdefault(name, []).append(each["at"])
    return found


def short_gaps(*times, delay=DELAY):
    """Gaps between the starts of one slot, at the hosts of *times*, that are too short."""
    times = sorted(t for each in times for t in each)
    gaps = [later - time for time, later in pairwise(times)]
    return [round(gap, 4) for gap in gaps if gap < delay - TOLERANCE]


def assert_polite(project, names=NAMES, delay=DELAY):
    found = starts(project)
    assert {name: short_gaps(found[name], delay=delay) for name in names} == {
        name: [] for name in names
    }


def pages(hosts):
    """How often each page of the hosts was asked for."""
    return Counter((hit.host, hit.path) for hit in hosts.log() if hit.host in NAMES)


def test_delay_holds_for_three_workers(polite, hosts):
    polite.spider(FOLLOW)
    url = f"{hosts.url}/hosts/6/8"
    workers = start_together(
        polite, hosts, 3, "follow", args={"url": url}, frontier="addon", settings=POLITE
    )
    assert_finished(workers)
    assert_polite(polite)
    assert pages(hosts) == host_pages(6, 8)
    for worker in workers:
        said = [line for line in worker.log().splitlines() if "WARNING" in line]
        assert [line for line in said if "scrapy_dist" in line] == []


def test_without_the_gate_it_holds_for_what_is_handed_out(polite, hosts, redis_server):
    polite.spider(SEEDED)
    settings = {**POLITE, "MAX_IDLE_TIME_BEFORE_CLOSE": 1}
    urls = [f"http://{n}:{hosts.port}/page/{i}" for n in NAMES for i in range(4)]
    # They stay in the worker that is redirected, and wait for a slot that it has not.
    urls += [f"http://{NAMES[0]}:{hosts.port}/to/{n}/page/to-{n}" for n in range(6)]
    with redis_server.client() as client:
        client.lpush("seeded:start_urls", *urls)
    workers = polite.crawl_many(3, "seeded", settings=settings, frontier="classic")
    assert_finished(workers)
    assert_polite(polite)
    assert set(pages(hosts).values()) == {1}
    assert sum(pages(hosts).values()) == 24 + 2 * 6
    for worker in workers:
        said = [line for line in worker.log().splitlines() if "FRONTIER_" in line]
        [line] = [line for line in said if "WARNING" in line]
        assert "FRONTIER_POLITENESS: robots.txt, media and" in line


GATED = """
import inspect
from scrapy.exceptions import DropItem

class Gated(Spider):
    name = "gated"
    url = None

    async def start(self):
        yield Request(self.url)

    def parse(self, response):
        for n in range(2):
            host = f"http://127.0.1.{n + 1}:{self.port}"
            yield Request(f"{host}/page/secret-{n}", self.parse_page)
            for i in range(3):
                yield Request(f"{host}/to/3/page/{n}-{i}", self.parse_page)
                yield Request(f"{host}/page/{i}", self.parse_page)

    def parse_page(self, response):
        record(self, slot=response.meta["download_slot"], url=response.url)
        name = response.url.rpartition("/")[2]
        yield {"image": f"http://127.0.1.5:{self.port}/page/image-{name}"}


class Images:
    def __init__(self, crawler):
        self.crawler = crawler

    @classmethod
    def from_crawler(cls, crawler):
        return cls(crawler)

    async def process_item(self, item, spider=None):
        from scrapy.utils.defer import maybe_deferred_to_future
        engine = self.crawler.engine
        request = Request(item["image"] + f"-{self.crawler.settings['USER_AGENT']}")
        download = getattr(engine, "download_async", engine.download)(request)
        if not inspect.isawaitable(download) or hasattr(download, "addCallback"):
            download = maybe_deferred_to_future(download)
        response = await download
        record(self.crawler.spider, image=response.url, status=response.status)
        return item
"""


def test_robots_txt_redirects_and_pipelines_pass_the_gate(polite, hosts):
    polite.spider(GATED)
    for name in NAMES[:5]:
        hosts.robots(name, "User-agent: *\nDisallow: /page/secret")
    settings = {
        **POLITE,
        "ROBOTSTXT_OBEY": True,
        "ITEM_PIPELINES": {"shop.spiders.spiders_1.Images": 1},
    }
    args = {"url": f"{hosts.url}/page/start", "port": hosts.port}
    workers = start_together(
        polite, hosts, 2, "gated", args=args, frontier="addon", settings=settings
    )
    assert_finished(workers)
    assert_polite(polite, [NAMES[n] for n in (0, 1, 3, 4)])
    found = pages(hosts)
    asked = {path for _, path in found}
    assert "/robots.txt" in asked
    assert not any("secret" in path for path in asked)
    expected = {(host(n), f"/page/{i}") for n in range(2) for i in range(3)}
    redirects = {(host(n), f"/to/3/page/{n}-{i}") for n in range(2) for i in range(3)}
    expected |= redirects
    expected |= {(host(3), f"/page/{n}-{i}") for n in range(2) for i in range(3)}
    shown = {
        page for page in found if "robots" not in page[1] and "image" not in page[1]
    }
    assert shown == expected
    assert {found[page] for page in expected} == {1}
    assert len(polite.recorded("image")) == 12
    # A redirected request is of the slot of its new host.
    slots = {
        (urlsplit(r["url"]).hostname, r["slot"])
        for r in polite.records()
        if "slot" in r
    }
    assert slots == {(host(n), host(n)) for n in (0, 1, 3)}


CROSSED = """
class Crossed(Spider):
    name = "crossed"
    url = None

    async def start(self):
        yield Request(self.url)

    def parse(self, response):
        yield from response.follow_all(css="a", callback=self.parse_page)

    def parse_page(self, response):
        where, _, page = response.url.rpartition("/")
        other = int(where.split(":")[1].rpartition(".")[2]) % 3 + 1
        files = f"http://127.0.1.{other}:{self.port}/page/file-{page}"
        yield {"file_urls": [f"{files}-{n}" for n in range(3)]}
"""


def test_workers_whose_files_wait_for_each_others_hosts_go_on(polite, hosts, tmp_path):
    """All places of each are taken by files of a host that another one has."""
    polite.spider(CROSSED)
    settings = {
        **POLITE,
        "DOWNLOAD_DELAY": 0.1,
        "CONCURRENT_REQUESTS": 2,
        "FILES_STORE": str(tmp_path / "files"),
        "ITEM_PIPELINES": {"scrapy.pipelines.files.FilesPipeline": 1},
    }
    args = {"url": f"{hosts.url}/hosts/3/6", "port": hosts.port}
    workers = start_together(
        polite, hosts, 3, "crossed", args=args, frontier="addon", settings=settings
    )
    assert_finished(workers)
    files = {
        (host(n), f"/page/file-{page}-{k}")
        for n in range(3)
        for page in range(6)
        for k in range(3)
    }
    found = pages(hosts)
    assert files | set(host_pages(3, 6)) <= set(found)


def test_delay_survives_deaths_and_freezes(polite, hosts):
    polite.spider(FOLLOW)
    workers = start_together(
        polite,
        hosts,
        3,
        "follow",
        answers=10,
        args={"url": f"{hosts.url}/hosts/6/8"},
        frontier="addon",
        settings=POLITE,
    )

    def at_work():
        waiting = hosts.waiting()
        return [w for w in workers if w.running() and waiting[w.agent]]

    [killed, *_] = wait_until(at_work, "one waits for pages")
    killed.kill()
    hosts.answer(10)
    [frozen, *_] = wait_until(at_work, "another one waits for pages")
    frozen.freeze()
    hosts.resume()
    [other] = set(workers) - {killed, frozen}
    wait_until(lambda: polite.deaths() >= 2, "both are found dead")
    frozen.thaw()
    assert_finished([other, frozen])
    assert_polite(polite)
    found = pages(hosts)
    assert found.keys() == host_pages(6, 8).keys()
    # What they had at work is fetched again, and no more.
    assert max(found.values()) <= 1 + polite.deaths()


def test_delay_survives_a_restart_of_redis(make_redis, make_project, hosts):
    server = make_redis(appendonly="yes", appendfsync="always")
    polite = make_project(server.url)
    polite.module("starts", STARTS)
    polite.spider(FOLLOW)
    workers = start_together(
        polite,
        hosts,
        2,
        "follow",
        args={"url": f"{hosts.url}/hosts/3/10"},
        frontier="addon",
        settings=POLITE,
    )
    wait_until(lambda: sum(pages(hosts).values()) > 8, "some pages")
    server.kill()
    server.start()
    assert_finished(workers)
    assert_polite(polite, NAMES[:3])
    assert pages(hosts).keys() == host_pages(3, 10).keys()


def test_pages_of_a_cache_cost_no_delay(polite, hosts):
    polite.spider(FOLLOW)
    settings = {**POLITE, "HTTPCACHE_ENABLED": True, "DOWNLOAD_DELAY": 0.01}
    args = {"url": f"{hosts.url}/hosts/2/10"}
    assert_finished([polite.crawl("follow", settings, args, "addon")])
    assert pages(hosts) == host_pages(2, 10)
    polite.clear_records()
    hosts.reset()
    for frontier in ("addon", "classic"):
        settings["DOWNLOAD_DELAY"] = 60
        assert_finished([polite.crawl("follow", settings, args, frontier)])
        assert polite.recorded("start") == []
        assert hosts.log() == []
    assert Counter(polite.recorded("path"))["/page/3"] == 2 * 2


SLOTS = """
class Slots(Spider):
    name = "slots"

    async def start(self):
        yield Request(self.url)

    def parse(self, response):
        for n in range(4):
            for i in range(5):
                meta = {"download_slot": "pair"} if n > 1 else {}
                url = f"http://127.0.1.{n + 1}:{self.port}/page/{i}"
                yield Request(url, self.parse_page, meta=meta)

    def parse_page(self, response):
        pass

def one_of_two(request):
    return "even" if request.url.split(":")[1][-1] in "24" else "odd"
"""


@pytest.mark.parametrize("by", ["downloader", "frontier"])
def test_slots_have_delays_of_their_own_and_may_have_several_hosts(polite, hosts, by):
    polite.spider(SLOTS)
    settings = dict(POLITE)
    if by == "downloader":
        settings["DOWNLOAD_SLOTS"] = {NAMES[0]: {"delay": 0.7}, "pair": {"delay": 0.3}}
    else:
        settings["FRONTIER_SLOT"] = "shop.spiders.spiders_1.one_of_two"
    args = {"url": f"{hosts.url}/page/start", "port": hosts.port}
    workers = start_together(
        polite, hosts, 2, "slots", args=args, frontier="addon", settings=settings
    )
    assert_finished(workers)
    assert pages(hosts) == host_pages(4, 5)
    a, b, c, d = (starts(polite)[name] for name in NAMES[:4])
    if by == "downloader":
        assert short_gaps(a, delay=0.7) == short_gaps(b) == []
        assert short_gaps(c, d, delay=0.3) == []
        assert short_gaps(c, d) != []
    else:
        assert short_gaps(a, c) == short_gaps(b, d) == []


def test_places_of_a_host_are_those_of_all_workers(polite, hosts):
    polite.spider(FOLLOW)
    settings = {
        **POLITE,
        "DOWNLOAD_DELAY": 0,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 2,
        "DOWNLOAD_SLOTS": {NAMES[0]: {"concurrency": 1}, NAMES[1]: {"concurrency": 5}},
    }
    args = {"url": f"{hosts.url}/hosts/3/24/100/100"}
    workers = start_together(
        polite, hosts, 3, "follow", args=args, frontier="addon", settings=settings
    )
    assert_finished(workers)
    assert pages(hosts) == host_pages(3, 24)
    most = [hosts.most_open()[name] for name in NAMES[:3]]
    assert (most[0], most[2]) == (1, 2)
    assert 2 <= most[1] <= 5


def test_delay_of_autothrottle_stays_with_the_host(polite, hosts, redis_server):
    polite.spider(FOLLOW)
    settings = {
        **POLITE,
        "DOWNLOAD_DELAY": 0.2,
        "AUTOTHROTTLE_ENABLED": True,
        "AUTOTHROTTLE_START_DELAY": 0.2,
        "AUTOTHROTTLE_TARGET_CONCURRENCY": 1.0,
    }
    args = {"url": f"{hosts.url}/hosts/2/8/10/1000"}
    worker = polite.crawl("follow", settings, args, "addon")
    keys = keys_of("follow")
    wait_until(lambda: len(polite.recorded("start")) > 8, "some pages")
    worker.interrupt()
    assert worker.wait() == 0
    with redis_server.client() as client:
        learned = client.hvals(keys.politeness)
        assert [int(each.split()[0]) > 300 for each in learned] == [True]
    again = polite.crawl("follow", settings, args, "addon")
    assert_finished([again])
    assert pages(hosts) == host_pages(2, 8)
    assert_polite(polite, NAMES[:2], delay=0.2)
    assert short_gaps(starts(polite)[NAMES[1]][-3:], delay=0.3) == []
