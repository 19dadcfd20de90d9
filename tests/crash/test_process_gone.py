"""A worker whose process is gone is replaced at once on its own machine.

FRONTIER_WORKER_TTL is an hour here: only the end of the process can tell.
"""

from __future__ import annotations

import pytest

from scrapy_dist.worker.neighbours import find_self
from tests.support.project import assert_finished
from tests.support.redis_state import count_workers, failed, wait_for_workers
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW
from tests.support.together import start_together
from tests.support.wait import wait_until

pytestmark = pytest.mark.skipif(find_self() is None, reason="needs /proc")

HOUR = {"FRONTIER_WORKER_TTL": 3600.0, "CONCURRENT_REQUESTS": 4}


def test_killed_worker_is_replaced_at_once_and_a_frozen_one_is_not(
    project, site, redis_server
):
    project.spider(FOLLOW)
    site.delay(60)
    args = {"url": f"{site.url}/tree/240/3/0"}
    workers = start_together(
        project, site, 3, "follow", 160, args=args, settings=HOUR, frontier="addon"
    )
    wait_until(
        lambda: all(site.hits_by_worker()[w.agent] >= 4 for w in workers),
        "four pages of each worker",
    )
    alive, frozen, dead = workers
    frozen.freeze()
    dead.kill()
    alive.wait_for_log("1 worker is dead")
    with redis_server.client() as client:
        assert count_workers(client, "follow") == 2
        frozen.thaw()
        site.resume()
        assert_finished([alive, frozen])
        assert failed(client, "follow") == []
    assert set(project.recorded("path")) == set(tree_pages(240, 3))
    assert max(site.hits().values()) <= 2


def test_worker_that_comes_after_all_were_killed_takes_over_at_once(
    project, site, redis_server
):
    project.spider(FOLLOW)
    site.delay(60)
    args = {"url": f"{site.url}/tree/120/3/0"}
    workers = start_together(project, site, 2, "follow", 80, args=args, settings=HOUR)
    wait_until(
        lambda: all(site.hits_by_worker()[w.agent] >= 4 for w in workers),
        "four pages of each worker",
    )
    with redis_server.client() as client:
        wait_for_workers(client, "follow", 2)
        for worker in workers:
            worker.kill()
        # Even where Redis seems to have been away all the time.
        for number in client.zrange("follow:workers", 0, -1):
            client.zadd("follow:workers", {number: 2})
    site.resume()
    last = project.crawl("follow", args=args, settings=HOUR)
    assert_finished([last])
    assert "0 other workers" in last.log()
    assert set(project.recorded("path")) == set(tree_pages(120, 3))
