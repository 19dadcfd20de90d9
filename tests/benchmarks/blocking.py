"""For how long Redis is blocked while something is done to a large frontier.

The figure is SLOWLOG's longest command, by the clock, the median of `ROUNDS` rounds: it
also sees what else the machine does to Redis, and that is not the same twice. The note
says what a process saw that asks PING a thousand times a second.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import redis.asyncio
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.tools.check import check
from scrapy_dist.brokers.redis.tools.clear import clear
from scrapy_dist.brokers.redis.tools.export import export_lines
from scrapy_dist.core.crawl import FRONTIER, Exported
from scrapy_dist.core.frontier import BATCH, JoinOutcome
from scrapy_dist.core.settings import Options
from scrapy_dist.redis_client.client import close_client
from tests.benchmarks.figures import Figure
from tests.benchmarks.filling import fill_pending
from tests.benchmarks.light import KEYS, LightClient, fill_seen
from tests.benchmarks.prober import LIMIT_MS, Prober, Watched

if TYPE_CHECKING:
    from tests.support.redis_server import RedisServer

OPTIONS = Options.from_settings(Settings())
#: Seconds for which an idle Redis is watched.
IDLE = 2.0
#: How often everything is measured.
ROUNDS = 3


def blocks(server: RedisServer, count: int) -> list[Figure]:
    """The longest block of Redis by each operation on *count* requests."""
    found: dict[str, list[Watched]] = {}
    with Prober(server.port) as prober:
        idle = prober.watch(lambda: time.sleep(IDLE))

        def measure(name: str, operation: Callable[[], None]) -> None:
            found.setdefault(name, []).append(prober.watch(operation))

        for _ in range(ROUNDS):
            _round(server, count, measure)
    return [_figure(name, watched, idle) for name, watched in found.items()]


def _round(
    server: RedisServer, count: int, measure: Callable[[str, Callable[[], None]], None]
) -> None:
    def on_frontier(
        operation: Callable[[Frontier], Awaitable[None]], *, compact: bool = False
    ) -> Callable[[], None]:
        return lambda: asyncio.run(_with(server.url, operation, compact=compact))

    leases = count // 10
    every = f"a frontier of {count:,} requests"
    most = f"{every}, {leases:,} of them leased,"
    make(server.port, pending=count - leases, leased=leases, seen=count)
    measure(f"{most} is checked", on_frontier(_check))
    measure(f"{most} is listed (export)", on_frontier(_list))
    measure(f"{leases:,} leases of a dead worker are reaped", partial(_reap, server))
    measure(f"{most} is cleared", on_frontier(_clear))
    make(server.port, pending=count, seen=count, compact=True)
    measure(f"{every} is cleared, CompactDupeFilter", on_frontier(_clear, compact=True))
    make(server.port, pending=count, seen=count)
    measure(f"{every} is flushed by the first worker", partial(_flush, server))
    make(server.port, seen=count)
    measure(
        f"the last worker leaves, and {count:,} fingerprints go", partial(_end, server)
    )


def _figure(name: str, rounds: Sequence[Watched], idle: Watched) -> Figure:
    median = statistics.median(watched.command_ms for watched in rounds)
    slowest = max(rounds, key=lambda watched: watched.command_ms)
    above = sum(watched.above for watched in rounds)
    return Figure(
        name=f"longest block of Redis while {name}",
        ours=median,
        unit="ms",
        target=f"<= {LIMIT_MS:g}",
        met=median <= LIMIT_MS,
        samples=[round(watched.command_ms, 2) for watched in rounds],
        note=f"SLOWLOG, of each round: {_listed(w.command_ms for w in rounds)}"
        f" ({slowest.slowest or 'none above 0.5 ms'}; {above} above {LIMIT_MS:g} ms)."
        f" Longest PING {_listed(w.ping_ms for w in rounds)}, of an idle Redis"
        f" {idle.ping_ms:.1f}; Redis had a processor for"
        f" {_listed(w.working_ms for w in rounds)} ms of a PING at the most; it took"
        f" {statistics.median(w.seconds for w in rounds):.1f} s",
    )


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def make(
    port: int,
    *,
    pending: int = 0,
    leased: int = 0,
    seen: int = 0,
    compact: bool = False,
) -> None:
    """A frontier; what is leased is leased by a worker that died long ago."""
    with LightClient(port, compact=compact) as client:
        client.connection.command("FLUSHALL")
        client.register()
        fill_seen(client, 0, seen, compact=compact)
        fill_pending(client.connection, 0, pending + leased)
        for _ in range(0, leased, BATCH):
            client.lease(BATCH)
        if leased:
            client.connection.command("ZADD", KEYS.workers, 1, client.frontier.worker)
        else:
            client.leave()


async def _with(
    url: str, operation: Callable[[Frontier], Awaitable[None]], *, compact: bool
) -> None:
    client = redis.asyncio.Redis.from_url(url, protocol=2)
    try:
        frontier = Frontier(
            client,
            KEYS,
            ttl=OPTIONS.worker_ttl,
            max_deliveries=OPTIONS.max_deliveries,
            failed_limit=OPTIONS.failed_limit,
            compact=compact,
        )
        await operation(frontier)
    finally:
        await close_client(client)


async def _check(frontier: Frontier) -> None:
    await check(frontier)


async def _list(frontier: Frontier) -> None:
    async for _ in export_lines(frontier, Exported(), spider="bench"):
        pass


async def _clear(frontier: Frontier) -> None:
    cleared = await clear(frontier, [FRONTIER], force=True)
    assert cleared.done


def _reap(server: RedisServer) -> None:
    """As a living worker does: a reap with each of its exchanges."""
    with LightClient(server.port, ttl=OPTIONS.worker_ttl) as client:
        client.register()
        client.connection.command("HDEL", KEYS.state, "grace")
        while True:
            beat, reap = client.frontier.heartbeat(), client.frontier.reap()
            client.exchange([beat, reap])
            if reap.reply().ended:
                break
        assert not client.connection.command("ZCARD", KEYS.leases)


def _flush(server: RedisServer) -> None:
    with LightClient(server.port) as client:
        join = client.frontier.register("light:0", commit=0, flush=True)
        client.exchange([join])
        assert join.reply().outcome is JoinOutcome.FLUSHED
        client.leave()


def _end(server: RedisServer) -> None:
    with LightClient(server.port) as client:
        client.register()
        leave = client.frontier.leave(finished=True)
        client.exchange([leave])
        assert leave.reply()
