"""Which leases a worker asks for, and what becomes of those that it has or has not."""

from __future__ import annotations

import asyncio

import pytest
from scrapy import Request

from scrapy_dist.core.slots import slot_number
from tests.support.pages import names, request
from tests.support.redis_state import (
    count_failed,
    count_items,
    count_leased,
    count_pending,
    count_suspects,
    stored_items,
)
from tests.support.worker import Worker, until


async def crawl_all(worker: Worker) -> list[str]:
    """Crawl what is left; the names of the pages in their order."""
    found: list[Request] = []
    while not worker.is_finished:
        if (page := worker.take()) is not None:
            found.append(page)
            worker.end(page, ask=False)
        await asyncio.sleep(0.002)
    return names(*found)


async def test_nothing_is_leased_before_leases_of_a_lost_reply_are_given_back(
    start, redis, log
):
    """They would be blamed for a death of this worker."""
    other = await start(CONCURRENT_REQUESTS=1)
    worker = await start(CONCURRENT_REQUESTS=3)
    await worker.has_sent("lease")
    seen, compared = len(worker.proxy.commands), worker.leases_compared()
    released = worker.sent("release")
    worker.proxy.cut_reply(request=worker.sha("lease"))
    other.starts_with(*map(request, range(12)))
    await until(lambda: worker.leases_compared() > compared, "the comparison")
    since = [words[:2] for words in worker.proxy.commands[seen:]]
    before = since[: since.index([b"ZRANGEBYSCORE", b"s:leases"])]
    assert before.count([b"EVALSHA", worker.sha("lease")]) == 1  # the lost one
    await until(lambda: worker.sent("release") > released, "the release")
    assert await worker.next()
    assert count_suspects(redis, "s") == 0
    assert "registers again" not in log.text


async def test_suspects_are_few_at_a_time_however_much_is_leased(
    start, redis, frontier
):
    dead = await start(CONCURRENT_REQUESTS=20)
    dead.starts_with(*map(request, range(20)))
    await until(lambda: count_leased(redis, "s") == 20, "leases")
    await dead.vanish()
    worker = await start(CONCURRENT_REQUESTS=250)
    frontier.is_silent(dead)
    pages = [await worker.next()]
    assert count_leased(redis, "s") == 8
    assert count_suspects(redis, "s") == 12
    pages += [await worker.next() for _ in range(7)]
    assert worker.take() is None
    for page in pages:
        worker.end(page, ask=False)
    found = names(*pages) + await crawl_all(worker)
    assert sorted(found, key=int) == [str(n) for n in range(20)]


async def test_last_chance_is_alone_in_its_worker(start, redis, frontier, clock):
    options = {"FRONTIER_MAX_DELIVERIES": 2}
    dead = await start(**options)
    dead.starts_with(request("deadly"))
    page = await dead.next()
    await dead.vanish()
    worker = await start(**options)
    frontier.is_silent(dead)
    page = await worker.next()
    assert names(page) == ["deadly"]
    worker.yields(page, *map(request, "abc"))
    await until(lambda: count_pending(redis, "s") == 3, "its links")
    await worker.beats(clock)
    assert worker.take() is None
    assert count_leased(redis, "s") == 1
    worker.end(page, ask=False)
    assert sorted(names(*await worker.all(3))) == ["a", "b", "c"]


async def test_what_kills_too_often_is_a_dead_letter(start, redis, frontier, log):
    options = {"FRONTIER_MAX_DELIVERIES": 1}
    dead = await start(**options)
    dead.starts_with(request("deadly"))
    await dead.next()
    await dead.vanish()
    worker = await start(**options)
    frontier.is_silent(dead)
    await until(lambda: worker.is_finished, "the end")
    assert count_failed(redis, "s") == 1
    assert "1 worker is dead" in log.text
    assert "0 requests are suspects now, and 1 is a dead letter" in log.text
    assert worker.take() is None


async def test_leases_are_a_fair_share(start, redis):
    one = await start(CONCURRENT_REQUESTS=8)
    other = await start(CONCURRENT_REQUESTS=8)
    await asyncio.gather(one.has_sent("heartbeat"), other.has_sent("heartbeat"))
    one.starts_with(*map(request, range(10)))
    await until(
        lambda: count_leased(redis, "s") + count_pending(redis, "s") == 10, "all"
    )
    await until(one.take, "a page for one")
    await until(other.take, "a page for the other")
    assert redis.zcount("s:leases", one.number, one.number) <= 8


