"""A polite crawl while its Redis fails over.

The new master may not know who had which slot last: then a delay is cut short once.
"""

from __future__ import annotations

import pytest

from tests.integration.crawl.test_crawl_polite import (
    NAMES,
    POLITE,
    STARTS,
    pages,
    short_gaps,
    starts,
)
from tests.support.project import assert_finished
from tests.support.site import host_pages
from tests.support.spiders import FOLLOW
from tests.support.together import JOINED
from tests.support.topologies import Cluster, Sentinels
from tests.support.wait import wait_until

HOSTS, PAGES = 3, 10


@pytest.fixture(params=["sentinel", "cluster"])
def servers(request, tmp_path):
    is_cluster = request.param == "cluster"
    made = (
        Cluster(tmp_path, "{follow}", replicas=1) if is_cluster else Sentinels(tmp_path)
    )
    yield made
    made.stop()


def count(hosts):
    return sum(pages(hosts).values())


def fail_over(servers, hosts):
    """The master dies, and its replica, which lags where it can, takes its place."""
    replica = servers.nodes[3] if isinstance(servers, Cluster) else servers.replica
    if isinstance(servers, Sentinels):
        servers.cut_replication()
        seen = count(hosts)
        wait_until(lambda: count(hosts) >= seen + 5, "pages that it knows nothing of")
    servers.master.kill()
    with replica.client() as client:
        wait_until(lambda: client.info()["role"] == "master", "a new master", 30)


def test_at_most_one_delay_of_a_host_is_cut_short(servers, make_project, hosts):
    polite = make_project(servers.url)
    polite.module("starts", STARTS)
    polite.spider(FOLLOW)
    hosts.pause()
    workers = polite.crawl_many(
        3,
        "follow",
        args={"url": f"{hosts.url}/hosts/{HOSTS}/{PAGES}"},
        frontier="addon",
        settings={**POLITE, "FRONTIER_WORKER_TTL": 5.0},
    )
    for worker in workers:
        worker.wait_for_log(JOINED)
    hosts.resume()
    wait_until(lambda: count(hosts) >= 5, "some pages")
    fail_over(servers, hosts)
    assert_finished(workers)
    assert pages(hosts).keys() == host_pages(HOSTS, PAGES).keys()
    short = {name: short_gaps(starts(polite)[name]) for name in NAMES[:HOSTS]}
    assert all(len(gaps) <= 1 for gaps in short.values()), short
