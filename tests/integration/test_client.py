"""``scrapy_dist.Client`` beside real workers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scrapy_dist import Client
from tests.support.project import SETTINGS, wait_all
from tests.support.redis_state import wait_for_workers
from tests.support.spiders import SEEDED
from tests.support.topologies import Cluster
from tests.support.wait import wait_until

PIPELINE = {"ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400}}
TTL = {"FRONTIER_WORKER_TTL": SETTINGS["FRONTIER_WORKER_TTL"]}


@pytest.mark.parametrize("job", [None, "nightly"])
def test_crawl_is_fed_followed_and_waited_for(project, site, redis_server, job):
    project.spider(SEEDED)
    settings = {**PIPELINE, "MAX_IDLE_TIME_BEFORE_CLOSE": 4.0}
    if job:
        settings["FRONTIER_JOB"] = job
    with Client(redis_server.url, "seeded", job, settings=TTL) as client:
        # Nobody is idle before both are there.
        client.seed(f"{site.url}/gate/first")
        workers = project.crawl_many(2, "seeded", settings=settings, frontier="addon")
        with redis_server.client() as server:
            wait_for_workers(server, client.spider + (f":{job}" if job else ""), 2)
        site.open_gate("first")
        assert client.wait_drained(timeout=100)
        paths = [f"/page/{n}" for n in range(60)]
        assert client.seed_many(f"{site.url}{path}" for path in paths) == 60
        items = list(client.items(follow=True, timeout=100))
        paths.append("/gate/first")
        assert sorted(item["path"] for item in items) == sorted(paths)
        assert client.wait_drained(timeout=100)
        status = client.status()
        assert status.pages >= 61
        assert (status.items, status.seeds, status.drained) == (0, 0, True)
        assert len(status.alive) == 2
        assert client.failed() == []
        assert wait_all(workers) == [0, 0]
        assert not client.status().exists


def test_dead_letters_of_a_crawl_are_put_back_and_succeed(project, site, redis_server):
    project.spider(SEEDED)
    settings = {**PIPELINE, "MAX_IDLE_TIME_BEFORE_CLOSE": 60.0}
    project.crawl("seeded", settings=settings, frontier="addon")
    with Client(redis_server.url, "seeded") as client:
        client.seed(f"{site.url}/status/500", "http://127.0.0.1:1/refused")
        wait_until(lambda: len(client.failed()) == 2, "two dead letters")
        [letter] = client.failed(reason="500")
        assert letter.url == f"{site.url}/status/500"
        assert client.retry(letter).seeds == 1
        wait_until(lambda: len(client.failed()) == 2, "it has failed again")
        assert client.forget(client.failed()).deleted == 2
        assert client.failed() == []


def test_client_works_with_a_cluster(tmp_path):
    cluster = Cluster(tmp_path, "{books}")
    try:
        with Client(cluster.url, "books") as client, cluster.master.client() as server:
            assert client.seed("http://site.example/") == 1
            server.rpush("{books}:items", *(f'{{"n": {n}}}' for n in range(250)))
            assert client.status().items == 250
            assert [item["n"] for item in client.items()] == list(range(250))
            assert server.keys("*") == [b"{books}:start_urls"]
    finally:
        cluster.stop()


#: A program that notes each item that it is done with, to the end.
READER = """
import sys, time
from scrapy_dist import Client

url, path = sys.argv[1:]
with open(path, "a") as done, Client(url, "seeded") as client:
    for item in client.items():
        time.sleep(0.001)
        done.write(f"{item['n']}\\n")
        done.flush()
    done.write("end\\n")
"""


def test_reader_that_is_killed_loses_no_item(redis_server, tmp_path):
    with redis_server.client() as server:
        server.rpush("seeded:items", *(f'{{"n": {n}}}' for n in range(2000)))
    path = tmp_path / "done"
    path.touch()
    deaths = 0
    while "end" not in (done := path.read_text().split()):
        command = [sys.executable, "-c", READER, redis_server.url, str(path)]
        process = subprocess.Popen(command)
        enough = len(done) + 800
        wait_until(
            lambda enough=enough: (
                len(t := path.read_text().split()) >= enough or "end" in t
            ),
            "800 more items",
        )
        process.kill()
        process.wait(100)
        deaths += 1
    numbers = [int(n) for n in done if n != "end"]
    assert set(numbers) == set(range(2000))
    # Those of a tenth of a second, or of the batch at hand, come twice.
    assert len(numbers) <= 2000 + deaths * 200
    assert deaths >= 3
