"""The tests' own tools, checked with Scrapy's own scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.project import assert_finished
from tests.support.site import graph_pages, tree_pages
from tests.support.spiders import FOLLOW

if TYPE_CHECKING:
    from tests.support.redis_server import RedisServer


def test_plain_crawl_is_counted_page_by_page(project, site):
    project.spider(FOLLOW)
    url = f"{site.url}/tree/40/3/0"
    worker = project.crawl("follow", args={"url": url}, frontier="memory")

    assert_finished([worker])

    assert site.hits() == tree_pages(40, 3)
    assert sorted(project.recorded("path")) == sorted(tree_pages(40, 3))
    assert worker.stats()["item_scraped_count"] == 40
    assert site.hits_by_worker() == {worker.agent: 40}


def test_every_page_of_the_graph_can_be_reached(project, site):
    project.spider(FOLLOW)
    url = f"{site.url}/graph/60/4/0"
    worker = project.crawl("follow", args={"url": url}, frontier="memory")

    assert_finished([worker])

    assert site.hits() == graph_pages(60, 4)


def test_redis_goes_back_to_a_snapshot(make_redis):
    for options in ({}, {"appendonly": "yes"}):
        server: RedisServer = make_redis(**options)
        with server.client() as client:
            client.set("a", 1)
            snapshot = server.snapshot()
            client.set("a", 2)
        server.restore(snapshot)
        with server.client() as client:
            assert client.get("a") == b"1"