async def test_no_more_is_leased_than_the_downloader_has_places(start, redis, clock):
    worker = await start(CONCURRENT_REQUESTS=4)
    worker.starts_with(*map(request, range(50)))
    await worker.next()
    await worker.beats(clock)
    assert count_leased(redis, "s") <= 8
    assert count_pending(redis, "s") >= 42


# Redis goes back


async def test_crawl_goes_on_after_redis_went_back(start, redis, frontier, log):
    worker = await start(CONCURRENT_REQUESTS=4)
    worker.starts_with(request("a"), request("b"), request("c"))
    a, b, c = await worker.all(3)
    earlier = frontier.dump()
    worker.yields(a, {"n": "a"}, request("link-of-a"))
    worker.end(a, ask=False)
    link = await worker.next()
    worker.yields(link, {"n": "link"})
    worker.end(link, ask=False)
    await until(lambda: count_items(redis, "s") == 2, "items")
    worker.yields(b, {"n": "b"})  # begun before, and ends after it

    frontier.go_back(earlier)
    worker.yields(c, request("link-of-c"))
    await until(lambda: "registers again" in log.text, "that it is noticed")
    for page in (b, c):
        worker.end(page, ask=False)
    found: list[str] = []
    while not worker.is_finished:
        if (page := worker.take()) is not None:
            found += names(page)
            name = found[-1]
            if name in "abc":
                worker.yields(page, request(f"link-of-{name}"))
            worker.yields(page, {"n": name})
            worker.end(page, ask=False)
        await asyncio.sleep(0.002)
    assert sorted(found) == ["a", "b", "c", "link-of-a", "link-of-b", "link-of-c"]
    assert sorted(item[7:-2] for item in stored_items(redis, "s")) == [
        name.encode() for name in sorted(found)
    ]
    assert count_leased(redis, "s") == 0
    assert log.text.count("registers again") == 1


async def test_crawl_goes_on_after_redis_has_lost_all(start, redis, log):
    worker = await start()
    worker.starts_with(request("a"), request("b"))
    a, b = await worker.all(2)
    redis.flushdb()
    worker.yields(a, request("link"), {"n": 1})
    worker.end(a, ask=False)
    link = await worker.next()
    assert names(link) == ["link"]
    for page in (b, link):
        worker.end(page, ask=False)
    await until(lambda: worker.is_finished, "the end")
    assert count_items(redis, "s") == 0  # nobody crawls that page again
    assert "registers again" in log.text


async def test_page_that_redis_went_back_under_sends_no_part(
    start, redis, frontier, log, clock
):
    worker = await start(FRONTIER_COMMIT_CHUNK=10)
    worker.starts_with(request("a"), request("b"))
    pages = await worker.all(2)
    earlier = frontier.dump()
    worker.end(pages[1], ask=False)
    worker.take()
    await until(lambda: count_leased(redis, "s") == 1, "an ack")
    frontier.go_back(earlier)
    await worker.beats(clock)
    await until(lambda: "registers again" in log.text, "that it is noticed")
    again = await worker.next()  # that whose ack is gone
    for _ in range(2):
        worker.yields(pages[0], *({"n": n} for n in range(25)))
        worker.yields(pages[0], request("unfiltered", dont_filter=True))
        clock.leap(3)
        await worker.beats(clock)
        assert count_items(redis, "s") == 0
    worker.end(pages[0], ask=False)
    worker.end(again, ask=False)
    page = await worker.next()
    assert names(page) == ["a"]
    worker.yields(page, *({"n": n} for n in range(25)))
    worker.end(page, ask=False)
    assert await crawl_all(worker) == []
    assert count_items(redis, "s") == 25


async def test_leases_that_were_taken_away_are_others(start, redis, frontier, clock):
    worker = await start(CONCURRENT_REQUESTS=3)
    worker.starts_with(*map(request, "abc"))
    page = await worker.next()
    await until(lambda: count_leased(redis, "s") == 3, "leases")
    assert frontier.take_away(worker) == 3
    compared = worker.leases_compared()
    await worker.beats(clock)
    worker.starts_with(request("more"))
    await until(lambda: worker.leases_compared() > compared, "the comparison")
    await worker.beats(clock)  # by then its answer has been heard
    found = await worker.next()
    assert names(found) == ["more"]
    worker.yields(page, {"n": 1})
    worker.end(page, ask=False)
    worker.end(found, ask=False)
    await until(lambda: worker.is_finished, "the end")
    assert count_items(redis, "s") == 0
    assert count_leased(redis, "s") == 0


