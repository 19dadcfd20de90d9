"""What workers say of the whole crawl, and one spider as two crawls at once."""

from __future__ import annotations

import re

import pytest
import redis

from tests.support.project import assert_finished
from tests.support.site import graph_pages
from tests.support.spiders import FOLLOW
from tests.support.together import start_together
from tests.support.wait import wait_until

ALL = re.compile(
    r"All (\d+) workers?: (\d+) pages? \(at ([\d.]+) pages/s\), (\d+) pending, (\d+)"
    r" leased, 0 suspect, 0 failed$",
    re.MULTILINE,
)
SUM = re.compile(r"This worker crawled (\d+) of (\d+) pages \((\d+) %\); 0 request")

#: One page is not there, and nobody handles that.
BROKEN = """
class Broken(Spider):
    name = "broken"

    async def start(self):
        yield Request(self.url + "/graph/1/1/0")
        yield Request(self.url + "/nowhere/at/all")

    def parse(self, response):
        pass
"""


def test_workers_tell_of_all_workers_and_of_their_share(project, site):
    project.spider(FOLLOW)
    site.delay(100)
    args = {"url": f"{site.url}/graph/300/4/0"}
    settings = {"LOGSTATS_INTERVAL": 0.2}
    how = {"args": args, "settings": settings}
    workers = start_together(project, site, 2, "follow", 40, **how)

    def told(worker):
        return [list(map(float, found)) for found in ALL.findall(worker.log())]

    for worker in workers:
        wait_until(
            lambda w=worker: (
                any(alive == 2 and rate > 0 for alive, _, rate, _, _ in told(w))
                or site.go_on(2)
            ),
            f"{worker.agent} tells of both",
        )
    site.resume()
    assert_finished(workers)

    shares = []
    for worker in workers:
        pages = [pages for _, pages, *_ in told(worker)]
        assert pages == sorted(pages)
        shares.append(list(map(int, SUM.search(worker.log()).groups())))
    assert sum(mine for mine, _, _ in shares) == 300
    assert max(whole for _, whole, _ in shares) == 300


def test_failures_are_summed_up_with_where_to_look(project, site):
    project.spider(BROKEN)
    [worker] = start_together(
        project, site, 1, "broken", args={"url": site.url}, frontier="addon"
    )

    assert_finished([worker])

    assert (
        "Of this worker 1 request or seed failed for good, 1 dead letter in all:"
        " scrapy frontier failed broken (the key broken:failed)."
    ) in worker.log()


def test_one_spider_runs_as_two_crawls_at_once(project, site, redis_server):
    """Each with its own keys; their items are apart, too."""
    project.spider(FOLLOW)
    args = {"url": f"{site.url}/graph/60/3/0"}
    pipelines = {"scrapy_dist.pipelines.RedisPipeline": 300}
    workers = [
        project.crawl(
            "follow",
            args=args,
            settings={"FRONTIER_JOB": job, "ITEM_PIPELINES": pipelines},
        )
        for job in ("nightly", "2026.w47")
    ]

    assert_finished(workers)

    assert site.hits() == dict.fromkeys(graph_pages(60, 3), 2)
    with redis.Redis.from_url(redis_server.url) as client:
        keys = {key.decode() for key in client.scan_iter()}
        keys -= {"follow:nightly:history", "follow:2026.w47:history"}
        assert keys == {"follow:nightly:items", "follow:2026.w47:items"}
        assert {client.llen(key) for key in keys} == {60}


def test_key_without_the_name_is_refused_with_a_job(project):
    project.spider(FOLLOW)
    settings = {"FRONTIER_JOB": "a", "SCHEDULER_QUEUE_KEY": "shop:requests"}
    worker = project.crawl("follow", settings=settings)
    worker.wait(30)
    assert "SCHEDULER_QUEUE_KEY names the key 'shop:requests' for all" in worker.log()


def test_job_that_is_no_name_is_refused(project, redis_server):
    project.spider(FOLLOW)
    worker = project.crawl("follow", settings={"FRONTIER_JOB": "a:b c"})
    worker.wait(30)
    assert "FRONTIER_JOB = 'a:b c' is not a name of a crawl." in worker.log()
    assert "Traceback" not in worker.log()


@pytest.mark.parametrize("frontier", ["classic", "addon"])
def test_retries_and_redirects_are_no_pages(project, site, redis_server, frontier):
    """One after the other, so that the worker goes ahead of Redis, and side by side."""
    project.spider(
        """
        from scrapy.downloadermiddlewares.retry import get_retry_request

        class Again(Spider):
            name = "again"

            async def start(self):
                yield Request(f"{self.url}/once/503/chain/0", cb_kwargs={"n": 0})

            def parse(self, response, n):
                if n < 10:
                    url = f"{self.url}/once/503/chain/{n + 1}"
                    yield Request(url, cb_kwargs={"n": n + 1})
                    return
                for i in range(5):
                    yield Request(f"{self.url}/once/503/{i}", self.page)
                    yield Request(f"{self.url}/redirect/302/page/{i}", self.page)

            def page(self, response):
                if "/page/" in response.url and not response.meta.get("retry_times"):
                    yield get_retry_request(
                        response.request, spider=self, reason="by the callback"
                    )
        """
    )
    settings = {"RETRY_ENABLED": True}
    args = {"url": site.url}
    worker = project.crawl("again", args=args, settings=settings, frontier=frontier)
    assert_finished([worker])
    assert sum(site.hits().values()) == 2 * 11 + 2 * 5 + 5 + 2 * 5
    assert "This worker crawled 21 of 21 pages" in worker.log()
    with redis_server.client() as client:
        [(_, record)] = client.xrange("again:history")
    assert record[b"pages"] == b"21"
