"""A worker whose Redis is away for a while, or whose replies are lost."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from scrapy_dist.stats import RedisStatsCollector
from tests.support.frontiers import member
from tests.support.pages import URL, request
from tests.support.redis_state import (
    count_failed,
    count_leased,
    count_pending,
    count_suspects,
    count_workers,
    stored_items,
)
from tests.support.worker import Worker, until

if TYPE_CHECKING:
    from scrapy import Request


def redirected(page: Request, name: str) -> Request:
    """What Scrapy's RedirectMiddleware answers with."""
    return page.replace(url=URL + name, meta={"redirect_urls": [page.url]})


def lose_reply(worker: Worker, script: str):
    """Cut the connection when Redis has carried out the next call of *script*."""
    return worker.proxy.cut_reply(request=worker.sha(script))


async def lease_one(worker: Worker, name: str = "page") -> Request:
    worker.starts_with(request(name))
    return await worker.next()


async def is_away(worker: Worker, caplog) -> None:
    await until(lambda: "No exchange with Redis" in caplog.text, "a failed exchange")


@pytest.mark.parametrize("reached", [False, True])
async def test_redirect_is_crawled_once_though_redis_was_away(
    start, redis, caplog, reached
):
    worker = await start()
    page = await lease_one(worker)
    if reached:
        lose_reply(worker, "claim")
    else:
        worker.proxy.refuse()
    assert worker.is_replaced(page, redirected(page, "moved"))
    worker.end(page)
    await is_away(worker, caplog)
    worker.proxy.accept()

    moved = await worker.next()
    assert moved.url == URL + "moved"
    assert count_leased(redis, "s") == 1  # that of the page
    worker.end(moved)
    await until(lambda: count_leased(redis, "s") == 0, "the end of its lease")
    await until(lambda: worker.is_finished, "the end")
    assert worker.take() is None
    assert worker.dropped == []


@pytest.mark.parametrize("reached", [False, True])
async def test_request_of_start_that_stays_is_crawled_once_though_redis_was_away(
    start, caplog, reached
):
    worker = await start()
    await worker.has_sent("heartbeat")
    if reached:
        lose_reply(worker, "claim")
    else:
        worker.proxy.refuse()
    worker.starts_with(request("login", meta={"frontier_local": True}))
    assert not worker.is_finished
    await is_away(worker, caplog)
    assert not worker.is_finished
    worker.proxy.accept()
    page = await worker.next()
    assert page.url == URL + "login"
    worker.end(page)
    await until(lambda: worker.is_finished, "the end")
    assert worker.take() is None


async def test_redirects_of_before_and_during_an_outage_come_in_their_order(
    start, caplog
):
    worker = await start()
    worker.starts_with(request("1"), request("2"))
    pages = await worker.all(2)
    worker.proxy.refuse()
    for page, name in zip(pages, ("a", "b"), strict=True):
        worker.is_replaced(page, redirected(page, name))
        worker.end(page)
        await is_away(worker, caplog)
    worker.proxy.accept()
    assert [page.url for page in await worker.all(2)] == [URL + "a", URL + "b"]


@pytest.mark.parametrize("reached", [False, True])
async def test_what_a_page_yields_while_redis_is_away_is_stored_once(
    start, redis, caplog, reached
):
    worker = await start()
    page = await lease_one(worker)
    if reached:
        lose_reply(worker, "commit")
    else:
        worker.proxy.refuse()
    worker.yields(page, request("1"), {"n": 1}, request("2"))
    worker.end(page)
    await is_away(worker, caplog)
    worker.proxy.accept()
    found = await worker.all(2)
    assert {each.url for each in found} == {URL + "1", URL + "2"}
    assert stored_items(redis, "s") == [b'{"n": 1}']
    for each in found:
        worker.end(each)
    await until(lambda: worker.is_finished, "the end")
    assert count_pending(redis, "s") == 0


async def test_stats_are_added_once_whatever_became_of_an_exchange(
    start, redis, caplog, clock
):
    worker = await start(SCHEDULER_PERSIST=True)
    page = await lease_one(worker)
    for n, total in enumerate((3, 6)):
        caplog.clear()
        worker.proxy.refuse()
        worker.stats.inc_value("pages", 3)
        clock.leap(2)
        worker.yields(page, request(f"{n}"))
        await is_away(worker, caplog)
        clock.leap(2)
        worker.proxy.accept()
        for again in "ab":
            await worker.next()
            clock.leap(2)
            worker.yields(page, request(f"{n}-{again}"))
        await worker.next()
        assert int(redis.hget("s:stats", "pages")) == total
    worker.stats.inc_value("pages", 4)
    await worker.close("shutdown")
    assert int(redis.hget("s:stats", "pages")) == 10


@pytest.mark.parametrize("reached", [False, True])
async def test_closing_worker_gives_all_back_though_an_exchange_was_lost(
    start, redis, caplog, reached
):
    worker = await start(CONCURRENT_REQUESTS=8)
    worker.starts_with(*(request(str(n)) for n in range(6)))
    page = await worker.next()
    await until(lambda: count_leased(redis, "s") == 6, "leases")
    if reached:
        lose_reply(worker, "release")
    else:
        worker.proxy.refuse()
        asyncio.get_running_loop().call_later(0.3, worker.proxy.accept)
    worker.end(page, ask=False)
    await worker.close("shutdown")
    assert count_leased(redis, "s") == redis.hlen("s:leased") == 0
    assert count_pending(redis, "s") == 5
    assert count_suspects(redis, "s") == 0
    assert count_workers(redis, "s") == 0


