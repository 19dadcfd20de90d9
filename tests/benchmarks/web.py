"""What open pages of ``scrapy frontier web`` cost Redis, and the process that serves them.

``python -m tests.benchmarks.web``: a crawl of 200,000 pending requests of 200 hosts and 20
workers; nobody looks at it, one page does, 50 pages do.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import redis.asyncio

from scrapy_dist.codec import compact
from scrapy_dist.codec.envelope import MSGPACK
from scrapy_dist.core.frontier import NewRequest
from scrapy_dist.core.slots import slot_number
from tests.support.browser import web
from tests.support.frontiers import Worker
from tests.support.redis_server import RedisServer

PENDING, HOSTS, WORKERS = 200_000, 200, 20
SECONDS = 30.0


async def fill(url: str) -> None:
    async with redis.asyncio.Redis.from_url(url, protocol=2) as client:
        info = json.dumps({"pages": 5, "pages_per_second": 1.5, "memory": 10**8})
        workers = [
            await Worker(client, ttl=10_000).join(f"host:{i} {info}")
            for i in range(WORKERS)
        ]
        for first in range(0, PENDING, 1000):
            await workers[0].commit(
                [
                    NewRequest(
                        MSGPACK + compact.dumps({"url": f"http://{name}/{i}"}),
                        0.0,
                        slot=slot_number(name),
                    )
                    for i in range(first, first + 1000)
                    for name in (f"h{i % HOSTS}.example",)
                ]
            )
        for worker in workers:
            await worker.lease(16)


async def watch(address: str, seen: list[int]) -> None:
    """An open page, which counts what it gets."""
    to = urlsplit(address)
    reader, writer = await asyncio.open_connection(to.hostname, to.port)
    writer.write(b"GET /crawl/live?crawl=s HTTP/1.1\r\nHost: localhost\r\n\r\n")
    try:
        while line := await reader.readline():
            seen[0] += line.startswith(b"data: ")
    finally:
        writer.close()


def cpu_of(pid: int) -> float:
    """Seconds of processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(server: RedisServer, address: str, pid: int, pages: int) -> None:
    """Print what *pages* open pages cost."""
    seen = [0]
    watching = [asyncio.ensure_future(watch(address, seen)) for _ in range(pages)]
    await asyncio.sleep(3)
    client = redis.asyncio.Redis.from_url(server.url)
    async with client:
        before, began = await client.info("stats"), time.monotonic()
        redis_cpu, web_cpu = cpu_of(server.pid), cpu_of(pid)
        seen[0] = 0
        await asyncio.sleep(SECONDS)
        took = time.monotonic() - began
        commands = (await client.info("stats"))["total_commands_processed"]
        commands -= before["total_commands_processed"] + 1
    print(
        f"{pages:2} open pages: {commands / took:6.1f} commands/s,"
        f" {1000 * (cpu_of(server.pid) - redis_cpu) / took:5.2f} ms/s of Redis' processor,"
        f" {1000 * (cpu_of(pid) - web_cpu) / took:5.1f} ms/s of the server's,"
        f" {seen[0] / took / max(pages, 1):.2f} events/s a page",
        flush=True,
    )
    for task in watching:
        task.cancel()
    await asyncio.wait(watching or [asyncio.ensure_future(asyncio.sleep(0))])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        asyncio.run(fill(server.url))
        options = ("--redis", server.url)
        for pages in (0, 1, 50):
            with web(Path(folder), server.url, *options) as served:
                pid = served.pid
                asyncio.run(measure(server, served, pid, pages))


if __name__ == "__main__":
    main()
