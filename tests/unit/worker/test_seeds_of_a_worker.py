"""Seeds in the real worker: from the list in Redis to the end of their leases."""

from __future__ import annotations

import asyncio

import pytest
from scrapy import Request

from scrapy_dist.spiders import RedisSpider
from tests.support.pages import URL, names, request
from tests.support.redis_state import (
    count_failed,
    count_items,
    count_leased,
    count_pending,
    count_seen,
    count_suspects,
)
from tests.support.worker import Worker, until

KEY = "s:start_urls"


class Seeded(RedisSpider):
    name = "s"


class Several(Seeded):
    """Makes two requests of each seed."""

    def make_request_from_data(self, data):
        url = data.decode()
        return [Request(f"{url}-{n}", dont_filter=True) for n in range(2)]


class Ends(Seeded):
    max_idle_time = 30


def push(redis, *seeds: str) -> None:
    redis.rpush(KEY, *(URL + seed for seed in seeds))


async def begin(start, spider=Seeded, **settings) -> Worker:
    worker = await start(spider, **settings)
    worker.run_start()
    return worker


async def test_seed_is_a_page_under_its_own_lease(start, redis):
    worker = await begin(start)
    push(redis, "a")
    page = await worker.next()
    assert names(page) == ["a"]
    assert redis.llen(KEY) == 0
    assert count_leased(redis, "s") == 1
    assert count_pending(redis, "s") == count_seen(redis, "s") == 0
    worker.yields(page, request("link"), {"n": 1})
    assert count_items(redis, "s") == 0
    worker.end(page, ask=False)
    link = await worker.next()
    assert names(link) == ["link"]
    assert count_items(redis, "s") == 1
    worker.end(link)
    await until(lambda: count_leased(redis, "s") == 0, "the acks")
    assert not worker.asked_to_close


async def test_equal_seeds_are_crawled_each(start, redis):
    worker = await begin(start)
    push(redis, "a", "b", "a")
    pages = await worker.all(3)
    assert sorted(names(*pages)) == ["a", "a", "b"]
    for page in pages:
        worker.end(page)
    await until(lambda: count_leased(redis, "s") == 0, "the acks")


async def test_seed_of_several_requests_ends_when_they_are_stored(start, redis):
    worker = await begin(start, Several, CONCURRENT_REQUESTS=1)
    push(redis, "a")
    page = await worker.next()
    await until(
        lambda: count_pending(redis, "s") + count_leased(redis, "s") == 2, "both"
    )
    worker.end(page)
    other = await worker.next()
    assert sorted(names(page, other)) == ["a-0", "a-1"]
    worker.end(other)
    await until(lambda: count_leased(redis, "s") == 0, "the acks")
    assert count_pending(redis, "s") == 0


async def test_bad_seed_is_a_dead_letter_and_the_others_go_on(start, redis):
    worker = await begin(start)
    redis.rpush(KEY, "no URL", f"{URL}good", '{"url": "ftp://a.invalid/"}')
    page = await worker.next()
    assert names(page) == ["good"]
    await until(lambda: count_failed(redis, "s") == 2, "dead letters")
    worker.end(page)
    await until(lambda: count_leased(redis, "s") == 0, "the acks")
    assert worker.stat("frontier/rejected") == 2


async def test_closing_worker_gives_seeds_back_that_it_has_not_begun(start, redis):
    worker = await begin(start, CONCURRENT_REQUESTS=4)
    push(redis, *"abc")
    page = await worker.next()
    await until(lambda: count_leased(redis, "s") == 3, "leases")
    worker.end(page, ask=False)
    await worker.close("shutdown")
    assert count_leased(redis, "s") == redis.hlen("s:leased") == 0
    other = await begin(start)
    found = await other.all(2)
    assert sorted(names(page, *found)) == ["a", "b", "c"]


async def test_closing_worker_gives_seeds_back_that_the_spider_has_not_asked_for(
    start, redis
):
    worker = await begin(start)
    worker.holds_start()
    push(redis, *"abc")
    page = await worker.next()
    await until(lambda: count_leased(redis, "s") == 3, "leases")
    assert worker.take() is None
    worker.end(page, ask=False)
    await worker.close("shutdown")
    assert count_leased(redis, "s") == count_suspects(redis, "s") == 0
    other = await begin(start)
    assert sorted(names(page, *await other.all(2))) == ["a", "b", "c"]


