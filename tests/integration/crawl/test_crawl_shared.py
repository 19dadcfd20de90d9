"""Several workers crawl one site together: nothing twice, nothing lost, all end."""

from __future__ import annotations

import time

import pytest

from tests.support.project import assert_finished, wait_all
from tests.support.redis_state import count_pending, count_seen, wait_for_workers
from tests.support.site import graph_pages, tree_pages
from tests.support.spiders import FOLLOW
from tests.support.together import start_together
from tests.support.wait import wait_until

#: As most projects write it; Scrapy requests start_urls with ``dont_filter``.
START_URLS = """
class Shop(Spider):
    name = "shop"

    def __init__(self, url, **kwargs):
        super().__init__(**kwargs)
        self.start_urls = [url]

    def parse(self, response):
        yield from response.follow_all(css="a::attr(href)")
"""

#: The longest gap between two turns of the event loop, and what is crawled meanwhile.
HEARTBEAT = """
from urllib.parse import urlsplit

class Heartbeat(Spider):
    name = "heartbeat"
    gap = 0.0

    async def start(self):
        self.ticker = asyncio.ensure_future(self.tick())
        yield Request(self.url)

    async def tick(self):
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(0.01)
            self.gap = max(self.gap, loop.time() - last)
            last = loop.time()

    def parse(self, response):
        record(self, path=urlsplit(response.url).path)
        yield from response.follow_all(css="a::attr(href)")

    def closed(self, reason):
        self.ticker.cancel()
        record(self, gap=self.gap)
"""


@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_three_workers_fetch_each_page_once_and_end(project, site, frontier):
    project.spider(START_URLS)
    args = {"url": f"{site.url}/graph/400/4/0"}
    # Nobody waits for the TTL at the end.
    settings = {"CONCURRENT_REQUESTS": 4, "FRONTIER_WORKER_TTL": 60}
    how = {"args": args, "settings": settings, "frontier": frontier}
    workers = start_together(project, site, 3, "shop", 300, **how)
    wait_until(lambda: len(site.waiting()) == 3, "all at work")
    site.resume()

    assert_finished(workers)

    assert site.hits() == graph_pages(400, 4)
    by_worker = site.hits_by_worker()
    assert sorted(by_worker) == [worker.agent for worker in workers]
    assert sum(w.stats()["response_received_count"] for w in workers) == 400
    last_page = max(hit.clock for hit in site.log())
    for worker in workers:
        assert 0 <= worker.finish_time() - last_page <= 4.0


def test_compact_fingerprints_filter_as_well(project, site):
    """1000 pages of four links each, so that buckets are split under way."""
    project.spider(START_URLS)
    args = {"url": f"{site.url}/graph/1000/4/0"}
    settings = {"DUPEFILTER_CLASS": "scrapy_dist.dupefilter.CompactDupeFilter"}
    workers = start_together(project, site, 2, "shop", args=args, settings=settings)

    assert_finished(workers)

    assert site.hits() == graph_pages(1000, 4)


@pytest.mark.parametrize("turn", range(8))
def test_workers_started_together(project, site, turn):
    project.spider(START_URLS)
    args = {"url": f"{site.url}/gate/all/tree/13/3/0"}
    workers = start_together(project, site, 3, "shop", args=args)
    site.open_gate("all")
    assert_finished(workers)

    assert site.hits() == {**tree_pages(13, 3), "/gate/all/tree/13/3/0": 1}
    last_page = max(hit.clock for hit in site.log())
    assert all(worker.finish_time() >= last_page for worker in workers)


def test_ctrl_c_and_start_again_crawls_the_rest(project, site, redis_server):
    project.spider(START_URLS)
    site.delay(20)
    job = project.folder / "job"
    project.settings["JOBDIR"] = str(job)
    args = {"url": f"{site.url}/graph/200/4/0"}
    workers = start_together(project, site, 2, "shop", 120, args=args)
    wait_until(lambda: site.hits().total() >= 50, "50 pages")

    for worker in workers:
        worker.interrupt()
    for worker in workers:
        worker.wait_for_log("shutting down gracefully")
    site.resume()
    assert wait_all(workers) == [0, 0]
    assert [worker.reason() for worker in workers] == ["shutdown", "shutdown"]
    before = site.hits().total()
    assert before < 200
    with redis_server.client() as client:
        assert count_pending(client, "shop") > 0

    site.delay(0)
    workers = start_together(project, site, 2, "shop", args=args)
    assert_finished(workers)

    assert site.hits() == graph_pages(200, 4)
    # JOBDIR is Scrapy's, for the state of its spider: no requests are there.
    assert {path.name for path in job.iterdir()} == {"spider.state"}


def test_closespider_pagecount_keeps_the_rest_for_the_next_start(project, site):
    project.spider(START_URLS)
    args = {"url": f"{site.url}/graph/60/3/0"}
    first = project.crawl(
        "shop",
        args=args,
        settings={"CLOSESPIDER_PAGECOUNT": 10, "CONCURRENT_REQUESTS": 2},
    )
    assert first.wait() == 0
    assert first.reason() == "closespider_pagecount"
    assert 10 <= site.hits().total() < 60

    assert_finished([project.crawl("shop", args=args)])

    assert site.hits() == graph_pages(60, 3)


