"""Somebody deletes a key of a crawl that is running: every page is crawled all the same."""

from __future__ import annotations

import pytest

from tests.support.project import assert_finished
from tests.support.redis_state import count_leased, damage, failed, items
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW
from tests.support.together import start_together
from tests.support.wait import wait_until

PAGES = 300


def delete(client, key):
    client.delete(key)


def rename(client, key):
    client.rename(key, "something else")


@pytest.mark.keeps("something else", reason="a key of the crawl is renamed")
@pytest.mark.parametrize(
    ("change", "key", "killed"),
    [
        (delete, "follow:leases", False),
        (rename, "follow:leases", True),
        (delete, "follow:workers", True),
    ],
)
def test_crawl_does_not_end_before_what_lost_its_lease(
    project, site, redis_server, change, key, killed
):
    """One of the workers is killed with what it holds, so that nobody knows of it."""
    project.spider(FOLLOW)
    site.delay(100)
    settings = {
        "CONCURRENT_REQUESTS": 8,
        "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
    }
    args = {"url": f"{site.url}/tree/{PAGES}/3/0"}
    workers = start_together(
        project, site, 2, "follow", 150, settings=settings, args=args, frontier="addon"
    )
    wait_until(lambda: len(project.records()) >= 60, "60 pages")
    with redis_server.client() as client:
        doomed = workers.pop() if killed else None
        if doomed is not None:
            doomed.freeze()  # with what it holds, and it beats no more
        wait_until(lambda: count_leased(client, "follow") > 0, "something is leased")
        change(client, key)
        if doomed is not None:
            doomed.kill()
        site.resume()
        assert_finished(workers)
        assert set(items(client, "follow")) == set(tree_pages(PAGES, 3))
        assert failed(client, "follow") == []
        assert client.hlen("follow:leased") == count_leased(client, "follow") == 0
    assert set(project.recorded("path")) == set(tree_pages(PAGES, 3))
    assert damage(redis_server.url, "follow") == {}
