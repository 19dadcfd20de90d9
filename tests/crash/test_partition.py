"""Networks that are gone for a while, and connections that die without a word.

SCRAPY_DIST_PARTITION says how long each lasts, in seconds; the suite takes short ones.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from scrapy import version_info

from tests.support.netns import Network
from tests.support.project import assert_finished
from tests.support.proxy import Proxy
from tests.support.redis_state import (
    count_leased,
    count_pending,
    count_workers,
    failed,
    stored_items,
    wait_for_workers,
)
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW, SEEDED
from tests.support.wait import wait_until

SECONDS = float(os.environ.get("SCRAPY_DIST_PARTITION", "4"))
#: Bytes that a worker may grow by while Redis is away.
GROWTH = 20_000_000
LOST, BACK = "No exchange with Redis", ": Redis is back"
#: The kernel gives a connection up after some seconds, not minutes.
KEEP_ALIVE = {
    "socket_keepalive": True,
    "socket_keepalive_options": {
        socket.TCP_KEEPIDLE: 1,
        socket.TCP_KEEPINTVL: 1,
        socket.TCP_KEEPCNT: 3,
        socket.TCP_USER_TIMEOUT: 3000,
    },
}
SHORT = {"socket_timeout": 1.5, "socket_connect_timeout": 1.0}


class Namespace:
    """The worker's way to Redis leads through a network that is cut."""

    def __init__(self, port: int) -> None:
        self.network = Network()
        self.proxy = Proxy(port, listener=self.network.listen())
        self.cut, self.mend = self.network.cut, self.network.mend

    def close(self) -> None:
        self.proxy.close()
        self.network.close()


class Swallowing:
    """The worker's way to Redis leads through a proxy that answers nothing."""

    def __init__(self, port: int) -> None:
        self.proxy = Proxy(port)
        self.cut = self.proxy.swallow

    def mend(self) -> None:
        self.proxy.swallow(on=False)

    def close(self) -> None:
        self.proxy.close()


@pytest.fixture(params=[Namespace, Swallowing])
def way(request, redis_server):
    way = request.param(redis_server.port)
    yield way
    way.close()


class Memory:
    """The most memory that a process has, sampled in a thread."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self.first = self.most = self.now()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def now(self) -> int:
        [line] = [x for x in self._status.read_text().splitlines() if "VmRSS" in x]
        return int(line.split()[1]) * 1024

    def _run(self) -> None:
        while not self._end.wait(0.1):
            self.most = max(self.most, self.now())

    def growth(self) -> int:
        self._end.set()
        self._thread.join()
        return self.most - self.first


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_one_of_three_workers_is_cut_off_in_mid_crawl(project, site, redis_server, way):
    """Every page, items once, and two lines in its log."""
    project.spider(FOLLOW)
    site.delay(400)
    pages = round(80 * (1.5 * SECONDS + 3))
    settings = {
        "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 300},
        "FRONTIER_WORKER_TTL": 2.0,
        "REDIS_PARAMS": {**SHORT, **KEEP_ALIVE},
    }
    urls = [redis_server.url, redis_server.url, way.proxy.url(redis_server.url)]
    args = {"url": f"{site.url}/tree/{pages}/3/0"}
    site.pause()
    workers = [
        project.crawl("follow", {**settings, "REDIS_URL": url}, args, frontier="addon")
        for url in urls
    ]
    with redis_server.client() as client:
        wait_for_workers(client, "follow", 3)
        site.answer(pages * 3 // 4)
        lonely = workers[2]
        wait_until(lambda: site.hits_by_worker()[lonely.agent] >= 16, "16 pages of it")
        memory = Memory(lonely.pid)
        way.cut()
        time.sleep(SECONDS)
        lonely.wait_for_log(LOST)
        wait_until(lambda: client.zcount("follow:leases", "-inf", "+inf"), "work")
        way.mend()
        lonely.wait_for_log(BACK)
        growth = memory.growth()
        site.resume()
        assert_finished(workers, timeout=120 + 3 * SECONDS)
        items = Counter(stored_items(client, "follow"))
        assert failed(client, "follow") == []

    print("growth", growth, "of", memory.first)
    assert set(project.recorded("path")) == set(tree_pages(pages, 3))
    assert len(items) == pages
    assert set(items.values()) == {1}
    log = lonely.log()
    assert log.count(LOST) == log.count(BACK) == 1
    lines = [line for line in log.splitlines() if "[scrapy_dist" in line]
    assert sum("WARNING" in line or "ERROR" in line for line in lines) <= 2, lines
    assert "Traceback" not in log
    assert growth < GROWTH


def test_idle_worker_is_cut_off(project, site, redis_server, way):
    """It takes neither memory nor time meanwhile, and is woken at once afterwards."""
    project.spider(SEEDED)
    url = way.proxy.url(redis_server.url)
    params = {"REDIS_PARAMS": {**SHORT, **KEEP_ALIVE}, "FRONTIER_WORKER_TTL": 2.0}
    worker = project.crawl("seeded", {**params, "REDIS_URL": url})
    with redis_server.client() as client:
        wait_for_workers(client, "seeded", 1)
        client.lpush("seeded:start_urls", f"{site.url}/page/0")
        wait_until(lambda: site.hits()["/page/0"], "the first page")
        wait_until(lambda: len(client.client_list(_type="pubsub")) == 1, "the wake-up")
        memory, busy = Memory(worker.pid), cpu(worker.pid)
        way.cut()
        time.sleep(SECONDS)
        worker.wait_for_log(LOST)
        busy = cpu(worker.pid) - busy
        way.mend()
        worker.wait_for_log(BACK)
        growth = memory.growth()
        client.lpush("seeded:start_urls", f"{site.url}/page/1")
        wait_until(lambda: site.hits()["/page/1"], "the second page")
    worker.interrupt()
    assert worker.wait() == 0
    print("growth", growth, "of", memory.first, "cpu", busy)
    log = worker.log()
    assert log.count(LOST) == log.count(BACK) == 1
    assert "Traceback" not in log
    assert growth < GROWTH
    assert busy < SECONDS / 2


def test_worker_that_is_cut_off_can_be_stopped(project, site, redis_server, way):
    """Nothing waits for redis-py's 30 s."""
    project.spider(SEEDED)
    url = way.proxy.url(redis_server.url)
    worker = project.crawl("seeded", {"REDIS_URL": url, "FRONTIER_CLOSE_TIMEOUT": 2})
    with redis_server.client() as client:
        wait_for_workers(client, "seeded", 1)
        client.lpush("seeded:start_urls", f"{site.url}/page/0")
        wait_until(lambda: site.hits()["/page/0"], "the first page")
    way.cut()
    # SIGINT or SIGTERM: Scrapy does the same.
    worker.interrupt() if isinstance(way, Namespace) else worker.terminate()
    assert worker.wait(25) == 0
    assert worker.reason() == "shutdown"


