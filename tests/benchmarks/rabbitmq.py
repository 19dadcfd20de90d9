"""What RabbitMQ costs beside Redis alone.

    python -m tests.benchmarks.rabbitmq [COUNT]

Prints messages a second, and the CPU of each process for one of them. It is not part of
``tox -e bench``, since it needs a rabbitmq-server.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scrapy_dist import Client
from scrapy_dist.brokers.redis.keys import Keys
from tests.support.project import Project
from tests.support.rabbitmq import BridgeProcess, RabbitServer, find_programs
from tests.support.redis_server import RedisServer
from tests.support.site import Site

if TYPE_CHECKING:
    import subprocess

SPIDER = """
    from scrapy_dist.spiders import RedisSpider

    class Shop(RedisSpider):
        name = "shop"
        custom_settings = {
            "ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400},
            "LOG_LEVEL": "WARNING",
        }

        def parse(self, response):
            yield {"url": response.url}
"""


def cpu_of(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


class Meter:
    """Rates and CPU of what is done in its block, for each of *count*."""

    def __init__(self, redis: RedisServer, rabbit: RabbitServer) -> None:
        self._redis, self._rabbit = redis, rabbit
        self.bridge: subprocess.Popen[bytes] | None = None

    def _now(self) -> dict[str, float]:
        own = resource.getrusage(resource.RUSAGE_SELF)
        found = {
            "this program": own.ru_utime + own.ru_stime,
            "Redis": cpu_of(self._redis.pid),
            "RabbitMQ": self._rabbit.cpu_seconds(),
        }
        if self.bridge:
            found["bridge"] = cpu_of(self.bridge.pid)
        return found

    @contextmanager
    def measured(self, what: str, count: int) -> Iterator[None]:
        before, began = self._now(), time.monotonic()
        yield
        seconds, after = time.monotonic() - began, self._now()
        cpu = ", ".join(
            f"{name} {(after[name] - before[name]) / count * 1e6:.0f}"
            for name in before
        )
        print(f"{what:42} {count / seconds:7.0f}/s   CPU, µs each: {cpu}", flush=True)


def wait(done: Callable[[], bool], pause: float = 0.1) -> None:
    while not done():
        time.sleep(pause)


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = find_programs()
        assert programs is not None, "there is no rabbitmq-server"
        redis = RedisServer(folder / "redis")
        rabbit = RabbitServer(folder / "rabbit", programs)
        site, project = Site(), Project(folder / "project", redis.url)
        project.spider(SPIDER)
        try:
            measure(count, redis, rabbit, site, project)
        finally:
            project.end()
            rabbit.stop()
            redis.kill()
            site.stop()


def measure(
    count: int, redis: RedisServer, rabbit: RabbitServer, site: Site, project: Project
) -> None:
    rabbit.declare("tasks", "items", "answers")
    meter, client, db = Meter(redis, rabbit), Client(redis.url, "shop"), redis.client()
    keys = Keys.from_settings(project_settings(), "shop")
    urls = [f"{site.url}/page/{n}" for n in range(count)]

    def start(*args: str) -> BridgeProcess:
        bridge = BridgeProcess(project, "shop", "--amqp", rabbit.url, *args)
        wait(lambda: "Ctrl-C ends" in bridge.log())
        meter.bridge = bridge.process
        return bridge

    with meter.measured("Client.submit_many", count):
        client.submit_many(urls)
    db.flushall()
    publish(rabbit, urls)
    bridge = start("--tasks", "tasks", "--ack", "stored")
    with meter.measured("bridge --tasks --ack stored", count):
        wait(lambda: client.status().seeds == count)
    bridge.end()
    meter.bridge = None

    for _ in range(2):
        db.flushall()
        for at in range(0, count, 1000):
            some = range(at, min(count, at + 1000))
            db.rpush(
                keys.items, *(json.dumps({"n": n, "text": "x" * 100}) for n in some)
            )
        if meter.bridge is None:
            with meter.measured("Client.items", count):
                assert sum(1 for _ in client.items()) == count
            meter.bridge = start("--items", "items").process
            continue
        with meter.measured("bridge --items", count):
            wait(lambda: rabbit.count("items") == count, pause=0.5)
    meter.bridge.terminate()
    meter.bridge = None

    # With a worker: each task is one page with one item.
    pages = min(count, 4000)
    for with_rabbit in (False, True):
        db.flushall()
        if with_rabbit:
            bridge = start("--tasks", "tasks")
        worker = project.crawl("shop", frontier="addon")
        wait(lambda: bool(client.status().alive))
        with meter.measured(
            "tasks with one worker" + " and the bridge" * with_rabbit, pages
        ):
            if with_rabbit:
                publish(rabbit, urls[:pages], reply_to="answers")
                wait(lambda: rabbit.count("answers") == pages, pause=1.0)
            else:
                client.wait_many(client.submit_many(urls[:pages]))
        worker.kill()
    bridge.end()
    client.close()


def project_settings():  # type: ignore[no-untyped-def]
    from scrapy.settings import Settings

    return Settings()


def publish(rabbit: RabbitServer, urls: list[str], **about: str) -> None:
    with rabbit.channel() as channel:
        for n, url in enumerate(urls):
            rabbit.publish("tasks", url, channel, message_id=f"m{n}", **about)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
