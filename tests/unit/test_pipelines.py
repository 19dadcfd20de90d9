"""RedisPipeline by itself, as unit tests of projects use it, and with a sink."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import fakeredis
import pytest
from scrapy.exceptions import DropItem
from scrapy.spiders import Spider
from twisted.internet.defer import Deferred

from scrapy_dist.pipelines import _KNOWN_KEYS, Queued, RedisPipeline
from scrapy_dist.worker import engine
from tests.support.engine import make_crawler
from tests.support.redis_state import stored_items
from tests.support.worker import Engine

ITEM = {"a": 1}


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


class Sink:
    """Takes items in the place of a worker."""

    def __init__(self) -> None:
        self.items: list[tuple[str, bytes]] = []
        self.held: list[asyncio.Future[Any]] = []
        self.released = 0
        self.room: Any = None

    def add_item(self, item: Any, key: str, data: bytes) -> Any:
        self.items.append((key, data))
        return self.room

    def hold_item(self, item: Any, work: asyncio.Future[Any]) -> Any:
        self.held.append(work)
        return self.release

    def release(self) -> None:
        self.released += 1


class Slow(RedisPipeline):
    """Stores its items itself, when it may."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.may_store = threading.Event()
        self.stored: list[Any] = []

    def _process_item(self, item: Any, spider: Spider) -> Any:
        self.may_store.wait(60)
        self.stored.append(item)
        return item


def begin(cls: type[RedisPipeline], **settings: Any) -> tuple[Any, Sink]:
    settings = {"REDIS_URL": "redis://127.0.0.1:1/0"} | settings
    pipeline: Any = cls.from_settings(make_crawler(Lonely(), **settings).settings)
    pipeline._bind(make_crawler(Lonely(), **settings))
    pipeline._items = sink = Sink()
    return pipeline, sink


async def test_text_is_stored_as_bytes_and_whoever_waits_waits_for_room():
    pipeline, sink = begin(RedisPipeline)
    assert await pipeline.process_item(ITEM) is ITEM
    assert sink.items == [("lonely:items", b'{"a": 1}')]
    waited = []

    async def room() -> None:
        await asyncio.sleep(0)
        waited.append(True)

    sink.room = room
    assert await pipeline.process_item(ITEM) is ITEM
    assert waited == [True]


async def test_a_server_of_ones_own_gets_the_items_from_when_it_is_assigned():
    pipeline, sink = begin(RedisPipeline)
    assert pipeline.server is not None  # the settings' own
    await pipeline.process_item(ITEM)
    assert len(sink.items) == 1
    pipeline.server = server = fakeredis.FakeRedis()
    assert await pipeline.process_item(ITEM) is ITEM
    assert stored_items(server, "lonely") == [b'{"a": 1}']
    assert (len(sink.items), len(sink.held)) == (1, 1)
    await pipeline._spider_closed()


async def test_a_closing_worker_waits_for_what_threads_have_begun():
    pipeline, sink = begin(Slow)
    pipeline.process_item(ITEM)
    assert (len(sink.held), pipeline.stored) == (1, [])
    asyncio.get_running_loop().call_soon(pipeline.may_store.set)
    await pipeline._spider_closed()
    assert pipeline.stored == [ITEM]
    assert sink.released == 0


async def test_a_closing_worker_does_not_wait_without_end_and_frees_the_page():
    pipeline, sink = begin(Slow, FRONTIER_CLOSE_TIMEOUT=0)
    with pytest.raises(DropItem, match="FRONTIER_CLOSE_TIMEOUT"):
        await pipeline.process_item(ITEM)  # no engine: the spider is closing
    assert sink.released == 1
    pipeline.may_store.set()
    await asyncio.wait(sink.held)
    await pipeline._spider_closed()


class Keyless(RedisPipeline):
    def item_key(self, item: Any, spider: Spider) -> str:
        return "%(nothing)s"


async def test_without_a_key_the_page_is_not_acknowledged_and_it_is_said_once(caplog):
    pipeline, sink = begin(Keyless)
    pipeline.crawler.engine = closed = Engine(pipeline.crawler)
    for _ in range(2):
        with pytest.raises(DropItem, match="has no key"):
            pipeline.process_item(ITEM)
    assert [held.cancelled() for held in sink.held] == [True, True]
    assert engine.ends_with_error(pipeline.crawler)
    await asyncio.sleep(0)
    assert closed.asked_to_close == ["configuration_error"]
    assert caplog.text.count("item_key()") == 1
    assert sink.items == []


async def test_nobody_looks_whether_the_spider_closes_when_it_has():
    pipeline, _ = begin(Slow)
    pipeline.may_store.set()
    assert await pipeline.process_item(ITEM) is ITEM
    await pipeline._spider_closed()
    await asyncio.wait([pipeline._patience])
    assert pipeline._patience.cancelled()


async def test_in_a_command_that_is_no_crawl_it_says_once_that_it_stores_nothing(
    caplog,
):
    pipeline, sink = begin(RedisPipeline)
    pipeline._command = "parse"
    with caplog.at_level(logging.INFO):
        for _ in range(2):  # as Scrapy opens it, and by the signal
            await pipeline._spider_opened()
    assert caplog.text.count("scrapy parse is no crawl: RedisPipeline stores") == 1
    assert await pipeline.process_item(ITEM) is ITEM
    assert sink.items == []


class Sorting(RedisPipeline):
    def item_key(self, item: Any, spider: Spider) -> str:
        return f"things:{item['n']}"


async def test_the_keys_that_are_known_to_be_right_are_bounded():
    pipeline, sink = begin(Sorting)
    for n in range(_KNOWN_KEYS + 5):
        await pipeline.process_item({"n": n})
    assert sink.items[-1][0] == f"things:{_KNOWN_KEYS + 4}"
    assert len(pipeline._known_keys) == _KNOWN_KEYS
