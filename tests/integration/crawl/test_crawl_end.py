"""The end of a crawl: nothing left is the end, whatever the reason of the closing."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.support.commands import run_frontier
from tests.support.project import assert_finished
from tests.support.proxy import Proxy
from tests.support.redis_state import (
    count_leased,
    count_pending,
    stored_items,
    wait_for_workers,
)
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW, SEEDED
from tests.support.together import start_together
from tests.support.wait import wait_until

PAGES = """
class Pages(Spider):
    name = "pages"

    async def start(self):
        for n in range(12):
            yield Request(f"{self.url}/page/{n}")

    def parse(self, response):
        yield {"url": response.url}
"""

IDLE = """
from scrapy import signals
from scrapy.exceptions import CloseSpider
from scrapy_dist.spiders import RedisSpider

class Idle(RedisSpider):
    name = "idle"

    @classmethod
    def from_crawler(cls, crawler, *args, **kwargs):
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.page, signals.response_received)
        return spider

    def page(self):
        # As an extension does that closes when it has seen enough.
        self.crawler.engine.close_spider(self, "seen_enough")

    def parse(self, response):
        pass
"""
FOLLOWED = """def parse(self, response):
        yield from response.follow_all(css="a::attr(href)", callback=self.page)

    def page"""
EVERY = {f"/page/{n}": 1 for n in range(12)}


def keys(redis_server) -> set[str]:
    with redis_server.client() as client:
        return {key.decode() for key in client.scan_iter()}


@pytest.mark.parametrize("frontier", ["classic", "addon"])
@pytest.mark.parametrize("concurrency", [1, 16])
def test_page_count_reached_with_the_last_page_is_the_end(
    project, site, redis_server, frontier, concurrency
):
    """Or, where start() may have more, one warning says how to begin afresh."""
    project.spider(PAGES)
    settings = {"CLOSESPIDER_PAGECOUNT": 12, "CONCURRENT_REQUESTS": concurrency}
    for _ in range(2):
        site.reset()
        worker = project.crawl(
            "pages", args={"url": site.url}, settings=settings, frontier=frontier
        )
        assert worker.wait() == 0
        if "are kept" in worker.log():
            assert worker.log().count("WARNING") == 1
            assert "scrapy frontier clear pages" in worker.log()
            cleared = run_frontier(
                project.folder,
                *("clear", "pages", "--yes", "--redis", redis_server.url),
            )
            assert cleared.returncode == 0
        assert site.hits() == EVERY
        assert keys(redis_server) <= {"pages:history"}


@pytest.mark.parametrize("end", ["interrupt", "stop"])
def test_end_from_outside_when_nothing_is_left_is_the_end_too(
    project, site, redis_server, end
):
    """The last page is under way; in the midst of a crawl nothing is deleted."""
    project.spider(FOLLOW)
    args = {"url": f"{site.url}/gate/first/gate/second"}
    for gate in ("first", "second"):
        worker = project.crawl("follow", args=args)
        path = "/gate/first/gate/second" if gate == "first" else "/gate/second"
        wait_until(lambda path=path: site.hits()[path] == 1, path)
        if end == "interrupt":
            worker.interrupt()
        else:
            run_frontier(
                project.folder,
                *("workers", "follow", "--stop", "all", "--redis", redis_server.url),
            )
        worker.wait_for_log("Closing spider")
        site.open_gate(gate)
        assert worker.wait() == 0
        assert worker.reason() == ("shutdown" if end == "interrupt" else "stopped")
        assert "are kept" not in worker.log()
        if gate == "first":
            assert {"follow:requests", "follow:dupefilter"} <= keys(redis_server)
    assert keys(redis_server) == {"follow:history"}
    assert site.hits() == {"/gate/first/gate/second": 1, "/gate/second": 1}


def test_spider_that_waits_for_seeds_keeps_what_it_knows_when_it_is_shut_down(
    project, site, redis_server
):
    """It says so; if it closes itself, that is the end."""
    project.spider(SEEDED.replace("def parse", FOLLOWED))
    project.spider(IDLE)
    with redis_server.client() as client:
        seed = f"{site.url}/links/page~a"
        for _ in range(2):
            worker = project.crawl("seeded")
            wait_for_workers(client, "seeded", 1)
            client.rpush("seeded:start_urls", seed)
            wait_until(lambda: not client.exists("seeded:start_urls"), "it is taken")
            wait_until(lambda: site.hits()["/page/a"] == 1, "its link is followed")
            wait_until(lambda: not count_leased(client, "seeded"), "it is done")
            worker.interrupt()
            assert worker.wait() == 0
            assert "scrapy frontier clear seeded" in worker.log()
            assert "WARNING" not in worker.log()
            assert client.exists("seeded:dupefilter")
        assert site.hits() == {"/links/page~a": 2, "/page/a": 1}

        client.rpush("idle:start_urls", f"{site.url}/page/b")
        worker = project.crawl("idle")
        assert worker.wait() == 0
        assert worker.reason() == "seen_enough"
    left = {key for key in keys(redis_server) if key.startswith("idle")}
    assert left == {"idle:history"}


@pytest.mark.parametrize("how", ["process", "network"])
def test_worker_that_was_cut_off_when_the_others_finished_does_not_begin_again(
    project, site, redis_server, how
):
    """It sees the record of its crawl, says so in one line, and closes."""
    project.spider(FOLLOW)
    settings = {
        "FRONTIER_WORKER_TTL": 2.0,
        "CONCURRENT_REQUESTS": 4,
        "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
    }
    start = {"args": {"url": f"{site.url}/tree/150/3/0"}, "frontier": "addon"}
    site.delay(40)
    with Proxy(redis_server.port) as proxy, redis_server.client() as client:
        site.pause()
        through = {**settings, "REDIS_URL": proxy.url(redis_server.url)}
        away = project.crawl("follow", settings=through, **start)
        other = project.crawl("follow", settings=settings, **start)
        wait_for_workers(client, "follow", 2)
        site.answer(90)
        wait_until(lambda: site.hits_by_worker()[away.agent] >= 4, "4 pages")
        if how == "process":
            away.freeze()
        else:
            proxy.freeze()
        site.resume()
        assert_finished([other])
        hits = site.hits()
        if how == "process":
            away.thaw()
        else:
            proxy.thaw()
        assert_finished([away])
        assert "The others have finished this crawl" in away.log()
        assert away.log().count("registers again") == 0
        items = Counter(json.loads(i)["path"] for i in stored_items(client, "follow"))
        assert items == tree_pages(150, 3)
        [(_, record)] = client.xrange("follow:history")
    assert record[b"workers"] == b"2"
    assert record[b"pages"] == record[b"items"] == b"150"
    # What it had in hand when it was cut off, and no more.
    assert site.hits().total() - hits.total() <= 8
    assert keys(redis_server) == {"follow:history", "follow:items"}

    redis_url = ("--redis", redis_server.url)
    shown = run_frontier(project.folder, "history", *redis_url)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[1].split()[0] == "follow"
    assert shown.stdout.split()[-1] == "finished"
    told = run_frontier(project.folder, "history", "follow", "--json", *redis_url)
    [line] = told.stdout.splitlines()
    info = json.loads(line)
    assert info["spider"] == "follow"
    assert (info["pages"], info["failed"], info["workers"]) == (150, 0, 2)
    assert info["start"] < info["end"]
    cleared = run_frontier(
        project.folder, "clear", "follow", "--history", "--yes", *redis_url
    )
    assert cleared.stdout == "Deleted of follow: 1 record.\n"
    none = run_frontier(project.folder, "history", *redis_url)
    assert none.stdout.endswith("has finished within a day.\n")


def test_worker_that_stops_drops_no_login_that_was_not_begun(
    project, site, redis_server
):
    """It is in no other place: the crawl is kept, and begins with it again."""
    project.spider("""
    class Login(Spider):
        name = "login"

        async def start(self):
            yield Request(f"{self.url}/page/a", priority=1)
            yield Request(f"{self.url}/gate/g", meta={"frontier_local": True}, priority=1)
            yield Request(f"{self.url}/page/b", meta={"frontier_local": True})

        def parse(self, response):
            pass
    """)
    settings = {"CONCURRENT_REQUESTS": 1}
    worker = project.crawl("login", args={"url": site.url}, settings=settings)
    wait_until(lambda: site.hits()["/gate/g"], "it waits")
    wait_until(lambda: site.hits().total() >= 1, "a page")
    worker.interrupt()
    worker.wait_for_log("Closing spider")
    site.open_gate("g")
    assert worker.wait() == 0
    before = site.hits()
    again = project.crawl("login", args={"url": site.url}, settings=settings)
    assert_finished([again])
    assert site.hits()["/page/a"] == 1
    assert site.hits()["/page/b"] == before["/page/b"] + 1
    assert keys(redis_server) == {"login:history"}


def test_workers_started_together_each_end_as_finished(project, site):
    project.spider(PAGES)
    assert_finished(start_together(project, site, 3, "pages", args={"url": site.url}))
    assert site.hits() == EVERY


@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_items_without_a_key_end_the_worker_with_one_error(
    project, site, redis_server, frontier
):
    """Exit code 1, and the page is still there."""
    project.module(
        "pipelines",
        """
        from scrapy_dist.pipelines import RedisPipeline

        class Pipeline(RedisPipeline):
            def item_key(self, item, spider):
                return "%(nonsense)s"
        """,
    )
    project.spider(FOLLOW)
    settings = {"ITEM_PIPELINES": {"shop.pipelines.Pipeline": 400}}
    args = {"url": f"{site.url}/page/a"}
    worker = project.crawl("follow", args=args, settings=settings, frontier=frontier)
    assert worker.wait() == 1
    assert worker.log().count(" ERROR: ") == 1
    assert "item_key() = '%(nonsense)s'" in worker.log()
    with redis_server.client() as client:
        assert count_pending(client, "follow") == 1


@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_worker_that_was_started_before_the_end_begins_no_crawl_after_it(
    project, site, redis_server, frontier
):
    """However quick the first of them is: a crawl of two workers crawls all once."""
    project.spider(PAGES)
    settings = {"SCHEDULER_PERSIST": frontier == "classic"}
    how = {"args": {"url": site.url}, "settings": settings, "frontier": frontier}
    late = project.crawl("pages", **how)
    late.freeze()
    assert_finished([project.crawl("pages", **how)])
    late.thaw()
    assert_finished([late])
    assert site.hits() == EVERY
    assert "finished while this worker was starting" in late.log()

    assert_finished([project.crawl("pages", **how)])  # this one was started after it
    if frontier == "addon":
        assert set(site.hits().values()) == {2}
        return
    assert site.hits() == EVERY
    with redis_server.client() as client:
        client.delete("pages:dupefilter", "pages:state")
