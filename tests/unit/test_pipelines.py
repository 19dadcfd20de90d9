"""RedisPipeline without a crawl, as unit tests of projects use it."""

from __future__ import annotations

import asyncio

import fakeredis
from scrapy.spiders import Spider
from twisted.internet.defer import Deferred

from scrapy_dist.pipelines import Queued, RedisPipeline


class Lonely(Spider):
    name = "lonely"


def test_without_a_crawler_the_item_goes_to_its_server():
    server = fakeredis.FakeRedis()
    pipeline = RedisPipeline(server, key="%(spider)s:things")
    pipeline.process_item({"a": 1}, Lonely())
    assert server.lrange("lonely:things", 0, -1) == [b'{"a": 1}']
    assert pipeline.server is server


async def test_what_is_queued_can_be_awaited_or_chained():
    item = {"a": 1}
    assert await Queued(item) is item
    assert await asyncio.ensure_future(Queued(item)) is item

    async def wait():
        await asyncio.sleep(0)
        return item

    assert await Queued(item, wait) is item
    chained = Queued(item, wait).addCallback(lambda found: dict(found, b=2))
    assert isinstance(chained, Deferred)
    found = await chained.asFuture(asyncio.get_running_loop())
    assert found == {"a": 1, "b": 2}
