"""Redis goes back to an earlier state: so does the crawl, and loses nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.support.project import Project, Worker, assert_finished
from tests.support.proxy import Proxy
from tests.support.redis_state import count_pending, damage, failed, items
from tests.support.site import Site, tree_pages
from tests.support.spiders import FOLLOW
from tests.support.together import start_together
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from tests.support.redis_server import RedisServer

PAGES = 600


def start(project: Project, site: Site, url: str) -> list[Worker]:
    project.spider(FOLLOW)
    site.delay(70)
    return start_together(
        project,
        site,
        3,
        "follow",
        answers=0,
        args={"url": f"{site.url}/tree/{PAGES}/3/0"},
        settings={
            "REDIS_URL": url,
            "FRONTIER_WORKER_TTL": 10.0,
            "CONCURRENT_REQUESTS": 6,
            "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
        },
        frontier="addon",
    )


def more_pages(project: Project, site: Site, count: int) -> None:
    """Let the crawl go on by *count* pages; a few more are answered if it is quick."""
    before = len(project.records())
    site.answer(count + 18)
    wait_until(lambda: len(project.records()) >= before + count, f"{count} more pages")


def check_nothing_was_lost(project: Project, server: RedisServer, lost: int) -> None:
    """Every page was crawled, and its item is there once.

    At the most *lost* pages more than those that Redis forgot were crawled again.
    """
    done = Counter(project.recorded("path"))
    assert set(done) == set(tree_pages(PAGES, 3))
    assert 1 <= sum(done.values()) - PAGES <= lost
    with server.client() as client:
        assert items(client, "follow") == tree_pages(PAGES, 3)
        assert failed(client, "follow") == []
        assert count_pending(client, "follow") == 0
        assert client.hlen("follow:leased") == 0


def test_snapshot_seconds_old_is_restored_twice_in_one_crawl(
    make_redis, make_project, site
):
    server = make_redis()
    project = make_project(server.url)
    workers = start(project, site, server.url)
    for _ in range(2):
        more_pages(project, site, 40)
        snapshot = server.snapshot()
        more_pages(project, site, 120)
        server.restore(snapshot)
        assert damage(server.url, "follow") == {}
    site.resume()
    assert_finished(workers)

    # All that was answered since the restart before: a slow worker may have committed
    # little of it. And what was under way: six pages of each, and as many commits.
    check_nothing_was_lost(project, server, 2 * (40 + 120 + 2 * 18 + 3 * 12))
    for worker in workers:
        assert 1 <= worker.log().count("registers again") <= 2


def test_replica_that_lags_becomes_the_master(make_redis, make_project, site):
    """Without Sentinel: the address of Redis leads to another server."""
    master, replica = make_redis(), make_redis()
    project = make_project(master.url)
    with Proxy(master.port) as proxy, Proxy(master.port) as link:
        with replica.client() as client:
            client.replicaof("127.0.0.1", link.port)
            wait_until(
                lambda: client.info("replication").get("master_link_status") == "up",
                "the replica follows",
            )
            workers = start(project, site, proxy.url(master.url))
            more_pages(project, site, 60)
            link.freeze()
            more_pages(project, site, 120)
            master.kill()
            client.replicaof("no", "one")
        proxy.switch(replica.port)
        assert damage(replica.url, "follow") == {}
        site.resume()
        assert_finished(workers)

    check_nothing_was_lost(project, replica, 60 + 120 + 2 * 18 + 3 * 12)
    for worker in workers:
        assert worker.log().count("registers again") == 1