# Requests that stay here


async def test_each_worker_has_a_login_of_its_own(start, redis):
    one, other = await start(), await start()
    for worker in (one, other):
        worker.starts_with(request("login", meta={"frontier_local": True}))
        page = await worker.next()
        assert names(page) == ["login"]
        assert worker.yields(page, request("login")) == [False]
        worker.end(page, ask=False)
    for worker in (one, other):
        await until(lambda worker=worker: worker.is_finished, "the end")
        assert worker.take() is None


async def test_nothing_of_the_others_is_taken_before_the_login_is_over(
    start, redis, clock
):
    other = await start(CONCURRENT_REQUESTS=1)
    worker = await start(CONCURRENT_REQUESTS=4)
    worker.starts_with(request("login", meta={"frontier_local": True}))
    page = await worker.next()
    other.starts_with(*map(request, range(20)))
    await other.next()
    for _ in range(2):
        await worker.beats(clock)
    assert worker.take() is None
    assert redis.zcount("s:leases", worker.number, worker.number) == 0
    worker.end(page, ask=False)
    assert await worker.next()


async def test_second_kind_of_what_cannot_be_shared_is_told_too(start, log):
    class One:
        pass

    class Two:
        pass

    worker = await start()
    worker.starts_with(request("page"))
    page = await worker.next()
    for n, value in enumerate((One(), One(), Two(), One(), Two())):
        worker.yields(page, request(n, meta={"x": value}))
    assert log.text.count("cannot be shared") == 2
    assert worker.stat("scheduler/unserializable") == 5


async def test_request_that_stays_and_comes_while_redis_says_that_nothing_is_left(
    start,
):
    worker = await start(round_trip_ms=150)
    await worker.has_sent("drained")  # the reply is on its way
    worker.starts_with(request("login", meta={"frontier_local": True}))
    while (page := worker.take()) is None:
        assert not worker.is_finished
        await asyncio.sleep(0.002)
    assert names(page) == ["login"]


@pytest.mark.parametrize("is_local", [False, True])
async def test_request_that_comes_while_redis_says_that_nothing_is_left(
    start, is_local
):
    worker = await start(round_trip_ms=150)
    await until(lambda: worker.is_finished, "the end")
    worker.starts_with(request("a"))
    page = await worker.next()
    drained = worker.sent("drained")
    worker.end(page, ask=False)
    worker.take()
    await until(lambda: worker.sent("drained") > drained, "a look")
    meta = {"frontier_local": True} if is_local else {}
    worker.starts_with(request("b", meta=meta))
    while (page := worker.take()) is None:
        assert not worker.is_finished
        await asyncio.sleep(0.002)
    assert names(page) == ["b"]


async def test_a_slot_that_waits_for_its_delay_is_asked_for_no_more(start):
    worker = await start(DOWNLOAD_DELAY=600)
    names = [f"http://a.invalid/{n}" for n in range(40)]
    worker.starts_with(*map(Request, names))
    assert (await worker.next()).url == names[0]
    slot = str(slot_number("a.invalid")).encode()
    await until(
        lambda: worker.take() is None and worker.calls("lease")[-1][-1] == slot,
        "a lease of other slots",
    )
    # Nothing of it came since, and others are found.
    worker.starts_with(Request("http://b.invalid/"))
    assert (await worker.next()).url == "http://b.invalid/"
    assert len(worker.scheduler.worker.queues) < len(names) - 1


async def test_an_idle_worker_asks_seldom_while_its_slots_wait(start):
    worker = await start(DOWNLOAD_DELAY=600)
    worker.starts_with(*[Request(f"http://a.invalid/{n}") for n in range(40)])
    await worker.next()
    pacing = worker.scheduler.worker.queues.pacing
    await until(
        lambda: worker.take() is None and pacing._vain >= 0.2, "a pause of vain asks"
    )
    count = pacing.exchanges
    await until(lambda: pacing.exchanges >= count + 3, "some exchanges")
    assert pacing._vain >= 0.2
