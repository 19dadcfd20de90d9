"""A chain of pages is crawled ahead of Redis, and nothing is lost by that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import scrapy

from scrapy_dist.codec import compact
from tests.support.project import Project, Worker, assert_finished
from tests.support.proxy import Proxy
from tests.support.redis_state import count_seen, failed, items, wait_for_workers
from tests.support.site import Site, chain_pages
from tests.support.spiders import FOLLOW
from tests.support.wait import wait_until

PAGES = 160
#: Scrapy 2.13 to 2.16 take a tenth of a second for a page that is alone, with any
#: scheduler: a worker comes to a few pages in the second that it goes ahead at the most.
IS_SLOW = scrapy.version_info < (2, 18)
#: ms to Redis and back, so that a worker goes on for a second, and the hops that it comes
#: ahead of Redis then on a machine as slow as you like.
ROUND_TRIP, HOPS = 50, 4
#: The lease that a dead worker held, the hops behind it, and the lease behind them.
AT_MOST_TWICE = 52
SETTINGS: dict[str, Any] = {
    "FRONTIER_WORKER_TTL": 2.0,
    "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
}


@pytest.fixture
def far(redis_server) -> Iterator[str]:
    """The URL of the same Redis, so far away that a worker goes on for 1 s."""
    with Proxy(redis_server.port, round_trip_ms=ROUND_TRIP) as proxy:
        yield proxy.url(redis_server.url)


def follow_chain(project: Project, site: Site, **settings: Any) -> Worker:
    return project.crawl(
        "follow",
        settings={**SETTINGS, **settings},
        args={"url": f"{site.url}/chain/{PAGES}/0"},
        frontier="addon",
    )


def freeze_ahead(worker: Worker, site: Site, client: redis.Redis, far: str) -> None:
    """Freeze *worker* behind 60 pages, HOPS or more ahead of Redis, at a page."""

    def hops() -> int:
        return site.hits().total() - count_seen(client, "follow")

    def is_ahead() -> bool:
        if not site.waiting():
            return False
        if hops() < HOPS:
            site.answer(HOPS + 1)  # looked at when it waits again, in its second
            return False
        worker.freeze()
        with redis.Redis.from_url(far) as behind:
            behind.ping()  # What is under way to Redis has arrived.
        if hops() >= HOPS:
            return True
        worker.thaw()
        return False

    wait_until(lambda: site.hits().total() > 60, "60 pages")
    wait_until(is_ahead, f"{HOPS} pages ahead of Redis")
    assert site.hits().total() < PAGES


def crawled_twice(project: Project, site: Site) -> int:
    """How many pages were, when all were crawled and fetched; none was more often."""
    done, hits = Counter(project.recorded("path")), site.hits()
    assert set(done) == set(hits) == set(chain_pages(PAGES))
    assert max(hits.values()) <= 2 + project.deaths()
    return hits.total() - PAGES


def check_items(client: redis.Redis) -> None:
    assert items(client, "follow") == chain_pages(PAGES)
    assert failed(client, "follow") == []


def test_lone_worker_does_not_wait_for_redis_at_each_page(
    project, site, redis_server, far
):
    project.spider(FOLLOW)
    worker = follow_chain(project, site, REDIS_URL=far)
    assert_finished([worker])

    assert site.hits() == chain_pages(PAGES)
    assert Counter(project.recorded("path")) == chain_pages(PAGES)
    assert worker.stats()["frontier/exchanges"] < PAGES / (2 if IS_SLOW else 3)
    with redis_server.client() as client:
        check_items(client)


def test_chain_of_a_killed_worker_is_crawled_on_by_the_next(
    project, site, redis_server, far
):
    project.spider(FOLLOW)
    site.answer(60)
    first = follow_chain(project, site, REDIS_URL=far)
    with redis_server.client() as client:
        freeze_ahead(first, site, client, far)
        first.kill()
        site.resume()
        assert_finished([follow_chain(project, site)])
        check_items(client)

    assert HOPS <= crawled_twice(project, site) <= AT_MOST_TWICE


@pytest.mark.parametrize("when", ["in mid-chain", "after the end"])
def test_late_results_of_a_frozen_worker_change_nothing(
    project, site, redis_server, far, when
):
    project.spider(FOLLOW)
    # So that it is still known behind the end what was seen.
    persist = {"SCHEDULER_PERSIST": when == "after the end"}
    site.answer(60)
    zombie = follow_chain(project, site, REDIS_URL=far, **persist)
    with redis_server.client() as client:
        freeze_ahead(zombie, site, client, far)
        other = follow_chain(project, site, **persist)
        if when == "after the end":
            site.resume()
            assert_finished([other])
            check_items(client)
        else:
            wait_until(
                lambda: len(site.hits()) >= PAGES - 25 or site.go_on(4), "most pages"
            )
            assert len(site.hits()) < PAGES
        zombie.thaw()
        site.resume()
        assert_finished([zombie, other])
        check_items(client)

    assert HOPS <= crawled_twice(project, site) <= AT_MOST_TWICE
    assert "WARNING" not in other.log()


def test_redis_that_comes_back_older_in_mid_chain(make_redis, make_project, site):
    server = make_redis()
    project = make_project(server.url)
    project.spider(FOLLOW)
    with Proxy(server.port, round_trip_ms=10) as proxy, server.client() as client:
        site.answer(40)
        worker = follow_chain(project, site, REDIS_URL=proxy.url(server.url))
        wait_until(lambda: site.hits().total() > 40, "40 pages")
        snapshot = server.snapshot()
        kept = count_seen(client, "follow")

        def has_ten_more() -> bool:
            site.go_on(2)
            return count_seen(client, "follow") >= kept + 10

        wait_until(has_ten_more, "ten more pages")
        server.restore(snapshot)
        assert site.hits().total() < PAGES
        forgotten = site.hits().total() - kept
        site.resume()
        assert_finished([worker])

    assert set(project.recorded("path")) == set(site.hits()) == set(chain_pages(PAGES))
    assert 10 <= site.hits().total() - PAGES <= forgotten + AT_MOST_TWICE
    assert worker.log().count("registers again") == 1
    with server.client() as client:
        check_items(client)
        assert client.exists("follow:requests", "follow:leases", "follow:leased") == 0


def test_second_worker_joins_in_mid_chain(project, site, redis_server, far):
    project.spider(FOLLOW)
    site.answer(20)
    first = follow_chain(project, site, REDIS_URL=far)
    wait_until(lambda: site.hits().total() > 20, "20 pages")
    second = follow_chain(project, site)
    with redis_server.client() as client:
        wait_for_workers(client, "follow", 2)
        site.resume()
        assert_finished([first, second])
        check_items(client)

    assert site.hits() == chain_pages(PAGES)
    assert Counter(project.recorded("path")) == chain_pages(PAGES)


def test_ctrl_c_in_mid_chain_and_start_again(project, site, redis_server, far):
    project.spider(FOLLOW)
    site.answer(60)
    first = follow_chain(project, site, REDIS_URL=far)
    with redis_server.client() as client:
        freeze_ahead(first, site, client, far)
        first.interrupt()
        first.thaw()
        first.wait_for_log("shutting down gracefully")
        site.resume()
        assert first.wait() == 0
        assert first.reason() == "shutdown"
        stopped_at = site.hits().total()
        assert count_seen(client, "follow") >= stopped_at
        assert stopped_at < PAGES
        assert_finished([follow_chain(project, site)])
        check_items(client)

    # What it had begun is acknowledged.
    assert crawled_twice(project, site) == 0


#: Goes on by itself behind the pages that have trouble.
TROUBLE = """
from urllib.parse import urlsplit

