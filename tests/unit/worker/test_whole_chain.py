"""A worker that crawls a chain of pages without waiting for Redis at each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.pages import URL, request
from tests.support.redis_state import (
    count_leased,
    count_pending,
    count_seen,
    stored_items,
)
from tests.support.worker import Worker, until

if TYPE_CHECKING:
    from scrapy import Request


def link(name: object) -> Request:
    return request(name)


async def come_to_a_chain(worker: Worker, first: str = "first") -> Request:
    """The page from which on *worker* need not ask Redis."""
    worker.starts_with(link(first))
    page = await worker.next()
    for n in range(3):
        following = link(f"{first}-{n}")
        worker.yields(page, following)
        worker.end(page, ask=False)
        page = await worker.next()
        assert page.url == following.url
    return page


def goes_on_at_once(worker: Worker, page: Request, name: str) -> bool:
    """Whether the link of *page* is handed out before Redis can have heard of it."""
    worker.yields(page, link(name))
    worker.end(page, ask=False)
    return worker.take() is not None


async def test_chain_goes_on_while_redis_does_not_answer(start, redis):
    worker = await start()
    page = await come_to_a_chain(worker)
    worker.proxy.freeze()
    for n in range(3):
        worker.yields(page, link(n), {"n": n})
        worker.end(page, ask=False)
        page = worker.take()
        assert page is not None
        assert page.url == f"{URL}{n}"
    worker.yields(page, link("0"))  # a link back
    worker.end(page, ask=False)
    assert worker.take() is None
    worker.proxy.thaw()
    await until(lambda: worker.is_finished, "the end")
    assert worker.dropped[-1].url == f"{URL}0"
    assert count_leased(redis, "s") == 0
    assert count_seen(redis, "s") >= 7
    assert [item[-2:-1] for item in stored_items(redis, "s")] == [b"0", b"1", b"2"]


async def test_chain_waits_for_redis_when_another_worker_has_come(start):
    worker = await start()
    page = await come_to_a_chain(worker)
    assert goes_on_at_once(worker, page, "a")
    [page] = worker.engine._slot.inprogress
    other = await start()
    await worker.has_sent("heartbeat")
    await until(lambda: worker.workers_seen == 2, "the other one")
    worker.proxy.freeze()
    assert not goes_on_at_once(worker, page, "b")
    worker.proxy.thaw()
    # And it does not begin anew when that one has left: what it has seen is not known.
    await other.close("shutdown")
    page = await worker.next()
    await until(lambda: worker.workers_seen == 1, "its end")
    for n in range(4):
        worker.yields(page, link(f"again-{n}"))
        worker.end(page, ask=False)
        assert worker.take() is None
        page = await worker.next()


async def test_worker_that_joins_others_asks_redis(start):
    await start()
    worker = await start()
    page = await come_to_a_chain(worker)
    assert not goes_on_at_once(worker, page, "a")


async def test_worker_of_a_crawl_that_was_begun_asks_redis(start):
    first = await start(SCHEDULER_PERSIST=True)
    first.end(await come_to_a_chain(first))
    await first.close("shutdown")
    worker = await start(SCHEDULER_PERSIST=True)
    page = await come_to_a_chain(worker, "new")
    assert not goes_on_at_once(worker, page, "first-1")
    await until(lambda: worker.is_finished, "the end")
    assert [each.url for each in worker.dropped] == [f"{URL}first-1"]


async def test_paused_worker_does_not_go_ahead(start, frontier):
    worker = await start()
    page = await come_to_a_chain(worker)
    frontier.pause()
    worker.yields(page, {"n": 1})
    await until(lambda: worker.is_paused, "the pause")
    assert not goes_on_at_once(worker, page, "a")
    await asyncio.sleep(0)
    await worker.has_sent("commit")
    assert worker.take() is None


async def test_worker_that_dies_in_a_chain_leaves_all_of_it_to_others(start, frontier):
    worker = await start()
    page = await come_to_a_chain(worker)
    worker.proxy.freeze()
    for n in range(3):
        assert goes_on_at_once(worker, page, f"ahead-{n}")
        [page] = worker.engine._slot.inprogress
    await worker.vanish()
    other = await start()
    frontier.is_silent(worker)
    page = await other.next()
    assert page.url == f"{URL}first-1"
    assert other.yields(page, link("first-2")) == [True]
    other.end(page)
    page = await other.next()
    for n in range(3):
        assert other.yields(page, link(f"ahead-{n}")) == [True]
        other.end(page)
        page = await other.next()
        assert page.url == f"{URL}ahead-{n}"
    assert other.dropped == []


async def test_closing_worker_gives_the_link_that_it_has_not_begun_to_others(
    start, redis
):
    worker = await start()
    page = await come_to_a_chain(worker)
    worker.yields(page, link("ahead"))
    worker.end(page, ask=False)
    await worker.close("shutdown")
    assert count_leased(redis, "s") == 0
    other = await start()
    assert (await other.next()).url == f"{URL}ahead"
    assert count_pending(redis, "s") == 0


@pytest.mark.parametrize("ahead", [0, 2])
async def test_failed_page_of_a_chain_is_a_dead_letter_and_the_others_count(
    start, redis, ahead
):
    worker = await start()
    page = await come_to_a_chain(worker)
    for n in range(ahead):
        assert goes_on_at_once(worker, page, str(n))
        [page] = worker.engine._slot.inprogress
    worker.fails(page)
    worker.end(page)
    await until(lambda: worker.is_finished, "the end")
    [(_, letter)] = redis.xrange("s:failed")
    assert page.url.encode() in letter[b"payload"]
    assert worker.stat("frontier/failed") == 1
    assert count_leased(redis, "s") == 0


async def test_redirect_in_a_chain_is_crawled_once(start, redis):
    worker = await start()
    page = await come_to_a_chain(worker)
    assert goes_on_at_once(worker, page, "hop")
    [page] = worker.engine._slot.inprogress
    moved = page.replace(url=f"{URL}moved", meta={"redirect_urls": [page.url]})
    assert worker.is_replaced(page, moved)
    worker.end(page, ask=False)
    moved = await worker.next()
    worker.yields(moved, link("moved"))
    worker.end(moved)
    await until(lambda: worker.is_finished, "the end")
    assert worker.dropped[-1].url == f"{URL}moved"
    assert count_leased(redis, "s") == 0


async def test_chain_goes_on_when_a_full_redis_has_memory_again(
    start, make_redis, caplog
):
    server = make_redis()
    worker = await start(redis_url=server.url)
    page = await come_to_a_chain(worker)
    with server.client() as redis:
        redis.config_set("maxmemory", 1)
        worker.yields(page, link("a"), link("b"))
        worker.end(page, ask=False)
        await until(lambda: "Redis is full" in caplog.text, "the warning")
        redis.config_set("maxmemory", 0)
    for _ in range(2):
        worker.end(await worker.next(), ask=False)
    await until(lambda: worker.is_finished, "the end")
    page = await come_to_a_chain(worker, "again")
    assert goes_on_at_once(worker, page, "c")
