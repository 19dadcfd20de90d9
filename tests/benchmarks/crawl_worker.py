"""What runs inside a measured process: one crawl, and its own account of itself.

    python crawl_worker.py '{"spider": "follow", "url": "http://…", "pages": 2000, …}'

Needs nothing of this repository, so that scrapy-redis can run it in a venv of its own.
The measured part begins with the first request that is sent and ends with the callback
of the last page: neither imports nor opening and closing are in it. The last line on
stdout is a JSON object, see `Meter.facts`. Everything else goes to stderr.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scrapy import Request, Spider, signals
from scrapy.crawler import Crawler, CrawlerProcess

if TYPE_CHECKING:
    from scrapy.http import Response

#: Settings of all crawls; the rest is Scrapy's and the package's own.
SETTINGS = {
    "LOG_LEVEL": "INFO",
    "TELNETCONSOLE_ENABLED": False,
    "CONCURRENT_REQUESTS": 16,
    "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
    "DOWNLOAD_DELAY": 0,
}
#: Seconds between two ticks that look for gaps of the event loop.
TICK = 0.002


def redis_info(port: int, section: str) -> dict[str, str]:
    """``INFO section``, over a plain socket: nothing of the crawl is in the way."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        stream = connection.makefile("rwb")
        stream.write(f"INFO {section}\r\n".encode())
        stream.flush()
        size = int(stream.readline()[1:])
        text = stream.read(size).decode()
    lines = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in lines}


def redis_work(port: int) -> dict[str, float]:
    """CPU seconds of Redis, and seconds and calls of scripts, since its start."""
    cpu = redis_info(port, "cpu")
    scripts = redis_info(port, "commandstats").get("cmdstat_evalsha", "")
    fields = dict(field.split("=") for field in scripts.split(",") if field)
    return {
        "cpu": float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]),
        "scripts": float(fields.get("usec", 0)) / 1e6,
        "calls": float(fields.get("calls", 0)),
    }


def rss() -> int:
    """Bytes of RAM that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


class Meter:
    """Marks the first request and the last page, and finds gaps of the event loop."""

    def __init__(self, crawler: Crawler, job: dict[str, Any]) -> None:
        self.pages = 0
        self.gap = self.gap_without_gc = 0.0
        self._gc_seconds = self._gc_started = 0.0
        self._crawler = crawler
        self._job = job
        self._redis: list[dict[str, float]] = []
        self._first = self._last = (0.0, 0.0)
        self._closed = 0.0
        self._rss = 0
        #: Host and time of each request that has reached the downloader, if asked for.
        self._starts: list[tuple[str | None, float]] = []
        connect = crawler.signals.connect
        if job.get("starts"):
            connect(self._start, signals.request_reached_downloader)
        connect(self._sent, signals.request_reached_downloader)
        connect(self._close, signals.spider_closed)
        connect(self._open, signals.spider_opened)

    def page(self) -> None:
        """A callback has yielded everything."""
        self.pages += 1
        self._last = (time.monotonic(), time.process_time())
        if self.pages == self._job["pages"]:
            self._rss = rss()
            self._look_at_redis()
            if self._job.get("stop"):
                self._crawler.signals.send_catch_log(_ENOUGH)

    def info(self) -> dict[str, Any]:
        """Times in seconds of `time.monotonic`, ``cpu`` in seconds, gaps in ms.

        ``gap_without_gc``: a gap less the time of garbage collections in it.
        """
        before, after = self._redis if len(self._redis) == 2 else ({}, {})
        return {
            "pages": self.pages,
            "seconds": self._last[0] - self._first[0],
            "cpu": self._last[1] - self._first[1],
            "first": self._first[0],
            "last": self._last[0],
            "closed": self._closed,
            "gap": self.gap * 1000,
            "gap_without_gc": self.gap_without_gc * 1000,
            "rss": self._rss,
            "redis": {name: after[name] - before[name] for name in after},
            "stats": self._crawler.stats.get_stats(),
            "starts": self._starts,
        }

    def _open(self) -> None:
        print("open", flush=True)

    def _start(self, request: Request) -> None:
        self._starts.append((urlsplit(request.url).hostname, time.monotonic()))

    def _sent(self) -> None:
        if self._first[0]:
            return
        self._look_at_redis()
        self._first = self._last = (time.monotonic(), time.process_time())
        if self._job.get("tick"):
            gc.callbacks.append(self._collecting)
            self._tick(self._first[0], self._gc_seconds)

    def _look_at_redis(self) -> None:
        if self._job.get("redis_port"):
            self._redis.append(redis_work(self._job["redis_port"]))

    def _tick(self, due: float, gc_before: float) -> None:
        now = time.monotonic()
        if self.pages < self._job["pages"]:
            late = now - due
            self.gap = max(self.gap, late)
            late -= self._gc_seconds - gc_before
            self.gap_without_gc = max(self.gap_without_gc, late)
        loop = asyncio.get_running_loop()
        loop.call_later(TICK, self._tick, now + TICK, self._gc_seconds)

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._gc_started = time.monotonic()
        else:
            self._gc_seconds += time.monotonic() - self._gc_started

    def _close(self) -> None:
        self._closed = time.monotonic()


_ENOUGH = object()


class Measured(Spider):
    """Its meter, and closing after enough pages where nothing else ends the crawl."""

    name = "bench"
    meter: Meter
    job: dict[str, Any]

    @classmethod
    def from_crawler(cls, crawler: Crawler, job: dict[str, Any]) -> Measured:
        spider = super().from_crawler(crawler)
        spider.job = job
        spider.meter = Meter(crawler, job)
        crawler.signals.connect(spider.enough, _ENOUGH)
        return spider

    def enough(self) -> None:
        engine: Any = self.crawler.engine
        if hasattr(engine, "close_spider_async"):
            self._closing = asyncio.ensure_future(
                engine.close_spider_async(reason="enough")
            )
        else:
            engine.close_spider(self, "enough")

    def parse(self, response: Response) -> Iterator[Request]:
        for href in response.css("a::attr(href)").getall():
            yield response.follow(href)
        self.meter.page()


class Follow(Measured):
    """Follows all links from ``url``."""

    async def start(self) -> AsyncIterator[Request]:
        yield Request(self.job["url"])


class Listed(Measured):
    """Yields ``pages`` URLs below ``url``, as ``Spider.start`` does with start_urls."""

    async def start(self) -> AsyncIterator[Request]:
        for number in range(self.job["pages"]):
            yield Request(f"{self.job['url']}/seed/{number}", dont_filter=True)


def pushed(library: str) -> type[Measured]:
    """A spider whose URLs are pushed to ``bench:start_urls``."""
    spiders = import_module(f"{library}.spiders")

    class Pushed(Measured, spiders.RedisSpider):  # type: ignore[misc, name-defined]
        redis_key = "bench:start_urls"

        async def start(self) -> AsyncIterator[Request]:
            async for request in spiders.RedisSpider.start(self):
                yield request

    return Pushed


def main() -> None:
    job = json.loads(sys.argv[1])
    spiders = {"follow": Follow, "listed": Listed}
    name = job["spider"]
    process = CrawlerProcess({**SETTINGS, **job["settings"]})
    spider = spiders[name] if name in spiders else pushed(name)
    crawler = process.create_crawler(spider)
    process.crawl(crawler, job=job)
    process.start()
    print(json.dumps(crawler.spider.meter.info(), default=str), flush=True)


if __name__ == "__main__":
    main()
