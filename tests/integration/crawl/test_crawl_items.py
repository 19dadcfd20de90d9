"""Items and stats of all workers in Redis."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.support.project import assert_finished
from tests.support.redis_state import count_items, stored_items
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW
from tests.support.together import start_together

PIPELINE = {"ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400}}
STATS = {"STATS_CLASS": "scrapy_dist.stats.RedisStatsCollector"}


@pytest.mark.parametrize("frontier", ["classic", "addon", "memory"])
def test_pipeline_pushes_every_item_once(project, site, redis_server, frontier):
    project.spider(FOLLOW)
    count = 1 if frontier == "memory" else 2
    args = {"url": f"{site.url}/tree/60/3/0"}
    workers = start_together(
        project, site, count, "follow", settings=PIPELINE, args=args, frontier=frontier
    )
    assert_finished(workers)

    with redis_server.client() as client:
        items = [json.loads(item) for item in stored_items(client, "follow")]
    assert Counter(item["path"] for item in items) == tree_pages(60, 3)
    assert all(set(item) == {"path"} for item in items)


@pytest.mark.keeps("things/follow", reason="REDIS_ITEMS_KEY names it")
def test_key_and_serializer_of_items(project, site, redis_server):
    project.module("serialize", "def plain(item):\n    return 'path=' + item['path']\n")
    project.spider(FOLLOW)
    settings = {
        **PIPELINE,
        "REDIS_ITEMS_KEY": "things/%(spider)s",
        "REDIS_ITEMS_SERIALIZER": "shop.serialize.plain",
    }
    args = {"url": f"{site.url}/tree/10/3/0"}
    assert_finished([project.crawl("follow", settings=settings, args=args)])

    with redis_server.client() as client:
        items = client.lrange("things/follow", 0, -1)
    expected = [f"path={path}".encode() for path in tree_pages(10, 3)]
    assert sorted(items) == sorted(expected)


@pytest.mark.keeps("items-of-depth-*", reason="the pipeline names them")
def test_item_key_may_be_overridden(project, site, redis_server):
    project.module(
        "pipelines",
        """
        from scrapy_dist.pipelines import RedisPipeline

        class ByDepth(RedisPipeline):
            def item_key(self, item, spider):
                return f"items-of-depth-{item['depth']}-{spider.name}"
        """,
    )
    project.spider("""
    class Depth(Spider):
        name = "depth"

        async def start(self):
            yield Request(self.url)

        def parse(self, response):
            yield {"depth": response.meta["depth"]}
            yield from response.follow_all(css="a::attr(href)")
    """)
    settings = {"ITEM_PIPELINES": {"shop.pipelines.ByDepth": 1}}
    args = {"url": f"{site.url}/tree/13/3/0"}
    assert_finished([project.crawl("depth", settings=settings, args=args)])

    with redis_server.client() as client:
        sizes = [client.llen(f"items-of-depth-{n}-depth") for n in range(4)]
    assert sizes == [1, 3, 9, 0]


def test_items_are_there_after_ctrl_c(project, site, redis_server):
    project.spider(FOLLOW)
    args = {"url": f"{site.url}/tree/60/3/0"}
    settings = {**PIPELINE, "CLOSESPIDER_ITEMCOUNT": 10, "CONCURRENT_REQUESTS": 2}
    first = project.crawl("follow", settings=settings, args=args)
    assert first.wait() == 0
    with redis_server.client() as client:
        stored = count_items(client, "follow")
        assert stored == first.stats()["item_scraped_count"]
        assert_finished([project.crawl("follow", settings=PIPELINE, args=args)])
        items = [json.loads(item) for item in stored_items(client, "follow")]
    assert Counter(item["path"] for item in items) == tree_pages(60, 3)


STATS_SPIDER = """
class Stats(Spider):
    name = "stats"

    async def start(self):
        yield Request(self.url)

    def parse(self, response):
        stats = self.crawler.stats
        stats.inc_value("my/pages")
        stats.inc_value("my/sizes", len(response.body))
        stats.max_value("my/longest", len(response.url))
        stats.set_value("my/text", "hello")
        record(
            self, pages=stats.get_value("my/pages"), text=stats.get_value("my/text"),
            missing=stats.get_value("my/missing", "default"),
            is_int=isinstance(stats.get_stats()["my/pages"], int),
            size=len(response.body),
        )
        yield from response.follow_all(css="a::attr(href)")
        yield {"url": response.url}
"""


def test_stats_of_all_workers_are_added_up(project, site, redis_server):
    project.spider(STATS_SPIDER)
    site.delay(20)
    settings = {**STATS, "SCHEDULER_PERSIST": True}
    args = {"url": f"{site.url}/tree/80/3/0"}
    workers = start_together(project, site, 2, "stats", settings=settings, args=args)
    assert_finished(workers)

    with redis_server.client() as client:
        shared = {
            name.decode(): value.decode()
            for name, value in client.hgetall("stats:stats").items()
        }
    assert shared["my/pages"] == "80"
    assert shared["item_scraped_count"] == "80"
    assert shared["response_received_count"] == "80"
    assert shared["downloader/response_status_count/200"] == "80"
    assert int(shared["my/sizes"]) == sum(project.recorded("size"))
    local = [worker.stats() for worker in workers]
    assert sum(stats["my/pages"] for stats in local) == 80
    assert sum(stats["item_scraped_count"] for stats in local) == 80
    assert [worker.reason() for worker in workers] == ["finished"] * 2
    records = project.records()
    assert {record["text"] for record in records} == {"hello"}
    assert {record["missing"] for record in records} == {"default"}
    assert {record["is_int"] for record in records} == {True}


def test_stats_are_cleared_with_the_frontier(project, site):
    project.spider(STATS_SPIDER)
    args = {"url": f"{site.url}/tree/20/3/0"}
    worker = project.crawl("stats", settings=STATS, args=args)
    assert_finished([worker])
    assert worker.stats()["my/pages"] == 20


@pytest.mark.keeps("numbers-stats", reason="STATS_KEY names it, and the crawl persists")
def test_stats_key_setting(project, site, redis_server):
    project.spider(STATS_SPIDER)
    settings = {**STATS, "SCHEDULER_PERSIST": True, "STATS_KEY": "numbers-%(spider)s"}
    args = {"url": f"{site.url}/tree/20/3/0"}
    assert_finished([project.crawl("stats", settings=settings, args=args)])
    with redis_server.client() as client:
        assert client.hget("numbers-stats", "my/pages") == b"20"
