"""Fill a frontier with very many requests, as light as can be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice

import redis.asyncio
from scrapy import Request, Spider
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.frontier import BATCH, Commit, NewRequest
from scrapy_dist.redis_client.client import close_client

#: What stands in the template for the page's number; all numbers are as wide.
_BLANK = "9999999"
#: Commits in one round trip.
_COMMITS = 20


def fill(url: str, count: int, site: str, name: str = "bench") -> None:
    """Make *count* pages of *site*'s shop pending for the spider *name* in Redis."""
    asyncio.run(_fill(url, count, site, name))


def _requests(count: int, site: str) -> Iterator[NewRequest]:
    request = Request(
        f"{site}/shop/2000/{_BLANK}",
        headers={"Referer": f"{site}/shop/2000/0"},
        meta={"depth": 1},
    )
    template = PayloadCodec(Spider("fill")).encode(request)
    head, tail = template.split(_BLANK.encode())
    for number in range(count):
        text = f"{number:0{len(_BLANK)}}"
        yield NewRequest(head + text.encode() + tail, 0.0, text.rjust(40, "0"))


async def _fill(url: str, count: int, site: str, name: str) -> None:
    client = redis.asyncio.Redis.from_url(url, protocol=2)
    keys = Keys.from_settings(Settings(), name)
    frontier = Frontier(client, keys, ttl=60.0, max_deliveries=3, failed_limit=100)
    try:
        joined = frontier.register("fill:0", commit=0)
        await frontier.exchange([joined])
        joined.reply()
        requests, number = _requests(count, site), 0
        while number * BATCH < count:
            calls = []
            for _ in range(_COMMITS):
                part = list(islice(requests, BATCH))
                number += 1
                calls.append(frontier.commit(Commit(number, part)))
            await frontier.exchange(calls)
            for call in calls:
                call.reply()
        leave = frontier.leave(finished=False)
        await frontier.exchange([leave])
        leave.reply()
    finally:
        await close_client(client)