class Trouble(Spider):
    name = "trouble"
    kinds = {
        12: "status/404", 20: "status/404", 28: "page", 36: "redirect/302/page",
        44: "once/503", 52: "status/503", 60: "status/404", 68: "status/404",
        84: "redirect/302/status/503",
    }
    again = 0

    async def start(self):
        yield self.request(0)

    def request(self, n):
        return Request(
            f"{self.url}/{self.kinds.get(n, 'page')}/{n}",
            callback=(lambda *args, **more: self.parse(*args, **more)) if n == 16 else None,
            errback=None if n in (68, 84) else self.failed,
            meta={"handle_httpstatus_list": [404]} if n == 20 else {},
            cb_kwargs={"n": n},
        )

    def following(self, n):
        if n < 90:
            yield self.request(n + 1)
        if n in (67, 83):
            yield self.request(n + 2)  # nothing comes behind 68 and 84
        if n == 14:
            yield Request(f"{self.url}/page/detail", lambda r: self.detail(r))
        if n == 32:
            yield self.circle(0)
        if n == 76:
            yield self.request(75)

    def parse(self, response, n):
        path = urlsplit(response.url).path
        record(self, n=n, path=path, depth=response.meta["depth"])
        yield {"path": path}
        if n != 68:
            yield from self.following(n)
        if n == 24 and self.again < 2:
            self.again += 1
            response.request.dont_filter = True
            yield response.request
        if n == 28:
            raise ValueError("no price")

    def detail(self, response):
        record(self, detail=response.url)

    def circle(self, n):
        meta = {"frontier_local": True}
        kwargs = {"n": (n + 1) % 3}
        url = f"{self.url}/page/local-{n}"
        return Request(url, self.local, meta=meta, cb_kwargs=kwargs)

    def local(self, response, n):
        record(self, local=response.url)
        yield self.circle(n)

    def failed(self, failure):
        n = failure.request.cb_kwargs["n"]
        record(self, n=n, failed=failure.value.response.status)
        yield {"path": f"failed {n}"}
        yield from self.following(n)
        if n == 60:
            raise KeyError("errback")
