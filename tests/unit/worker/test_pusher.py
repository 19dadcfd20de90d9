"""Items and stats of a process that crawls with another scheduler."""

from __future__ import annotations

import logging

import pytest

from tests.support.redis_state import count_items, stored_items
from tests.support.worker import Outsider, until


@pytest.fixture
async def begin(redis_server):
    """Start such a process."""
    outsiders: list[Outsider] = []

    async def begin(**settings) -> Outsider:
        settings = {"FRONTIER_CLOSE_TIMEOUT": 0.2} | settings
        outsiders.append(Outsider(redis_server.url, **settings))
        await outsiders[-1].open()
        return outsiders[-1]

    yield begin
    for outsider in outsiders:
        await outsider.close()


def stored(redis) -> list[int]:
    return [int(item[6:-1]) for item in stored_items(redis, "s")]


async def test_items_and_stats_come_while_it_crawls_in_their_order(begin, redis):
    process = await begin()
    for n in range(250):
        process.item({"n": n})
    process.stats.inc_value("pages", 3)
    await until(lambda: count_items(redis, "s") == 250, "items")
    assert stored(redis) == list(range(250))
    await until(lambda: redis.hget("s:stats", "pages") == b"3", "stats")
    process.stats.inc_value("pages", 4)
    process.item({"n": 250})
    await until(lambda: redis.hget("s:stats", "pages") == b"7", "more stats")
    await until(lambda: count_items(redis, "s") == 251, "one more item")
    assert not redis.exists("s:workers")
    await process.close()
    assert count_items(redis, "s") == 251
    assert redis.hget("s:stats", "pages") == b"7"


async def test_what_redis_was_away_for_comes_once_and_is_warned_of_each_time(
    begin, redis, caplog
):
    process = await begin()
    for n in (1, 2):
        process.proxy.refuse()
        process.item({"n": n})
        process.stats.inc_value("pages")
        await until(lambda n=n: caplog.text.count("wait for Redis") == n, "a warning")
        process.proxy.accept()
        await until(lambda n=n: count_items(redis, "s") == n, "the item")
        await until(lambda n=n: redis.hget("s:stats", "pages") == b"%d" % n, "stats")
    assert stored(redis) == [1, 2]


async def test_what_redis_refuses_waits_and_comes_in_its_order(begin, redis, caplog):
    process = await begin()
    redis.set("s:items", "no list")
    for n in range(150):
        process.item({"n": n})
    await until(lambda: "wait for Redis" in caplog.text, "a warning")
    redis.delete("s:items")
    await until(lambda: count_items(redis, "s") == 150, "the items")
    assert stored(redis) == list(range(150))
    assert caplog.text.count("wait for Redis") == 1


async def test_closing_process_sends_all_that_is_left(begin, redis):
    process = await begin(FRONTIER_FLUSH_INTERVAL=1000, FRONTIER_CLOSE_TIMEOUT=100)
    for n in range(350):
        process.item({"n": n})
    process.stats.set_value("last", "word")
    await process.close()
    assert stored(redis) == list(range(350))
    assert redis.hget("s:stats", "last") == b"word"


async def test_closing_process_tries_until_redis_is_back(begin, redis, caplog):
    process = await begin(FRONTIER_CLOSE_TIMEOUT=100)
    redis.set("s:items", "no list")
    process.item({"n": 1})

    class Back(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            redis.delete("s:items")

    logger = logging.getLogger("scrapy_dist.admin.pusher")
    handler = Back()
    logger.addHandler(handler)
    try:
        await process.close()
    finally:
        logger.removeHandler(handler)
    assert stored(redis) == [1]


async def test_closing_process_does_not_wait_for_ever_and_says_what_is_lost(
    begin, redis, caplog
):
    process = await begin()
    redis.set("s:items", "no list")
    for n in range(3):
        process.item({"n": n})
    await process.close()
    assert "3 items did not reach Redis" in caplog.text
