"""Items, and requests that no filter knows again, survive deaths exactly once.

With the add-on: what a page yields is stored together with the page's ack.
"""

from __future__ import annotations

import json
from collections import Counter

from tests.support.project import assert_finished
from tests.support.redis_state import count_items, stored_items
from tests.support.site import tree_pages
from tests.support.together import start_together
from tests.support.wait import wait_until

SETTINGS = {
    "FRONTIER_WORKER_TTL": 2.0,
    "ITEM_PIPELINES": {
        "shop.pipelines.Slow": 300,
        "scrapy_dist.pipelines.RedisPipeline": 400,
    },
}

#: Hands items on late and out of their order; as another object where that is known.
SLOW = """
import asyncio
from scrapy_dist.worker.engine import PIPELINES_AWAIT

class Slow:
    async def process_item(self, item, spider=None):
        await asyncio.sleep(0.03 if item["n"] % 2 else 0.01)
        return dict(item) if PIPELINES_AWAIT else item
"""

#: Several items a page, the last of them long after the first child was sent.
SEVERAL = """
from urllib.parse import urlsplit

class Several(Spider):
    name = "several"
    dont_filter = False
    url = None

    async def start(self):
        yield Request(self.url)

    async def parse(self, response):
        path = urlsplit(response.url).path
        yield {"path": path, "n": 0}
        for request in response.follow_all(
            css="a::attr(href)", dont_filter=bool(self.dont_filter)
        ):
            yield request
            await asyncio.sleep(0.01)
        yield {"path": path, "n": 1}
        yield {"path": path, "n": 2}
"""


def items(client, spider: str) -> Counter[tuple[str, int]]:
    texts = stored_items(client, spider)
    return Counter((item["path"], item["n"]) for item in map(json.loads, texts))


def kill_at_work(site, worker) -> None:
    """Kill *worker* when the site has stopped to answer, with pages of it unanswered."""
    wait_until(lambda: site.waiting()[worker.agent], "pages in work")
    worker.kill()
    site.resume()


def crawl_and_kill_one(project, site, pages: int, **args):
    project.module("pipelines", SLOW)
    project.spider(SEVERAL)
    site.delay(30)
    workers = start_together(
        project,
        site,
        3,
        "several",
        answers=pages // 3,
        args={"url": f"{site.url}/tree/{pages}/3/0", **args},
        settings={**SETTINGS, "CONCURRENT_REQUESTS": 6},
        frontier="addon",
    )
    kill_at_work(site, workers[1])
    assert_finished([workers[0], workers[2]])


def test_items_of_a_killed_worker_come_once(project, site, redis_server):
    crawl_and_kill_one(project, site, 240)

    pages = tree_pages(240, 3)
    with redis_server.client() as client:
        assert items(client, "several") == {(p, n): 1 for p in pages for n in range(3)}
    assert set(site.hits()) == set(pages)
    assert site.hits().total() > 240  # some were in work when it was killed


def test_unfiltered_requests_of_a_killed_worker_come_once(project, site, redis_server):
    crawl_and_kill_one(project, site, 240, dont_filter=1)

    pages = tree_pages(240, 3)
    with redis_server.client() as client:
        assert items(client, "several") == {(p, n): 1 for p in pages for n in range(3)}
    assert max(site.hits().values()) <= 1 + project.deaths()


def test_page_whose_worker_is_killed_after_its_items(project, site, redis_server):
    """All outputs have left the callback, which has not ended."""
    project.spider("""
    import os

    class Between(Spider):
        name = "between"

        async def start(self):
            yield Request(self.url)

        async def parse(self, response):
            for n in range(5):
                yield {"path": "page", "n": n}
            yield Request(self.url + "/later", self.later, dont_filter=True)
            record(self, yielded=5)
            while not os.path.exists("may-end"):
                await asyncio.sleep(0.05)

        def later(self, response):
            yield {"path": "later", "n": 0}
    """)
    settings = {
        "FRONTIER_WORKER_TTL": 1.0,
        "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
    }
    workers = start_together(
        project,
        site,
        2,
        "between",
        settings=settings,
        args={"url": f"{site.url}/page/x"},
        frontier="addon",
    )
    [holder] = wait_until(lambda: project.recorded("worker"), "a page at its end")
    [dead] = [worker for worker in workers if worker.agent == holder]
    [alive] = [worker for worker in workers if worker is not dead]
    with redis_server.client() as client:
        assert items(client, "between") == {}
        dead.kill()
        (project.folder / "may-end").touch()
        assert_finished([alive])
        found = items(client, "between")

    assert found == {**{("page", n): 1 for n in range(5)}, ("later", 0): 1}
    assert site.hits() == {"/page/x": 2, "/page/x/later": 1}


