"""Connections that break in the middle of a request or of a reply cost no page."""

from __future__ import annotations

from collections import Counter

from scrapy_dist.brokers.redis import scripts
from tests.support.project import assert_finished
from tests.support.proxy import Proxy
from tests.support.redis_state import failed
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW
from tests.support.together import start_together
from tests.support.wait import wait_until

TTL = {"FRONTIER_WORKER_TTL": 2.0}
LOST = "No exchange with Redis"
BACK = "INFO: Redis is back"


def call_of(script: str) -> bytes:
    """What a request that runs this script contains."""
    return scripts.load(script).sha.encode()


def count(workers, text: str) -> int:
    return sum(worker.log().count(text) for worker in workers)


def plan_cuts(proxy: Proxy, site_url: str):
    """Plan one cut after another; yields each when it is planned."""
    payload = f"{site_url}/tree".encode()
    commit, beat, lease = (call_of(name) for name in ("commit", "heartbeat", "lease"))
    for _ in range(2):
        # Nobody hears that the commit is stored: no byte, half a number.
        yield proxy.cut_reply(0, request=commit)
        yield proxy.cut_reply(5, request=commit)
        # The leases are in Redis, and the worker knows half of one, or a few.
        yield proxy.cut_reply(3, mark=payload, request=lease)
        yield proxy.cut_reply(400, mark=payload, request=lease)
        # Redis gets half a commit, all but the beat, all but the lease.
        yield proxy.cut_request(90, mark=commit)
        yield proxy.cut_request(0, mark=beat)
        yield proxy.cut_request(0, mark=lease)


def test_cut_in_mid_reply_costs_no_page_and_fetches_none_twice(
    project, site, redis_server
):
    """No worker dies, so what a cut leaves open is settled between worker and Redis."""
    project.spider(FOLLOW)
    with Proxy(redis_server.port) as proxy:
        workers = start_together(
            project,
            site,
            2,
            "follow",
            answers=40,
            args={"url": f"{site.url}/tree/600/3/0"},
            settings={**TTL, "REDIS_URL": proxy.url(redis_server.url)},
            frontier="addon",
        )
        cuts = 0
        for cut in plan_cuts(proxy, site.url):
            # There is always something to say to Redis.
            wait_until(lambda c=cut: c.done.is_set() or site.go_on(4), "the cut")
            cuts += 1
            wait_until(lambda n=cuts: count(workers, BACK) == n, f"{cuts} times back")
        assert site.hits().total() < 600
        site.resume()
        assert_finished(workers)

    assert site.hits() == tree_pages(600, 3)
    assert Counter(project.recorded("path")) == tree_pages(600, 3)
    assert count(workers, LOST) == count(workers, BACK) == cuts
    assert count(workers, "ERROR") == 0
    with redis_server.client() as client:
        assert failed(client, "follow") == []


def test_worker_that_waits_for_work_gets_it_after_a_cut(project, site, redis_server):
    """The cut takes the connection on which Redis would have woken it."""
    project.spider(FOLLOW)
    site.delay(40)
    gate = "/gate/g/tree/200/3/0"
    with Proxy(redis_server.port) as proxy:
        workers = start_together(
            project,
            site,
            2,
            "follow",
            args={"url": f"{site.url}{gate}"},
            settings={
                "FRONTIER_WORKER_TTL": 2.0,
                "REDIS_URL": proxy.url(redis_server.url),
                # By itself it would look for work after 5 s, when there is none.
                "CONCURRENT_REQUESTS": 2,
            },
        )
        wait_until(lambda: site.hits()[gate], "the first page")
        for _ in range(3):
            wait_until(lambda: proxy.connected >= 2, "both workers are connected")
            proxy.cut()
        site.open_gate("g")
        assert_finished(workers)

    assert site.hits() == {gate: 1, **tree_pages(200, 3)}
    by_worker = site.hits_by_worker()
    assert min(by_worker[worker.agent] for worker in workers) >= 20
