"""A worker whose Redis refuses what it has produced, or has no memory for it."""

from __future__ import annotations

import pytest
from scrapy import Request

from tests.support.pages import requests
from tests.support.redis_state import (
    count_items,
    count_leased,
    count_pending,
    stored_items,
)
from tests.support.worker import until

WAITS = "Redis refuses what this worker produced"
TAKES = "Redis takes results again"
FULL = "Redis is full"
HAS_MEMORY = "Redis has memory again"


async def settle(worker, exchanges: int = 3) -> None:
    """Let some exchanges go by, whatever becomes of them."""
    for _ in range(exchanges):
        await worker.has_sent("heartbeat")


async def test_worker_takes_no_leases_while_redis_refuses_results_and_again_after_that(
    start, redis, log
):
    worker = await start(CONCURRENT_REQUESTS=4)
    other = await start(CONCURRENT_REQUESTS=1)
    worker.starts_with(*requests("page"))
    page = await worker.next()
    redis.set("s:items", "no list")
    worker.yields(page, {"n": 1}, *requests(*range(250)))
    worker.end(page)
    other.starts_with(*requests(*(f"other-{n}" for n in range(40))))
    await other.has_sent("commit")
    await until(lambda: WAITS in log.text, "the refusal")
    before = worker.sent("lease")
    await settle(worker)
    assert worker.sent("lease") == before
    assert worker.take() is None
    assert log.text.count(WAITS) == 1
    assert not worker.is_finished

    redis.delete("s:items")
    pages = await worker.all(4)
    await until(lambda: count_items(redis, "s") == 1, "the item")
    assert log.text.count(TAKES) == 1
    for page in pages:
        worker.end(page)
    for _ in range(20):  # and it goes on
        worker.end(await worker.next())
    assert "registers again" not in log.text


async def test_another_refusal_is_told_too(start, redis, log):
    worker = await start()
    worker.starts_with(*requests("page"))
    page = await worker.next()
    redis.set("s:items", "no list")
    worker.yields(page, {"n": 1})
    worker.end(page)
    await until(lambda: log.text.count(WAITS) == 1, "the refusal")
    redis.delete("s:items")
    await until(lambda: TAKES in log.text, "the end of it")
    await until(lambda: count_leased(redis, "s") == 0, "the ack")
    redis.set("s:items", "no list")
    worker.starts_with(*requests("second"))
    page = await worker.next()
    worker.yields(page, {"n": 2})
    worker.end(page)
    await until(lambda: log.text.count(WAITS) == 2, "the second refusal")


async def test_closing_worker_keeps_the_leases_of_what_redis_refuses(start, redis, log):
    worker = await start(FRONTIER_CLOSE_TIMEOUT=0.2)
    worker.starts_with(*requests("page"))
    page = await worker.next()
    redis.set("s:items", "no list")
    worker.yields(page, {"n": 1})
    worker.end(page)
    await worker.close()
    assert "Redis does not take the last results" in log.text
    assert count_leased(redis, "s") == 1  # to be crawled again
    assert redis.exists("s:dupefilter")


@pytest.fixture
def full_redis(make_redis):
    """A Redis of this test's own, and what lets it be full, or not."""
    server = make_redis()
    with server.client() as client:
        yield server.url, client


