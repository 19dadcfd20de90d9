"""Pages per second of one worker against Scrapy's own scheduler, side by side.

    python -m tests.benchmarks.one_worker [--pairs 5] [--pages 2000] [--json FILE]

Each round crawls the same loopback site (20 links a page) once with Scrapy's memory
scheduler and once with the frontier at every distance of Redis; a proxy adds the
distance, half of it each way. With scrapy-redis installed it runs too, on loopback.
Quote medians and ratios: single figures of a busy machine mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.site import Site

LINKS = 20
#: Round trips in ms.
DISTANCES = (0, 1, 10)

SPIDER = """
class Bench(Spider):
    name = "bench"
    custom_settings = {"LOG_LEVEL": "INFO"}

    async def start(self):
        yield Request(self.url)

    def parse(self, response):
        for href in response.css("a::attr(href)").getall():
            yield response.follow(href)
"""


def variants(
    server: RedisServer, proxies: contextlib.ExitStack
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name -> frontier of the test project, settings; *proxies* ends what it needs."""
    runs: dict[str, tuple[str, dict[str, Any]]] = {"memory": ("memory", {})}
    for ms in DISTANCES:
        url = server.url
        if ms:
            proxy = proxies.enter_context(Proxy(server.port, round_trip_ms=ms))
            url = proxy.url(url)
        runs[f"frontier, {ms} ms"] = ("addon", {"REDIS_URL": url})
    with contextlib.suppress(ImportError):
        import scrapy_redis  # noqa: F401

        runs["scrapy-redis, 0 ms"] = (
            "memory",
            {
                "REDIS_URL": server.url,
                "SCHEDULER": "scrapy_redis.scheduler.Scheduler",
                "DUPEFILTER_CLASS": "scrapy_redis.dupefilter.RFPDupeFilter",
            },
        )
    return runs


def crawl(
    project: Project,
    server: RedisServer,
    url: str,
    frontier: str,
    settings: dict[str, Any],
) -> dict[str, float]:
    """One crawl: pages per second, exchanges and Redis' CPU (us) per page."""
    with server.client() as client:
        client.flushall()
        before = client.info("cpu")
        worker = project.crawl(
            "bench", settings=settings, args={"url": url}, frontier=frontier
        )
        assert worker.wait(300) == 0, worker.tail()
        after = client.info("cpu")
    stats = worker.stats()
    pages = stats["response_received_count"]
    cpu = sum(after[k] - before[k] for k in ("used_cpu_user", "used_cpu_sys"))
    return {
        "pages": pages,
        "pages/s": pages / stats["elapsed_time_seconds"],
        "exchanges/page": stats.get("frontier/exchanges", 0) / pages,
        "Redis us/page": cpu * 1e6 / pages,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=5, help="rounds, default 5")
    parser.add_argument("--pages", type=int, default=2000, help="default 2000")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    site = Site()
    results: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as proxies:
        server = RedisServer(Path(folder) / "redis")
        project = Project(Path(folder) / "project", server.url)
        project.spider(SPIDER)
        try:
            runs = variants(server, proxies)
            for _ in range(options.pairs):
                for name, (frontier, settings) in runs.items():
                    url = f"{site.url}/graph/{options.pages}/{LINKS}/0"
                    figures = crawl(project, server, url, frontier, settings)
                    results.setdefault(name, []).append(figures)
        finally:
            project.end()
            server.kill()
            site.stop()
    report(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def report(results: dict[str, list[dict[str, float]]]) -> None:
    """Print medians, and the median ratio to the memory scheduler, round by round."""
    print(f"{'':22}{'pages/s':>9}{'ratio':>7}{'exch./page':>12}{'Redis us/page':>15}")
    memory = [run["pages/s"] for run in results["memory"]]
    for name, runs in results.items():
        median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        rates = [run["pages/s"] for run in runs]
        ratio = statistics.median(a / b for a, b in zip(rates, memory, strict=True))
        print(
            f"{name:22}{median['pages/s']:9.0f}{ratio:7.2f}"
            f"{median['exchanges/page']:12.2f}{median['Redis us/page']:15.0f}"
        )


if __name__ == "__main__":
    main()