async def test_bad_request_is_a_dead_letter_once_though_an_exchange_was_lost(
    start, redis, caplog
):
    worker = await start()
    await worker.has_sent("heartbeat")
    worker.proxy.refuse()
    redis.zadd("s:requests", {member(b"rubbish", 1): 0})
    worker.proxy.accept()
    lose_reply(worker, "reject")
    worker.starts_with(request("1"))
    worker.end(await worker.next())
    await until(
        lambda: worker.take() is None and count_failed(redis, "s"), "a dead letter"
    )
    await is_away(worker, caplog)
    await until(lambda: worker.is_finished, "the end")
    assert count_failed(redis, "s") == 1
    assert count_leased(redis, "s") == 0


async def test_redis_that_is_away_is_asked_ever_more_rarely_and_a_healthy_one_as_before(
    start, caplog
):
    worker = await start()
    page = await lease_one(worker)
    for outage in range(2):
        caplog.clear()
        worker.proxy.answer("LOADING Redis is loading the dataset in memory")
        before, asked = len(worker.proxy.commands), 0
        for n in range(200):
            worker.yields(page, request(f"{outage}-{n}"))
            asked += 1
            await asyncio.sleep(0.005)
        await is_away(worker, caplog)
        tries = len(worker.proxy.commands) - before
        assert 2 <= tries < asked / 2
        assert caplog.text.count("No exchange with Redis") == 1
        worker.proxy.answer("")
        # It leases again, and each result is sent soon.
        await worker.all(2)
        for n in range(10):
            worker.yields(page, request(f"{outage}-again-{n}"))
            await worker.has_sent("commit")


async def test_patience_counts_from_the_last_answer(start, caplog, clock):
    worker = await start(FRONTIER_REDIS_PATIENCE=30)
    page = await lease_one(worker)
    for n in range(3):
        clock.leap(25)
        worker.yields(page, request(str(n)))
        await worker.has_sent("commit")
        await worker.next()
    clock.leap(25)
    await worker.has_sent("heartbeat")
    caplog.clear()
    worker.proxy.refuse()
    worker.yields(page, request("more"))
    await is_away(worker, caplog)
    worker.proxy.accept()
    await worker.next()
    assert worker.asked_to_close == []

    caplog.clear()
    worker.proxy.refuse()
    worker.yields(page, request("even more"))
    await is_away(worker, caplog)
    assert worker.asked_to_close == []
    for _ in range(3):
        clock.leap(31)
        await until(lambda: worker.asked_to_close, "the end of its patience")
    assert worker.asked_to_close == ["redis_unavailable"]
    assert caplog.text.count("FRONTIER_REDIS_PATIENCE") == 1


async def test_worker_without_patience_tries_for_ever(start, caplog, clock):
    worker = await start()
    page = await lease_one(worker)
    worker.proxy.refuse()
    worker.yields(page, request("1"))
    await is_away(worker, caplog)
    for _ in range(5):
        clock.leap(1e6)
        await asyncio.sleep(0.01)
    assert worker.asked_to_close == []
    worker.proxy.accept()
    assert (await worker.next()).url == URL + "1"
    assert "Redis is back" in caplog.text


class Broken(RedisStatsCollector):
    """Whose changes cannot be told."""

    #: What becomes of the next calls; True: it works.
    plan: list[object] = []

    def take_changes(self):
        found = self.plan.pop(0) if self.plan else True
        if found is not True:
            raise found("on purpose")
        return super().take_changes()


async def test_defect_that_stays_the_same_closes_the_worker(
    start, redis, caplog, monkeypatch, clock
):
    monkeypatch.setattr(Broken, "plan", [])
    worker = await start(STATS_CLASS=Broken)
    page = await lease_one(worker)
    Broken.plan += [KeyError] * 8
    caplog.set_level(logging.ERROR, "scrapy_dist")
    caplog.clear()
    while not worker.asked_to_close:
        clock.leap(5)
        worker.yields(page, {"n": 1})
        await asyncio.sleep(0.01)
    assert Broken.plan == []
    assert worker.asked_to_close == ["frontier_defect"]
    assert [r.exc_info is not None for r in caplog.records] == [True, False]
    assert "KeyError" in caplog.messages[-1]
    worker.end(page)
    await worker.close("frontier_defect")
    assert count_leased(redis, "s") == 0


async def test_defect_with_success_or_another_one_between_goes_on(
    start, monkeypatch, clock
):
    monkeypatch.setattr(Broken, "plan", [])
    worker = await start(STATS_CLASS=Broken)
    page = await lease_one(worker)
    same = [KeyError] * 7
    Broken.plan += [*same, ValueError, *same, True, *same]
    while Broken.plan:
        clock.leap(5)
        worker.yields(page, {"n": 1})
        await asyncio.sleep(0.01)
    worker.yields(page, request("1"))
    clock.leap(5)
    assert (await worker.next()).url == URL + "1"
    assert worker.asked_to_close == []
