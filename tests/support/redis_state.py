"""Look into a frontier from outside; only this module knows in which keys and types."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from scrapy.settings import Settings

from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.brokers.redis.layout import RANK, decode_score
from scrapy_dist.brokers.redis.tasks import parse_task
from scrapy_dist.brokers.redis.tools.check import check
from scrapy_dist.redis_client.client import close_client, open_client
from tests.support.wait import wait_until

if TYPE_CHECKING:
    import redis

    from scrapy_dist.core.tasks import Task
    from tests.support.project import Worker
    from tests.support.site import Site


@cache
def keys_of(crawl: str) -> Keys:
    """The names of the keys of *crawl* by the default templates."""
    return Keys.from_settings(Settings(), crawl)


def count_pending(client: redis.Redis, crawl: str) -> int:
    """How many requests wait for a worker."""
    return client.zcard(keys_of(crawl).requests)


def count_leased(client: redis.Redis, crawl: str) -> int:
    """How many requests workers have at work."""
    return client.zcard(keys_of(crawl).leases)


def count_suspects(client: redis.Redis, crawl: str) -> int:
    """How many requests wait that were at work in a worker that died."""
    return client.zcard(keys_of(crawl).suspects)


def count_seen(client: redis.Redis, crawl: str) -> int:
    """How many requests the filter of duplicates knows."""
    return client.scard(keys_of(crawl).dupefilter)


def count_workers(client: redis.Redis, crawl: str) -> int:
    """How many workers have registered and not left."""
    return client.zcard(keys_of(crawl).workers)


def count_failed(client: redis.Redis, crawl: str) -> int:
    """How many dead letters there are."""
    return client.xlen(keys_of(crawl).failed)


def count_items(client: redis.Redis, crawl: str) -> int:
    """How many items nobody has taken yet."""
    return client.llen(keys_of(crawl).items)


def stored_items(client: redis.Redis, crawl: str) -> list[bytes]:
    """The items that nobody has taken yet, the oldest first."""
    return client.lrange(keys_of(crawl).items, 0, -1)


def wait_for_workers(
    client: redis.Redis,
    spider: str,
    count: int,
    timeout: float = 60.0,
    workers: Iterable[Worker] = (),
) -> None:
    """Wait until *count* workers of *spider* have registered; until then none is idle.

    One that closes after a second without activity would be gone before a slow machine
    has started the next. Fails at once if one of *workers* has ended.
    """
    state = f"{spider}:state"

    def are_there() -> bool:
        for worker in workers:
            assert worker.running(), f"{worker.agent} ended:\n{worker.tail()}"
        there: int = client.zcard(f"{spider}:workers")
        if there:
            client.hset(state, "active", int(client.time()[0] + 600) * 1000)
        return there == count

    wait_until(are_there, f"{count} workers of {spider}", timeout)
    client.hset(state, "active", int(client.time()[0]) * 1000)


def wakes(client: redis.Redis, key: str, site: Site) -> bool:
    """Whether a seed wakes the idle worker that reads *key*.

    By itself it would look 5 s after it has taken the last one. A machine may be slow,
    but not each time.
    """
    waited = []
    for n in range(4):
        pushed = time.monotonic()
        client.lpush(key, f"{site.url}/page/wakes-{n}")
        wait_until(
            lambda n=n: site.hits()[f"/page/wakes-{n}"], "the page of a seed", 30, 0.005
        )
        waited.append(time.monotonic() - pushed)
    return min(waited[1:]) < 3


def failed(client: redis.Redis, spider: str) -> list[dict[str, bytes]]:
    """The dead letters of *spider*, the oldest first."""
    return [
        {name.decode(): value for name, value in fields.items()}
        for _, fields in client.xrange(keys_of(spider).failed)
    ]


def items(client: redis.Redis, spider: str, field: str = "path") -> Counter[str]:
    """How often each *field* is among the items of *spider*."""
    return Counter(json.loads(item)[field] for item in stored_items(client, spider))


def keys(client: redis.Redis) -> list[str]:
    """All keys, sorted."""
    return sorted(key.decode() for key in client.scan_iter())


def damage(url: str, spider: str) -> dict[str, int]:
    """What ``scrapy frontier check`` finds wrong, by kind; workers may be at work."""
    return asyncio.run(_damage(url, spider))


async def _damage(url: str, spider: str) -> dict[str, int]:
    settings = Settings({"REDIS_URL": url})
    client = await open_client(settings)
    try:
        keys = Keys.from_settings(settings, spider)
        frontier = Frontier(client, keys, ttl=60, max_deliveries=3, failed_limit=100)
        report = await check(frontier)
    finally:
        await close_client(client)
    return {kind: found.left for kind, found in report.findings.items() if found.left}


def as_older(client: redis.Redis, crawl: str) -> int:
    """Turn a stopped crawl into one of format 3; how many requests there are."""
    keys, left = keys_of(crawl), 0
    for key in (keys.requests, keys.suspects):
        for member in client.zrange(key, 0, -1):
            rest = member[8:]
            if key == keys.suspects:
                deaths, claims, _, payload = member[RANK:].split(b" ", 3)
                rest = member[8:RANK] + b"%s %s %s" % (deaths, claims, payload)
            client.zadd(key, {rest: decode_score(member[:8])})
            client.zrem(key, member)
            left += 1
    client.delete(keys.slots)
    client.hset(keys.state, "format", 3)
    return left


def put_pending(client: redis.Redis, crawl: str, member: bytes) -> None:
    """Make *member* pending, in slot 0."""
    keys = keys_of(crawl)
    client.zadd(keys.slots, {"0": 1})
    client.zadd(keys.requests, {member: 0})


def task_of(client: redis.Redis, crawl: str, id_: str) -> Task | None:
    """The newest task with this id."""
    keys = keys_of(crawl)
    token = client.hget(keys.tasks, f"i:{id_}")
    if token is None:
        return None
    return parse_task(token.decode(), client.hget(keys.tasks, f"t:{token.decode()}"))


def results_of(client: redis.Redis, crawl: str, id_: str) -> list[bytes]:
    """The items of a task, in their order."""
    task = task_of(client, crawl, id_)
    assert task is not None
    names = [f"{task.token} {n}" for n in range(1, task.items + 1)]
    found = client.hmget(keys_of(crawl).results, names) if names else []
    return [item for item in found if item is not None]


def plant_task(client: redis.Redis, crawl: str, id_: str, token: str) -> None:
    """A task that was submitted; its seed is pushed apart."""
    fields = {f"t:{token}": f"q 1 0 0 0 1 0 0\n{id_}\n\n\n", f"i:{id_}": token}
    client.hset(keys_of(crawl).tasks, mapping=fields)


def cancel_task(client: redis.Redis, crawl: str, id_: str) -> None:
    """Somebody has cancelled it, and nothing pending was dropped yet."""
    tasks = keys_of(crawl).tasks
    name = b"t:" + client.hget(tasks, f"i:{id_}")
    client.hset(tasks, name, b"c" + client.hget(tasks, name)[1:])