def test_flush_on_start_forgets_an_interrupted_crawl(project, site):
    project.spider(START_URLS)
    args = {"url": f"{site.url}/graph/40/3/0"}
    first = project.crawl(
        "shop",
        args=args,
        settings={"CLOSESPIDER_PAGECOUNT": 10, "CONCURRENT_REQUESTS": 2},
    )
    assert first.wait() == 0
    site.reset()

    second = project.crawl(
        "shop", args=args, settings={"SCHEDULER_FLUSH_ON_START": True}
    )
    assert_finished([second])

    assert site.hits() == graph_pages(40, 3)


def test_flush_on_start_of_a_worker_that_joins_deletes_nothing(
    project, site, redis_server
):
    project.spider(START_URLS)
    args = {"url": f"{site.url}/gate/all/tree/40/3/0"}
    flush = {"SCHEDULER_FLUSH_ON_START": True}
    first = project.crawl("shop", args=args, settings=flush)
    with redis_server.client() as client:
        wait_until(lambda: site.hits().total() == 1, "the first page")
        second = project.crawl("shop", args=args, settings=flush)
        wait_for_workers(client, "shop", 2)
        assert client.hlen("shop:leased") == 1
    site.open_gate("all")
    assert_finished([first, second])

    expected = tree_pages(40, 3)
    expected["/gate/all/tree/40/3/0"] = 1
    assert site.hits() == expected
    assert "SCHEDULER_FLUSH_ON_START" in second.log()


def test_persist_keeps_what_was_seen(project, site, redis_server):
    project.spider(FOLLOW)
    args = {"url": f"{site.url}/graph/30/3/0"}
    settings = {"SCHEDULER_PERSIST": True}
    assert_finished(
        start_together(project, site, 2, "follow", args=args, settings=settings)
    )
    assert site.hits() == graph_pages(30, 3)
    with redis_server.client() as client:
        assert count_seen(client, "follow") == 30
        assert client.exists("follow:requests", "follow:leases", "follow:leased") == 0

    again = project.crawl("follow", args=args, settings=settings)
    assert_finished([again])

    assert site.hits() == graph_pages(30, 3)


def test_one_worker_that_stops_takes_nothing_from_the_others(project, site):
    project.spider(START_URLS)
    site.delay(50)
    args = {"url": f"{site.url}/graph/300/4/0"}
    workers = start_together(
        project, site, 3, "shop", 200, args=args, settings={"CONCURRENT_REQUESTS": 4}
    )
    wait_until(lambda: len(site.hits_by_worker()) == 3, "all workers at work")

    workers[0].interrupt()
    workers[0].wait_for_log("shutting down gracefully")
    site.answer(40)
    assert workers[0].wait() == 0
    assert workers[0].reason() == "shutdown"
    assert site.hits().total() < 300
    site.delay(0)
    site.resume()
    assert_finished(workers[1:])

    assert site.hits() == graph_pages(300, 4)


def test_frontier_is_spread_over_all_workers(project, site):
    project.spider(START_URLS)
    links = ",".join(f"page~{n}" for n in range(18))
    how = {
        "args": {"url": f"{site.url}/gate/all/links/{links}"},
        "settings": {"CONCURRENT_REQUESTS": 2},
    }
    workers = start_together(project, site, 3, "shop", 1, **how)
    site.open_gate("all")
    wait_until(lambda: len(site.waiting()) == 3, "a page of each")
    site.resume()
    assert_finished(workers)


def test_ten_equal_dont_filter_requests_are_ten_fetches(project, site):
    project.spider("""
    class Ten(Spider):
        name = "ten"

        async def start(self):
            yield Request(self.url)

        def parse(self, response):
            for _ in range(10):
                yield Request(self.again, self.parse_again, dont_filter=True)

        def parse_again(self, response):
            record(self, url=response.url)
    """)
    args = {"url": f"{site.url}/page/first", "again": f"{site.url}/page/again"}
    assert_finished(start_together(project, site, 3, "ten", args=args))

    assert site.hits() == {"/page/first": 1, "/page/again": 10}
    assert project.recorded("url") == [f"{site.url}/page/again"] * 10


def test_redis_that_hangs_does_not_stop_the_event_loop(make_project, own_redis, site):
    project = make_project(own_redis.url)
    project.spider(HEARTBEAT)
    site.delay(10)
    args = {"url": f"{site.url}/graph/200/4/0"}
    workers = start_together(project, site, 2, "heartbeat", 120, args=args)
    wait_until(lambda: site.hits().total() >= 40, "40 pages")

    own_redis.freeze()
    time.sleep(4)
    own_redis.thaw()
    site.resume()
    assert_finished(workers)

    assert site.hits() == graph_pages(200, 4)
    gaps = project.recorded("gap")
    assert len(gaps) == 2
    assert max(gaps) < 2.5


def test_idle_before_close_waits_without_blocking(project, site):
    project.spider(HEARTBEAT)
    worker = project.crawl(
        "heartbeat",
        args={"url": f"{site.url}/tree/4/3/0"},
        settings={"SCHEDULER_IDLE_BEFORE_CLOSE": 3},
    )
    assert_finished([worker])

    last_page = max(hit.clock for hit in site.log())
    assert 2.9 <= worker.finish_time() - last_page <= 12
    [gap] = project.recorded("gap")
    assert gap < 2.0
