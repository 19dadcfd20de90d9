"""A worker that may do no more than ``scrapy frontier help redis`` says, and one that speaks TLS."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.support.acl import acl
from tests.support.project import assert_finished
from tests.support.redis_state import stored_items
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW, SEEDED
from tests.support.tls import TlsProxy
from tests.support.together import start_together
from tests.support.wait import wait_until

SETTINGS = {
    "FRONTIER_WORKER_TTL": 2.0,
    "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
    "STATS_CLASS": "scrapy_dist.stats.RedisStatsCollector",
}


def limited(server, spider: str, without: str = "") -> str:
    """The URL of a user with the documented rights, perhaps *without* one of them."""
    rights = [right for right in acl("worker", spider) if right != f"+{without}"]
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "worker", "on", *rights)
    return f"redis://worker:password@127.0.0.1:{server.port}/0"


def crawl_with_a_death(project, site, redis_url: str) -> None:
    project.spider(FOLLOW)
    site.delay(30)
    workers = start_together(
        project,
        site,
        3,
        "follow",
        answers=100,
        args={"url": f"{site.url}/tree/150/3/0"},
        settings={**SETTINGS, "REDIS_URL": redis_url},
        frontier="addon",
    )
    wait_until(lambda: site.hits().total() >= 40, "40 pages")
    workers[0].kill()
    site.resume()
    assert_finished(workers[1:])
    for worker in workers[1:]:
        assert "WARNING" not in worker.log().partition("Dumping")[0]


def test_worker_does_with_the_rights_that_readme_gives(make_redis, make_project, site):
    server = make_redis()
    project = make_project(server.url)
    crawl_with_a_death(project, site, limited(server, "follow"))
    with server.client() as client:
        items = [json.loads(item) for item in stored_items(client, "follow")]
        assert Counter(item["path"] for item in items) == tree_pages(150, 3)
        # Whatever a command was refused for would be here.
        refused = client.execute_command("ACL", "LOG")
    assert refused == []


def test_seeds_with_the_rights_that_readme_gives(make_redis, make_project, site):
    server = make_redis()
    project = make_project(limited(server, "seeded"))
    project.spider(SEEDED)
    worker = project.crawl("seeded", settings=SETTINGS, frontier="addon")
    worker.wait_open()
    with server.client() as client:
        wait_until(
            lambda: client.info("clients")["tracking_clients"] == 1, "the wake-up"
        )
        client.lpush("seeded:start_urls", f"{site.url}/page/x")
        wait_until(lambda: project.recorded("path") == ["/page/x"], "the page")
        worker.interrupt()
        assert worker.wait() == 0
        assert client.execute_command("ACL", "LOG") == []


@pytest.mark.parametrize(
    ("missing", "words"),
    [("evalsha", "evalsha"), ("info", None), ("client|tracking", None)],
)
def test_missing_right(make_redis, make_project, site, missing, words):
    """Said at start in one line, or done without."""
    server = make_redis()
    project = make_project(limited(server, "follow", missing))
    project.spider(FOLLOW)
    worker = project.crawl(
        "follow", args={"url": f"{site.url}/tree/20/3/0"}, frontier="addon"
    )
    if words is None:
        assert_finished([worker])
        assert site.hits() == tree_pages(20, 3)
        return
    assert worker.wait() == 1
    [line] = [line for line in worker.log().splitlines() if "ERROR" in line]
    assert words in line
    assert "Traceback" not in worker.log()
    assert "password" not in worker.log()


@pytest.fixture
def tls(tmp_path, own_redis):
    proxy = TlsProxy(tmp_path, own_redis.port)
    yield proxy
    proxy.close()


def test_crawl_over_tls(own_redis, tls, make_project, site):
    url = f"rediss://127.0.0.1:{tls.port}/0"
    project = make_project(url, REDIS_PARAMS={"ssl_ca_certs": str(tls.authority)})
    project.spider(FOLLOW)
    worker = project.crawl(
        "follow", args={"url": f"{site.url}/tree/60/3/0"}, frontier="addon"
    )
    assert_finished([worker])
    assert site.hits() == tree_pages(60, 3)
    assert f"Frontier at {url}" in worker.log()


def test_certificate_that_nobody_knows(tls, make_project, site):
    project = make_project(f"rediss://127.0.0.1:{tls.port}/0")
    project.spider(FOLLOW)
    worker = project.crawl("follow", args={"url": site.url}, frontier="addon")
    assert worker.wait() == 1
    [line] = [line for line in worker.log().splitlines() if "ERROR" in line]
    assert "certificate" in line.lower()
    assert "ssl_ca_certs" in line
    assert "Traceback" not in worker.log()
