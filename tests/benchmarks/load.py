"""Many light workers on one Redis: is anything lost, and how long does an exchange take?

    python -m tests.benchmarks.load [--workers 200] [--seconds 60] [--json FILE]

The workers follow the protocol without Scrapy. Each "crawls" with a small random think
time; some die and are replaced, some are frozen for longer than the TTL and go on. At
the end every page has its item exactly once, and the frontier is empty.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.core.frontier import Ask
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.redis_client.client import close_client
from tests.support.frontiers import session
from tests.support.light_worker import LightWorker, Yield
from tests.support.redis_server import RedisServer

KEYS = Keys.from_settings(Settings(), "load")
TTL = 3.0
#: Pages that each worker has in hand.
CONCURRENCY = 8
#: Chains of pages that are crawled side by side, for each worker.
CHAINS = 20
#: Seconds that a page takes, at the most.
THINK = 0.05
#: Mean seconds until a worker dies, and until it is frozen for twice the TTL.
LIFE, AWAKE = 30.0, 40.0
#: Longest time after the end of the growth until the frontier has to be drained.
PATIENCE = 60.0


@dataclass
class Tally:
    """What the workers of one process did; *latencies* of exchanges in ms."""

    pages: int = 0
    deaths: int = 0
    freezes: int = 0
    rollbacks: int = 0
    latencies: list[float] = field(default_factory=list)


class Crew:
    """The workers of one process."""

    def __init__(self, url: str, chains: int, ends: float, seed: int) -> None:
        self.tally = Tally()
        self._url = url
        self._chains = chains
        self._ends = ends
        self._random = random.Random(seed)

    def site(self, name: str) -> Yield:
        """A chain goes on until the growth ends; each page has one item."""
        items = (name.encode(),)
        if name == "root":
            return Yield(tuple(f"{n}.0" for n in range(self._chains)), items=items)
        if time.time() > self._ends:
            return Yield(items=items)
        chain, _, at = name.partition(".")
        return Yield((f"{chain}.{int(at) + 1}",), items=items)

    async def run(self, workers: int) -> Tally:
        await asyncio.gather(*(self._supervise(n) for n in range(workers)))
        return self.tally

    async def _supervise(self, number: int) -> None:
        while not await self._work(number):
            self.tally.deaths += 1

    async def _work(self, number: int) -> bool:
        """The life of one worker; false if it died."""
        client = redis.asyncio.Redis.from_url(self._url, protocol=2)
        own = session(client, KEYS, ttl=TTL, max_deliveries=10_000)
        worker = LightWorker(own, self.site, items=KEYS.items)
        now = time.monotonic
        dies = now() + self._random.expovariate(1 / LIFE)
        freezes = now() + self._random.expovariate(1 / AWAKE)
        try:
            await worker.join(f"light:{os.getpid()}-{number}")
            worker.start("root")
            while True:
                if now() > dies and time.time() < self._ends:
                    return False
                if now() > freezes and time.time() < self._ends:
                    self.tally.freezes += 1
                    freezes = now() + self._random.expovariate(1 / AWAKE)
                    await asyncio.sleep(2 * TTL)
                try:
                    if await self._turn(worker):
                        await own.leave(finished=False, persist=False, reason="")
                        return True
                except RedisUnavailable:
                    await asyncio.sleep(0.1)
        finally:
            self.tally.pages += worker.finished_pages
            self.tally.rollbacks += worker.rollbacks
            await close_client(client)

    async def _turn(self, worker: LightWorker) -> bool:
        """An exchange, and some pages; true if nothing is left for anybody."""
        started = time.monotonic()
        await worker.exchange(want=max(0, CONCURRENCY - len(worker.leases.records)))
        self.tally.latencies.append((time.monotonic() - started) * 1000)
        await asyncio.sleep(self._random.uniform(0, THINK))
        while task := worker.take():
            worker.finish(task)
        if not worker.is_idle:
            return False
        left = (await worker.session.exchange(Ask(count=True))).counts
        assert left is not None
        if time.time() > self._ends + PATIENCE:
            raise AssertionError(f"not drained: {left}")
        if not left.is_drained:
            await asyncio.sleep(THINK)
        return left.is_drained


def _crew(url: str, workers: int, chains: int, seconds: float, seed: int) -> Tally:
    # From now on: the start of a process may take longer than that.
    ends = time.time() + seconds
    return asyncio.run(Crew(url, chains, ends, seed).run(workers))


def run(url: str, *, workers: int, seconds: float, processes: int = 2) -> Tally:
    """Crawl, and check that nothing was lost. Raises AssertionError."""
    seed = int(os.environ.get("LOAD_SEED") or random.randrange(1_000_000))
    print(f"LOAD_SEED={seed}")
    chains = CHAINS * workers
    shares = [
        workers // processes + (n < workers % processes) for n in range(processes)
    ]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        crews = [
            pool.submit(_crew, url, share, chains, seconds, seed + n)
            for n, share in enumerate(shares)
        ]
        tallies = [crew.result() for crew in crews]
    check(url)
    total = Tally()
    for tally in tallies:
        for name, value in vars(tally).items():
            setattr(total, name, getattr(total, name) + value)
    return total


def check(url: str) -> int:
    """Every page that was ever seen has its item once; nothing is left (I1 to I3)."""
    with redis.Redis.from_url(url) as client:
        for key in (
            KEYS.requests,
            KEYS.suspects,
            KEYS.leases,
            KEYS.leased,
            KEYS.failed,
        ):
            assert not client.exists(key), f"left: {key}"
        seen = {
            name.decode().removeprefix("fp-")
            for name in client.smembers(KEYS.dupefilter)
        }
        items = Counter(item.decode() for item in client.lrange(KEYS.items, 0, -1))
    assert set(items) == seen, f"{len(seen - set(items))} pages lost"
    twice = [name for name, count in items.items() if count > 1]
    assert not twice, f"{len(twice)} items twice"
    return len(seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        started = time.monotonic()
        total = run(server.url, workers=options.workers, seconds=options.seconds)
        elapsed = time.monotonic() - started
        with server.client() as client:
            cpu = client.info("cpu")
            pages = client.llen(KEYS.items)
    cuts = statistics.quantiles(total.latencies, n=100)
    figures: dict[str, Any] = {
        "workers": options.workers,
        "seconds": round(elapsed, 1),
        "pages": pages,
        "pages crawled again": total.pages - pages,
        "deaths": total.deaths,
        "freezes": total.freezes,
        "workers that noticed": total.rollbacks,
        "lost": 0,
        "items twice": 0,
        "exchanges": len(total.latencies),
        "p50 ms": round(cuts[49], 2),
        "p90 ms": round(cuts[89], 2),
        "p99 ms": round(cuts[98], 2),
        "max ms": round(max(total.latencies), 2),
        "redis cpu s": round(cpu["used_cpu_user"] + cpu["used_cpu_sys"], 1),
    }
    for name, value in figures.items():
        print(f"{name:>22}  {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
