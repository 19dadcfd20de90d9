"""For how long Redis is blocked while something is done to a large frontier.

Two witnesses: SLOWLOG (the longest command, by the clock), and a process that asks PING a
thousand times a second. Both also see what else the machine does: the note says what the
prober saw of an idle Redis.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import redis.asyncio
from scrapy.settings import Settings

from scrapy_dist.amend import FRONTIER, clear
from scrapy_dist.connection import close_client
from scrapy_dist.exporting import Exported, export_lines
from scrapy_dist.frontier import BATCH, Frontier
from scrapy_dist.options import Options
from scrapy_dist.repair import check
from tests.benchmarks.figures import Figure
from tests.benchmarks.filling import fill_pending
from tests.benchmarks.light import KEYS, LightClient, fill_seen
from tests.benchmarks.prober import LIMIT_MS, Prober

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.benchmarks.prober import Watched
    from tests.support.redis_server import RedisServer

OPTIONS = Options.from_settings(Settings())
#: Seconds for which an idle Redis is watched.
IDLE = 2.0


def blocks(server: RedisServer, count: int) -> list[Figure]:
    """The longest block of Redis by each operation on *count* requests."""
    leases = count // 10
    figures = []
    with Prober(server.port) as prober:
        idle = prober.watch(lambda: time.sleep(IDLE))

        def measure(name: str, operation: Callable[[], None]) -> None:
            watched = prober.watch(operation)
            figures.append(_figure(name, watched, idle))

        def on_frontier(
            operation: Callable[[Frontier], Awaitable[None]], *, compact: bool = False
        ) -> Callable[[], None]:
            return lambda: asyncio.run(_with(server.url, operation, compact=compact))

        every = f"a frontier of {count:,} requests"
        most = f"{every}, {leases:,} of them leased,"
        make(server.port, pending=count - leases, leased=leases, seen=count)
        measure(f"{most} is checked", on_frontier(_check))
        measure(f"{most} is listed (export)", on_frontier(_list))
        measure(
            f"{leases:,} leases of a dead worker are reaped", partial(_reap, server)
        )
        measure(f"{most} is cleared", on_frontier(_clear))
        make(server.port, pending=count, seen=count, compact=True)
        measure(
            f"{every} is cleared, CompactDupeFilter", on_frontier(_clear, compact=True)
        )
        make(server.port, pending=count, seen=count)
        measure(f"{every} is flushed by the first worker", partial(_flush, server))
        make(server.port, seen=count)
        measure(
            f"the last worker leaves, and {count:,} fingerprints go",
            partial(_end, server),
        )
    return figures


def _figure(name: str, watched: Watched, idle: Watched) -> Figure:
    command = watched.slowest or "none above 0.5 ms"
    if watched.above:
        command += f", {watched.above} above {LIMIT_MS:g} ms"
    return Figure(
        name=f"longest block of Redis while {name}",
        ours=watched.command_ms,
        unit="ms",
        target=f"<= {LIMIT_MS:g}",
        met=watched.command_ms <= LIMIT_MS,
        samples=[round(watched.command_ms, 2), round(watched.ping_ms, 2)],
        note=f"SLOWLOG: {command}; longest PING {watched.ping_ms:.1f} ms, of an idle Redis"
        f" {idle.ping_ms:.1f} ms; it took {watched.seconds:.1f} s",
    )


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
    await check(frontier, OPTIONS)


async def _list(frontier: Frontier) -> None:
    async for _ in export_lines(frontier, Exported(), spider="bench"):
        pass


async def _clear(frontier: Frontier) -> None:
    cleared = await clear(frontier, OPTIONS, [FRONTIER], force=True)
    assert cleared.done


def _reap(server: RedisServer) -> None:
    """As a living worker does: a reap with each of its exchanges."""
    with LightClient(server.port, ttl=OPTIONS.worker_ttl) as client:
        client.register()
        client.connection.command("HDEL", KEYS.state, "grace")
        while True:
            beat, reap = client.frontier.beat(), client.frontier.reap()
            client.exchange([beat, reap])
            _, _, ended = reap.reply()
            if ended:
                break
        assert not client.connection.command("ZCARD", KEYS.leases)


def _flush(server: RedisServer) -> None:
    with LightClient(server.port) as client:
        join = client.frontier.register("light:0", commit=0, flush=True)
        client.exchange([join])
        assert join.reply().outcome == 1
        client.leave()


def _end(server: RedisServer) -> None:
    with LightClient(server.port) as client:
        client.register()
        leave = client.frontier.leave(finished=True)
        client.exchange([leave])
        assert leave.reply()