"""


def crawl_with_trouble(project, site, client, frontier: str, url: str) -> Worker:
    client.flushall()
    site.reset()
    project.clear_records()
    worker = project.crawl(
        "trouble",
        settings={
            **SETTINGS,
            "RETRY_ENABLED": True,
            "RETRY_TIMES": 2,
            "REDIS_URL": url,
        },
        args={"url": site.url},
        frontier=frontier,
    )
    assert_finished([worker])
    return worker


def outcome(project, site, client, worker: Worker) -> dict[str, Any]:
    """What does not depend on the scheduler."""
    records = [{**record, "worker": ""} for record in project.records()]
    stats = worker.stats()
    return {
        "hits": site.hits(),
        "records": sorted(map(repr, records)),
        "items": items(client, "trouble"),
        "stats": {
            name: stats.get(name)
            for name in (
                "downloader/request_count",
                "dupefilter/filtered",
                "item_scraped_count",
                "request_depth_max",
                "retry/count",
                "retry/max_reached",
                "scheduler/dequeued",
                "scheduler/enqueued",
                "spider_exceptions/KeyError",
                "spider_exceptions/ValueError",
            )
        },
    }


def test_trouble_in_a_chain_is_as_with_scrapys_scheduler(
    project, site, redis_server, far
):
    project.spider(TROUBLE)
    with redis_server.client() as client:
        memory = crawl_with_trouble(project, site, client, "memory", redis_server.url)
        expected = outcome(project, site, client, memory)
        worker = crawl_with_trouble(project, site, client, "addon", far)
        letters = failed(client, "trouble")
        assert outcome(project, site, client, worker) == expected

    # Redirects, retries, a detail, the same again, a circle, and a redirect to retries.
    assert expected["hits"].total() == 91 + 1 + 1 + 2 + 1 + 2 + 3 + 3
    assert worker.stats()["frontier/exchanges"] < 104 * (3 / 4 if IS_SLOW else 2 / 3)
    found = [
        (
            compact.loads(letter["payload"][1:])["url"].removeprefix(site.url),
            letter["reason"],
            letter["deliveries"],
        )
        for letter in letters
    ]
    assert found == [
        ("/page/28", b"the callback raised ValueError: no price", b"1"),
        ("/status/404/60", b"the callback raised KeyError: 'errback'", b"1"),
        ("/status/404/68", b"HTTP 404 is not handled", b"1"),
        ("/status/503/84", b"HTTP 503 is not handled", b"1"),
    ]