async def test_full_redis_hands_out_and_takes_acks_and_keeps_order(
    start, full_redis, log
):
    url, redis = full_redis
    worker = await start(redis_url=url, CONCURRENT_REQUESTS=4)
    worker.starts_with(*requests(*"1234"))
    first, *others = await worker.all(4)
    redis.config_set("maxmemory", 1)
    # Three commits: those behind the first one find it missing.
    worker.yields(first, *requests(*(f"new-{n}" for n in range(250))))
    worker.yields(first, {"n": 1})
    worker.end(first)
    await until(lambda: FULL in log.text, "the warning")
    for page in others:
        worker.end(page)  # they lead to nothing new
    await until(lambda: count_leased(redis, "s") == 1, "acks")
    assert count_pending(redis, "s") == 0
    await settle(worker)
    assert log.text.count(FULL) == 1
    assert "registers again" not in log.text
    assert not worker.is_finished

    redis.config_set("maxmemory", 0)
    await until(lambda: HAS_MEMORY in log.text, "memory")
    assert count_pending(redis, "s") + count_leased(redis, "s") == 250
    assert stored_items(redis, "s") == [b'{"n": 1}']
    assert log.text.count(HAS_MEMORY) == 1
    assert "registers again" not in log.text
    for _ in range(250):
        worker.end(await worker.next(), ask=False)
    await until(lambda: worker.is_finished, "the end")
    assert count_leased(redis, "s") == 0


async def test_second_shortage_of_memory_is_told_too(start, full_redis, log):
    url, redis = full_redis
    worker = await start(redis_url=url)
    worker.starts_with(*requests("page"))
    page = await worker.next()
    for n in (1, 2):
        redis.config_set("maxmemory", 1)
        worker.yields(page, {"n": n})
        worker.end(page)
        await until(lambda n=n: log.text.count(FULL) == n, "the warning")
        redis.config_set("maxmemory", 0)
        await until(lambda n=n: log.text.count(HAS_MEMORY) == n, "memory")
        worker.starts_with(*requests(f"page-{n}"))
        page = await worker.next()


async def test_worker_with_a_full_outbox_takes_no_more(start, redis, log):
    worker = await start(FRONTIER_OUTBOX_LIMIT=5, CONCURRENT_REQUESTS=2)
    worker.starts_with(*requests("page"))
    page = await worker.next()
    worker.starts_with(*requests("another", "third"))
    await until(lambda: count_leased(redis, "s") >= 2, "leases")
    redis.set("s:items", "no list")
    worker.yields(page, *({"n": n} for n in range(4)))
    worker.end(page, ask=False)
    await until(lambda: WAITS in log.text, "the refusal")
    worker.starts_with(*requests("fourth"))
    assert worker.take() is None
    redis.delete("s:items")
    assert await worker.next()


async def test_worker_leases_nothing_while_what_it_has_for_a_full_redis_is_too_much(
    start, full_redis, log, clock
):
    url, redis = full_redis
    worker = await start(redis_url=url, CONCURRENT_REQUESTS=4, FRONTIER_OUTBOX_LIMIT=20)
    worker.starts_with(*requests(*range(8)))
    page, *others = await worker.all(8)
    worker.proxy.freeze()
    worker.yields(page, *requests(*(f"new-{n}" for n in range(30))))
    for each in (page, *others):
        worker.end(each, ask=False)
    other = await start(redis_url=url, CONCURRENT_REQUESTS=1)
    other.starts_with(*requests(*(f"other-{n}" for n in range(20))))
    await until(lambda: count_pending(redis, "s") > 10, "more to crawl")
    redis.config_set("maxmemory", 1)
    worker.proxy.thaw()
    await until(lambda: FULL in log.text, "the warning")
    before = worker.sent("lease")
    for _ in range(3):
        await worker.beats(clock)
    assert worker.sent("lease") == before
    assert worker.take() is None
    redis.config_set("maxmemory", 0)
    for _ in range(37):
        worker.end(await worker.next(), ask=False)


async def test_seats_that_came_with_a_refusal_are_given_back(start, redis, log):
    """Nobody else could ask their hosts."""
    worker = await start(FRONTIER_POLITENESS=True, CONCURRENT_REQUESTS=4)
    worker.starts_with(*(Request(f"http://host{n}/") for n in range(40)))
    pages = [await worker.next() for _ in range(4)]
    redis.set("s:items", "no list")
    for page in pages:
        worker.yields(page, {"n": 1})
        worker.end(page)
    await until(lambda: WAITS in log.text, "the refusal")
    redis.delete("s:items")
    for _ in range(36):
        worker.end(await worker.next())
