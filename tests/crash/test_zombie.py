"""A worker that comes back from the dead changes nothing."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.project import Worker, assert_finished
from tests.support.proxy import Proxy
from tests.support.redis_state import (
    count_leased,
    count_suspects,
    count_workers,
    failed,
    items,
    wait_for_workers,
)
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW, SEEDED
from tests.support.wait import wait_until

PAGES = 300
SETTINGS = {
    "FRONTIER_WORKER_TTL": 2.0,
    "CONCURRENT_REQUESTS": 4,
    "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
}


def stop(zombie: Worker, proxy: Proxy, how: str) -> None:
    """The worker does nothing, or nothing that it says reaches Redis."""
    if how == "process":
        zombie.freeze()
    else:
        proxy.freeze()


def resume(zombie: Worker, proxy: Proxy, how: str) -> None:
    if how == "process":
        zombie.thaw()
    else:
        proxy.thaw()


@pytest.mark.parametrize("how", ["process", "network"])
def test_late_results_of_a_worker_that_was_given_up_change_nothing(
    project, site, redis_server, how
):
    """Its pages were crawled by the other one; its own answers come after that."""
    project.spider(FOLLOW)
    site.delay(60)
    site.pause()
    start = {"args": {"url": f"{site.url}/tree/{PAGES}/3/0"}, "frontier": "addon"}
    with Proxy(redis_server.port) as proxy, redis_server.client() as client:
        through_proxy = {**SETTINGS, "REDIS_URL": proxy.url(redis_server.url)}
        zombie = project.crawl("follow", settings=through_proxy, **start)
        other = project.crawl("follow", settings=SETTINGS, **start)
        wait_for_workers(client, "follow", 2)
        site.answer(100)
        wait_until(lambda: site.hits_by_worker()[zombie.agent] >= 8, "8 pages")
        stop(zombie, proxy, how)
        site.pause()  # The crawl is not to end before the zombie comes back.
        wait_until(lambda: count_workers(client, "follow") == 1, "it is given up")
        wait_until(
            lambda: count_suspects(client, "follow") == 0 or site.go_on(4),
            "its pages are crawled by the other",
        )
        assert len(site.hits()) < PAGES
        resume(zombie, proxy, how)
        site.resume()
        assert_finished([zombie, other])

        assert items(client, "follow") == tree_pages(PAGES, 3)
        assert failed(client, "follow") == []

    done = Counter(project.recorded("path"))
    assert set(done) == set(tree_pages(PAGES, 3))
    twice = {path for path, count in done.items() if count > 1}
    by_zombie = {r["path"] for r in project.records() if r["worker"] == zombie.agent}
    # Without any the test would show nothing. It had 4 at work, and had finished 4 each
    # 60 ms in the last tenth of a second, and while an exchange was under way.
    assert 1 <= len(twice & by_zombie) <= 4 + 12
    assert "WARNING" in zombie.log()
    assert "WARNING" not in other.log()


def test_seed_that_a_worker_had_not_started_when_it_was_given_up_is_crawled_once(
    project, site, redis_server
):
    """It is somebody else's when the worker comes back."""
    project.spider(SEEDED)
    seeds = [f"/gate/all/{n}" for n in range(12)]
    with redis_server.client() as client:
        zombie = project.crawl("seeded", settings=SETTINGS, frontier="addon")
        wait_for_workers(client, "seeded", 1)
        client.rpush("seeded:start_urls", *[site.url + seed for seed in seeds])
        wait_until(lambda: count_leased(client, "seeded") > 4, "a seed in advance")
        wait_until(lambda: site.hits().total() == 4, "four in work")
        started = set(site.hits())
        number = worker_number(client, zombie)
        zombie.freeze()
        other = project.crawl("seeded", settings=SETTINGS, frontier="addon")
        wait_until(
            lambda: client.zscore("seeded:workers", number) is None, "it is given up"
        )
        zombie.thaw()
        zombie.wait_for_log("registers again")
        site.open_gate("all")
        wait_until(lambda: set(project.recorded("path")) == set(seeds), "all pages")
        wait_until(lambda: not count_leased(client, "seeded"), "nothing is left")
        for worker in (zombie, other):
            worker.interrupt()
            assert worker.wait() == 0
        assert items(client, "seeded") == dict.fromkeys(seeds, 1)
        assert client.hget("seeded:state", "pages") == str(len(seeds)).encode()

    hits = site.hits()
    assert {path: hits[path] for path in set(seeds) - started} == dict.fromkeys(
        set(seeds) - started, 1
    )


def worker_number(client, worker: Worker) -> str:
    for name, value in client.hgetall("seeded:state").items():
        if name.startswith(b"worker:") and value.endswith(b":%d" % worker.pid):
            return name.decode().removeprefix("worker:")
    return ""
