"""Redis Sentinel and Redis Cluster: masters die, lag and move; no page is lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter

import pytest
from scrapy.settings import Settings

from scrapy_dist import Client
from scrapy_dist.admin.crawl import Crawl
from scrapy_dist.connection import get_redis_from_settings
from scrapy_dist.exceptions import TaskExists
from tests.support.project import assert_finished
from tests.support.redis_state import count_items, wakes
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW, SEEDED
from tests.support.together import JOINED
from tests.support.topologies import MASTER, Cluster, Sentinels
from tests.support.wait import wait_until

SETTINGS = {
    "FRONTIER_WORKER_TTL": 5.0,
    "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
}


@pytest.fixture
def sentinels(tmp_path):
    servers = Sentinels(tmp_path)
    yield servers
    servers.stop()


@pytest.fixture
def make_cluster(tmp_path):
    made = []

    def make(**options):
        made.append(Cluster(tmp_path, "{follow}", **options))
        return made[-1]

    yield make
    for cluster in made:
        cluster.stop()


def start(project, site, pages: int, answers: int):
    """Two workers; the site answers *answers* pages, and no more until it resumes."""
    project.spider(FOLLOW)
    site.delay(50)
    site.pause()
    workers = project.crawl_many(
        2,
        "follow",
        args={"url": f"{site.url}/tree/{pages}/3/0"},
        settings=SETTINGS,
        frontier="addon",
    )
    for worker in workers:
        worker.wait_for_log(JOINED)
    site.answer(answers)
    return workers


def assert_all_crawled(project, site, pages: int, client, key: str) -> None:
    assert set(project.recorded("path")) == set(tree_pages(pages, 3))
    items = Counter(json.loads(item)["path"] for item in client.lrange(key, 0, -1))
    assert items == tree_pages(pages, 3)


def test_sentinel_promotes_a_replica_that_lags(sentinels, make_project, site):
    project = make_project(sentinels.url)
    workers = start(project, site, 500, answers=80)
    wait_until(lambda: site.hits().total() > 80, "80 pages")
    sentinels.cut_replication()
    site.answer(80)
    wait_until(lambda: site.hits().total() > 160, "80 pages more")
    sentinels.master.kill()
    sentinels.wait_for_failover()
    site.resume()
    assert_finished(workers)

    with sentinels.replica.client() as client:
        assert_all_crawled(project, site, 500, client, "follow:items")
        assert client.exists("follow:failed", "follow:requests", "follow:state") == 0
    logs = [worker.log() for worker in workers]
    for log in logs:
        assert "has lost commits" in log or "went back to an earlier state" in log
        assert f"redis+sentinel://127.0.0.1:{sentinels.ports[0]}," in log
        assert log.count("No exchange with Redis") == log.count(": Redis is back") == 1


def test_settings_instead_of_a_url_and_a_client_for_user_code(
    sentinels, make_project, site
):
    project = make_project(
        None,
        REDIS_SENTINELS=[("127.0.0.1", port) for port in sentinels.ports],
        REDIS_SENTINEL_MASTER=MASTER,
    )
    workers = start(project, site, 60, answers=60)
    assert_finished(workers)
    with sentinels.master.client() as client:
        assert_all_crawled(project, site, 60, client, "follow:items")
    with get_redis_from_settings(project_settings(project)) as client:
        assert count_items(client, "follow") == 60


def project_settings(project):
    url = {"REDIS_URL": project.redis_url} if project.redis_url else {}
    return Settings({**project.settings, **url})


def test_cluster_loses_the_master_of_the_slot(make_cluster, make_project, site):
    cluster = make_cluster(replicas=1)
    project = make_project(cluster.url)
    workers = start(project, site, 400, answers=250)
    wait_until(lambda: site.hits().total() >= 80, "80 pages")
    cluster.master.kill()
    replica = cluster.nodes[3]
    with replica.client() as client:
        wait_until(lambda: client.info()["role"] == "master", "a new master", 30)
        site.resume()
        assert_finished(workers)
        assert_all_crawled(project, site, 400, client, "{follow}:items")
        assert client.exists("{follow}:failed", "{follow}:requests") == 0


def test_slot_moves_to_another_master(make_cluster, make_project, site):
    cluster = make_cluster()
    project = make_project(
        None, REDIS_CLUSTER=[("127.0.0.1", node.port) for node in cluster.nodes]
    )
    workers = start(project, site, 300, answers=200)
    wait_until(lambda: site.hits().total() >= 60, "60 pages")
    [target] = [n for n in cluster.nodes if n is not cluster.master][:1]
    cluster.migrate(target)
    site.resume()
    assert_finished(workers)

    assert site.hits() == tree_pages(300, 3)
    with target.client() as client:
        assert_all_crawled(project, site, 300, client, "{follow}:items")
    with get_redis_from_settings(project_settings(project)) as client:
        assert count_items(client, "{follow}") == 300


def test_seed_in_a_cluster_wakes_an_idle_worker_and_tasks_are_done(
    make_cluster, make_project, site
):
    cluster = make_cluster()
    project = make_project(cluster.url)
    project.spider(SEEDED)
    worker = project.crawl("seeded", settings=SETTINGS, frontier="addon")
    worker.wait_open()
    time.sleep(0.5)
    with get_redis_from_settings(project_settings(project)) as client:
        assert wakes(client, "{seeded}:start_urls", site)
    with Client(cluster.url, "seeded", settings={"FRONTIER_WORKER_TTL": 5.0}) as client:
        assert_tasks_are_done(client, site)
    asyncio.run(assert_letters_and_items_go_out(cluster.url))
    worker.interrupt()
    assert worker.wait() == 0


def assert_tasks_are_done(client, site) -> None:
    urls = [f"{site.url}/page/{n}" for n in range(120)]
    client.submit_many(urls, batch="b")
    for id_, path in {"bad": "status/500", "held": "gate/held"}.items():
        client.submit(f"{site.url}/{path}", id=id_, batch="b")
    wait_until(lambda: site.hits()["/gate/held"], "the page that waits")
    with pytest.raises(TaskExists):
        client.submit(f"{site.url}/page/x", id="held")
    client.cancel("held")
    site.open_gate("held")
    batch = client.batch("b").wait(100)
    assert (batch.done, batch.failed, batch.cancelled) == (120, 1, 1)
    paths = [client.results(task)[0]["path"] for task in client.tasks("b", "done")]
    assert sorted(paths) == sorted(url.removeprefix(site.url) for url in urls)
    assert client.retry(client.failed()).seeds == 1
    assert client.wait("bad", 100).reason == "HTTP 500 is not handled"
    assert client.forget(client.failed()).deleted == 1


async def assert_letters_and_items_go_out(url: str) -> None:
    """As the bridge takes them."""
    async with Crawl(Settings({"REDIS_URL": url}), "seeded") as crawl:
        assert await crawl.port.refuse(b"{bad", "no seed", "bridge")
        reader = crawl.port.letters("reader")
        [letter] = await reader.take()
        assert letter.reason == "no seed"
        await reader.acknowledge([letter.id])
        items = crawl.port.items("reader", 1.0)
        assert await items.take()
        await items.leave()
        report = await crawl.port.check(repair=False, decode=None)
        assert not report.findings