async def test_dead_worker_leaves_its_seeds_to_others(start, redis, frontier):
    dead = await begin(start)
    push(redis, "a")
    await dead.next()
    await dead.vanish()
    worker = await begin(start)
    frontier.is_silent(dead)
    page = await worker.next()
    assert names(page) == ["a"]
    worker.end(page)
    await until(lambda: count_leased(redis, "s") == 0, "the ack")


async def test_seeds_wait_while_enough_is_pending(start, redis, clock):
    worker = await start(Seeded, CONCURRENT_REQUESTS=4)
    worker.starts_with(*(request(n) for n in range(60)))
    await worker.next()
    worker.run_start()
    push(redis, *(f"seed-{n}" for n in range(10)))
    await worker.beats(clock)
    await asyncio.sleep(0)
    assert redis.llen(KEY) == 10


async def test_worker_takes_no_more_seeds_than_it_can_crawl(start, redis, clock):
    worker = await begin(start, CONCURRENT_REQUESTS=4)
    push(redis, *(str(n) for n in range(100)))
    await worker.next()
    await worker.beats(clock)
    assert count_leased(redis, "s") <= 12
    assert redis.llen(KEY) >= 88


async def test_seeds_are_not_taken_before_anybody_waits_for_them(start, redis, clock):
    worker = await start(Seeded)
    worker.start_goes_on()  # with requests of its own, for now
    push(redis, "a")
    await worker.beats(clock)
    assert redis.llen(KEY) == 1
    worker.run_start()
    assert names(await worker.next()) == ["a"]


async def test_redirect_and_retry_of_a_seed_stay_under_its_lease(start, redis):
    worker = await begin(start)
    push(redis, "a")
    page = await worker.next()
    moved = page.replace(url=f"{URL}moved", meta={"redirect_urls": [page.url]})
    worker.is_replaced(page, moved)
    worker.end(page, ask=False)
    moved = await worker.next()
    assert count_leased(redis, "s") == 1
    again = moved.replace(
        dont_filter=True, meta={"redirect_urls": [page.url], "retry_times": 1}
    )
    worker.is_replaced(moved, again)
    worker.end(moved, ask=False)
    again = await worker.next()
    assert names(again) == ["moved"]
    assert count_leased(redis, "s") == 1
    worker.fails(again)
    worker.end(again)
    [(_, letter)] = await until(lambda: redis.xrange("s:failed"), "a dead letter")
    assert f"{URL}a".encode() in letter[b"payload"]  # what was pushed
    assert count_leased(redis, "s") == 0


async def test_worker_ends_when_nobody_has_done_anything_for_its_time(
    start, redis, frontier, clock
):
    worker = await begin(start, Ends)
    push(redis, "a")
    page = await worker.next()
    clock.leap(40)
    frontier.is_idle(40)
    await worker.has_sent("heartbeat")
    assert not worker.start_is_over  # a page is at work
    worker.end(page)
    await until(lambda: count_leased(redis, "s") == 0, "the ack")
    clock.leap(20)
    frontier.is_idle(20)
    await worker.has_sent("drained")
    assert not worker.start_is_over
    clock.leap(20)
    frontier.is_idle(20)
    await until(lambda: worker.start_is_over, "the end of start()")
    await until(lambda: worker.is_finished, "the end")


async def test_seeds_make_no_worker_crawl_again_what_a_stopped_one_has_begun(
    start, redis
):
    worker = await begin(start)
    push(redis, "a")
    page = await worker.next()
    worker.yields(page, request("link"))
    worker.end(page, ask=False)
    link = await worker.next()
    worker.end(link, ask=False)
    await until(lambda: count_leased(redis, "s") == 0, "the acks")
    await worker.close("shutdown")
    assert count_seen(redis, "s") == 1  # in the middle of its life
    other = await begin(start)
    push(redis, "b")
    page = await other.next()
    other.yields(page, request("link"))
    other.end(page)
    await until(lambda: other.dropped, "the duplicate")


@pytest.mark.parametrize("spider", [Seeded, None])
async def test_seed_that_a_plain_spider_finds_is_given_back_to_those_that_read_it(
    start, redis, frontier, spider, caplog
):
    """A crawl whose spider reads seeds no more: they are dead letters, with the reason."""
    dead = await begin(start)
    push(redis, "a")
    await dead.next()
    await dead.vanish()
    worker = await start(*([] if spider is None else [spider]))
    if spider is not None:
        worker.run_start()
    frontier.is_silent(dead)
    if spider is not None:
        assert names(await worker.next()) == ["a"]
        return
    await until(lambda: worker.take() or count_failed(redis, "s"), "a dead letter")
    [(_, letter)] = redis.xrange("s:failed")
    assert b"reads none" in letter[b"reason"]