def test_retry_of_a_killed_worker_comes_once(project, site, redis_server):
    """A retry is not filtered either; it is stored with the ack of the failed try."""
    project.module("pipelines", SLOW)
    project.spider("""
    class Retries(Spider):
        name = "retries"

        async def start(self):
            for n in range(60):
                yield Request(f"{self.url}/once/503/{n}")

        def parse(self, response):
            yield {"path": response.url[len(self.url):], "n": 0}
    """)
    settings = {**SETTINGS, "RETRY_ENABLED": True, "CONCURRENT_REQUESTS": 4}
    site.delay(50)
    workers = start_together(
        project,
        site,
        2,
        "retries",
        answers=60,
        args={"url": site.url},
        settings=settings,
        frontier="addon",
    )
    kill_at_work(site, workers[0])
    assert_finished([workers[1]])

    expected = {(f"/once/503/{n}", 0): 1 for n in range(60)}
    with redis_server.client() as client:
        assert items(client, "retries") == expected


def test_items_and_requests_of_seeds_of_a_killed_worker_come_once(
    project, site, redis_server
):
    project.module("pipelines", SLOW)
    project.spider("""
    from urllib.parse import urlsplit
    from scrapy_dist.spiders import RedisSpider

    class Seeds(RedisSpider):
        name = "seeds"
        max_idle_time = 1.5

        async def parse(self, response):
            path = urlsplit(response.url).path
            yield {"path": path, "n": 0}
            await asyncio.sleep(0.05)
            yield Request(
                response.url + "/below", self.below, dont_filter=True
            )
            yield {"path": path, "n": 1}

        def below(self, response):
            yield {"path": urlsplit(response.url).path, "n": 0}
    """)
    site.delay(30)
    with redis_server.client() as client:
        seeds = [f"{site.url}/page/{n}" for n in range(150)]
        client.rpush("seeds:start_urls", *seeds)
        settings = {**SETTINGS, "CONCURRENT_REQUESTS": 6}
        workers = start_together(
            project, site, 3, "seeds", 100, settings=settings, frontier="addon"
        )
        kill_at_work(site, workers[1])
        assert_finished([workers[0], workers[2]])

        expected = {(f"/page/{n}", i): 1 for n in range(150) for i in range(2)}
        expected |= {(f"/page/{n}/below", 0): 1 for n in range(150)}
        assert items(client, "seeds") == expected
    assert site.hits().total() > 300  # some were in work when it was killed


def test_page_with_very_many_items_is_stored_in_parts(project, site, redis_server):
    project.spider("""
    class Many(Spider):
        name = "many"

        async def start(self):
            yield Request(self.url)

        async def parse(self, response):
            for n in range(25):
                yield {"path": "p", "n": n}
            while not self.settings["RECORD"] or not record_is_there(self):
                await asyncio.sleep(0.05)

    def record_is_there(spider):
        import os
        return os.path.exists(spider.settings["RECORD"])
    """)
    settings = {
        "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
        "FRONTIER_COMMIT_CHUNK": 10,
    }
    worker = project.crawl(
        "many", settings=settings, args={"url": f"{site.url}/page/x"}, frontier="addon"
    )
    with redis_server.client() as client:
        wait_until(lambda: count_items(client, "many") == 20, "two parts")
        (project.folder / "record.jsonl").touch()  # the page may end
        assert_finished([worker])
        assert items(client, "many") == {("p", n): 1 for n in range(25)}


def test_unfiltered_request_of_an_endless_page_is_not_held_back(project, site):
    project.spider("""
    class Endless(Spider):
        name = "endless"
        there = False

        async def start(self):
            yield Request(self.url)

        async def parse(self, response):
            yield response.request.replace(
                url=self.url + "/child", callback=self.child, dont_filter=True
            )
            while not self.there:
                await asyncio.sleep(0.05)

        def child(self, response):
            self.there = True
            record(self, child=True)
    """)
    worker = project.crawl(
        "endless", args={"url": f"{site.url}/page/x"}, frontier="addon"
    )
    assert_finished([worker])
    assert project.recorded("child") == [True]
