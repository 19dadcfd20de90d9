"""Redis answers with errors for a while: workers wait, and say so once.

All outages share one crawl, one after another.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import redis

from tests.support.project import Worker, assert_finished
from tests.support.proxy import Proxy
from tests.support.redis_state import count_pending, failed
from tests.support.site import Site, tree_pages
from tests.support.spiders import FOLLOW
from tests.support.together import start_together
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tests.support.redis_server import RedisServer

PAGES = 1_000
#: What a worker says at the end of an outage.
BACK = ("INFO: Redis is back", "INFO: Redis has memory again")
#: Seconds that an outage lasts when all have noticed it; a few tries of each worker.
LASTS = 0.4


@contextlib.contextmanager
def answers(proxy: Proxy, error: str) -> Iterator[None]:
    """Every command is answered with *error*."""
    proxy.answer(error)
    try:
        yield
    finally:
        proxy.answer("")


@contextlib.contextmanager
def refuses(proxy: Proxy) -> Iterator[None]:
    """Nobody listens."""
    proxy.refuse()
    try:
        yield
    finally:
        proxy.accept()


@contextlib.contextmanager
def read_only(client: redis.Redis) -> Iterator[None]:
    """Redis has become a replica of a master that is not there."""
    client.replicaof("127.0.0.1", 1)
    try:
        yield
    finally:
        client.replicaof("no", "one")


@contextlib.contextmanager
def busy(server: RedisServer) -> Iterator[None]:
    """Somebody else's script does not end."""

    def spin() -> None:
        with (
            server.client(socket_timeout=None) as client,
            contextlib.suppress(redis.exceptions.ResponseError),
        ):
            client.eval("while true do end", 0)

    with server.client() as client:
        client.config_set("lua-time-limit", 50)
        thread = threading.Thread(target=spin)
        thread.start()
        try:
            yield
        finally:
            client.script_kill()
            thread.join()


@contextlib.contextmanager
def full(client: redis.Redis) -> Iterator[None]:
    """Redis uses more memory than it may."""
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@contextlib.contextmanager
def locked(client: redis.Redis) -> Iterator[None]:
    """Somebody has changed the password, and all connections are new."""
    client.config_set("requirepass", "changed")
    client.client_kill_filter(_type="normal", skipme=True)
    try:
        yield
    finally:
        client.config_set("requirepass", "")


def warnings(worker: Worker) -> list[str]:
    return [line for line in worker.log().splitlines() if " WARNING: " in line]


def times_back(worker: Worker) -> int:
    return sum(worker.log().count(text) for text in BACK)


def go_through(
    site: Site,
    workers: list[Worker],
    outages: dict[str, Callable[[], AbstractContextManager[None]]],
) -> None:
    """Bring one outage after another; each worker says it once, and its end once."""
    for number, (name, outage) in enumerate(outages.items(), 1):
        with outage():
            # What a full Redis refuses are children.
            site.answer(200 if name == "full" else 20)
            for worker in workers:
                wait_until(
                    lambda w=worker, n=number: len(warnings(w)) == n,
                    f"a warning of {worker.agent}: {name}",
                )
            time.sleep(LASTS)
        for worker in workers:
            wait_until(
                lambda w=worker, n=number: times_back(w) == n,
                f"the end in the log of {worker.agent}: {name}",
            )
            assert len(warnings(worker)) == number, warnings(worker)


def forget_scripts(client: redis.Redis, site: Site) -> None:
    """Redis loses its scripts, as in a restart or a failover."""
    for _ in range(3):
        pages = site.hits().total()
        client.script_flush()
        site.answer(60)
        wait_until(lambda n=pages: site.hits().total() >= n + 30, "30 more pages")


def test_workers_wait_and_say_so_once_while_redis_answers_with_errors(
    make_redis, make_project, site
):
    server = make_redis()
    project = make_project(server.url)
    project.spider(FOLLOW)
    site.delay(100)
    with Proxy(server.port) as proxy, server.client() as client:
        workers = start_together(
            project,
            site,
            2,
            "follow",
            answers=100,
            args={"url": f"{site.url}/tree/{PAGES}/4/0"},
            settings={"REDIS_URL": proxy.url(server.url), "CONCURRENT_REQUESTS": 6},
            frontier="addon",
        )
        loading = "LOADING Redis is loading the dataset in memory"
        orphan = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data"
        no_disk = "MISCONF Redis is configured to save RDB snapshots, but it cannot"
        outages = {
            "full": lambda: full(client),
            "loading": lambda: answers(proxy, loading),
            "master down": lambda: answers(proxy, orphan),
            "cannot save": lambda: answers(proxy, no_disk),
            "nobody there": lambda: refuses(proxy),
            "read only": lambda: read_only(client),
            "busy": lambda: busy(server),
            "locked": lambda: locked(client),
        }
        # A worker that has nothing has no results that a full Redis could refuse.
        wait_until(lambda: count_pending(client, "follow") >= 60, "work for both")
        go_through(site, workers, outages)
        forget_scripts(client, site)
        site.delay(0)
        site.resume()
        assert_finished(workers)

        assert site.hits() == tree_pages(PAGES, 4)
        assert failed(client, "follow") == []
        assert client.keys("*") == [b"follow:history"]
    for worker in workers:
        assert "ERROR" not in worker.log()
        assert "Traceback" not in worker.log()
        # Scripts are loaded again without a word, unless an exchange was half done.
        assert len(warnings(worker)) == times_back(worker) <= len(outages) + 3