def test_closing_worker_leaves_a_connection_that_a_nat_has_forgotten(
    project, site, redis_server
):
    """Redis is well: its last results are delivered on another connection."""
    project.spider(FOLLOW)
    args = {"url": f"{site.url}/tree/40/40/0"}
    settings = {"FRONTIER_CLOSE_TIMEOUT": 12, "FRONTIER_WORKER_TTL": 60}
    with Proxy(redis_server.port) as proxy, redis_server.client() as client:
        url = proxy.url(redis_server.url)
        site.answer(1)
        worker = project.crawl("follow", {**settings, "REDIS_URL": url}, args)
        wait_until(lambda: site.hits().total() >= 10, "ten pages")
        proxy.forget()
        worker.interrupt()
        worker.wait_for_log("shutting down gracefully")
        site.resume()
        assert worker.wait(29) == 0
        assert count_workers(client, "follow") == count_leased(client, "follow") == 0
        done = len(project.records())
        assert count_pending(client, "follow") == 40 - done
    assert "does not take the last results" not in worker.log()
    assert_finished([project.crawl("follow", settings, args)])
    assert Counter(project.recorded("path")) == tree_pages(40, 40)


@pytest.mark.parametrize("reactor", [True, False])
def test_worker_that_is_forced_to_end_gives_back_what_it_holds(
    project, site, redis_server, reactor
):
    """The second Ctrl-C. The other worker goes on at once, not after the TTL."""
    if not reactor and version_info < (2, 15):
        pytest.skip("this Scrapy has no mode without a reactor")
    project.spider(FOLLOW)
    settings = {"FRONTIER_WORKER_TTL": 600, "CONCURRENT_REQUESTS": 4}
    if not reactor:
        settings["TWISTED_REACTOR_ENABLED"] = False
    gate = "/gate/g/tree/40/40/0"
    args = {"url": f"{site.url}{gate}"}
    with redis_server.client() as client:
        worker = project.crawl("follow", settings, args)
        wait_until(lambda: site.hits()[gate], "the request that is not answered")
        worker.interrupt()
        worker.wait_for_log("shutting down gracefully")
        worker.interrupt()
        worker.wait(25)
        assert "gives 1 request back" in worker.log()
        assert count_workers(client, "follow") == count_leased(client, "follow") == 0
        assert count_pending(client, "follow") == 1
    site.open_gate("g")
    assert_finished([project.crawl("follow", settings, args)])
    done = Counter(project.recorded("path"))
    assert done == {gate: 1, **tree_pages(40, 40)}
    assert "Traceback" not in worker.log()
