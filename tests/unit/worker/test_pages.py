"""What becomes of a page, of all that it yields, and of what stays in its worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.frontiers import member
from tests.support.pages import URL, request
from tests.support.redis_state import (
    count_failed,
    count_items,
    count_leased,
    count_pending,
    stored_items,
)
from tests.support.worker import Frontier, Worker, until

if TYPE_CHECKING:
    from scrapy import Request


def unfiltered(name: object, **options) -> Request:
    return request(name, dont_filter=True, **options)


def local(name: object, **options) -> Request:
    return request(name, meta={"frontier_local": True}, **options)


async def lease(worker: Worker, *names: object) -> list[Request]:
    worker.starts_with(*map(request, names))
    return await worker.all(len(names))


# What waits for the ack


async def test_items_are_stored_with_the_ack_of_their_page(start, redis, clock):
    worker = await start()
    [page] = await lease(worker, "page")
    worker.yields(page, {"n": 1}, request("known"), unfiltered("late"), {"n": 2})
    await until(lambda: count_leased(redis, "s") == 2, "the link that a filter knows")
    assert count_items(redis, "s") == 0
    # An unfiltered request waits a moment only: this page may wait for it.
    assert count_pending(redis, "s") == 0
    clock.leap(3)
    await until(lambda: count_leased(redis, "s") == 3, "the other request")
    assert count_items(redis, "s") == 0
    commits = worker.sent("commit")
    for _ in range(2):
        await worker.beats(clock)
    assert worker.sent("commit") == commits  # there is no more to tell
    worker.end(page)
    await until(lambda: count_items(redis, "s") == 2, "the items")
    assert stored_items(redis, "s") == [b'{"n": 1}', b'{"n": 2}']
    pages = await worker.all(2)
    assert {each.url for each in pages} == {f"{URL}known", f"{URL}late"}


async def test_each_request_that_waits_goes_ahead_in_its_time(start, redis, clock):
    worker = await start()
    one, other = await lease(worker, "one", "other")
    for n in range(3):
        worker.yields(one, unfiltered(f"one-{n}"))
        worker.yields(other, unfiltered(f"other-{n}"))
        clock.leap(3)
        worker.yields(one, request(f"link-{n}"))
        await until(
            lambda n=n: count_leased(redis, "s") == 2 + 3 * (n + 1), "all of them"
        )


async def test_page_that_produces_very_much_is_stored_in_parts(start, redis):
    worker = await start(FRONTIER_COMMIT_CHUNK=10)
    [page] = await lease(worker, "page")
    worker.yields(page, *({"n": n} for n in range(9)))
    await worker.has_sent("heartbeat")
    assert count_items(redis, "s") == 0
    worker.yields(page, *({"n": n} for n in range(9, 25)))
    await until(lambda: count_items(redis, "s") == 20, "two parts")
    assert count_leased(redis, "s") == 1
    worker.end(page)
    await until(lambda: count_leased(redis, "s") == 0, "the ack")
    found = stored_items(redis, "s")
    assert found == [b'{"n": %d}' % n for n in range(25)]


async def test_page_of_large_items_is_stored_in_parts(start, redis):
    worker = await start()
    [page] = await lease(worker, "page")
    for n in range(5):
        worker.yields(page, {"n": n, "text": "x" * (1 << 20)})
    await until(lambda: count_items(redis, "s") == 4, "a part")
    worker.end(page)
    await until(lambda: count_leased(redis, "s") == 0, "the ack")
    assert count_items(redis, "s") == 5


async def test_dead_worker_leaves_no_item_and_its_page_to_others(
    start, redis, frontier
):
    worker = await start()
    [page] = await lease(worker, "page")
    worker.yields(page, {"n": 1}, request("link"))
    await worker.has_sent("commit")
    await worker.vanish()
    other = await start()
    frontier.is_silent(worker)
    pages = await other.all(2)
    assert {each.url for each in pages} == {f"{URL}page", f"{URL}link"}
    [again] = [each for each in pages if each.url == page.url]
    other.yields(again, {"n": 1}, request("link"))
    for each in pages:
        other.end(each)
    await until(lambda: other.is_finished, "the end")
    assert stored_items(redis, "s") == [b'{"n": 1}']
    assert len(other.dropped) == 1


@pytest.mark.parametrize("addon", [True, False])
async def test_full_redis_takes_the_ack_of_no_page_whose_outputs_it_has_not(
    start, make_redis, caplog, addon
):
    server = make_redis()
    worker = await start(redis_url=server.url, addon=addon)
    with server.client() as redis:
        first, second, third = await lease(worker, *"123")
        worker.yields(first, request("link"))
        worker.yields(second, {"n": 1})
        redis.config_set("maxmemory", 1)
        worker.yields(first, request("link of a full Redis"))
        await until(lambda: "Redis is full" in caplog.text, "the warning")
        worker.yields(second, {"n": 2}, {"n": 3})
        for page in (first, second):
            worker.end(page, ask=False)
        await worker.has_sent("commit", 2)
        assert count_leased(redis, "s") >= 3
        worker.end(third, ask=False)
        if addon:
            await until(lambda: count_leased(redis, "s") <= 3, "the ack of the third")
        redis.config_set("maxmemory", 0)
        pages = await worker.all(2)
        for page in pages:
            worker.end(page)
        await until(lambda: worker.is_finished, "the end")
        assert stored_items(redis, "s") == [b'{"n": %d}' % n for n in (1, 2, 3)]


async def test_page_is_crawled_again_if_its_worker_dies_before_a_full_redis_has_its_outputs(
    start, make_redis, caplog
):
    server = make_redis()
    worker = await start(redis_url=server.url)
    with server.client() as redis:
        [page] = await lease(worker, "page")
        redis.config_set("maxmemory", 1)
        worker.yields(page, request("link"))
        worker.end(page, ask=False)
        await until(lambda: "Redis is full" in caplog.text, "the warning")
        await worker.has_sent("commit", 2)
        await worker.vanish()
        redis.config_set("maxmemory", 0)
        Frontier(redis).is_silent(worker)
        other = await start(redis_url=server.url)
        assert (await other.next()).url == page.url


# What stays in its worker


async def test_page_with_a_request_that_stays_ends_after_it(start, redis):
    worker = await start()
    [page] = await lease(worker, "page")
    worker.yields(page, local("stays"))
    worker.end(page, ask=False)
    stays = await worker.next()
    assert stays.url == f"{URL}stays"
    worker.yields(stays, {"n": 1})
    assert count_leased(redis, "s") == 1
    worker.end(stays)
    await until(lambda: count_leased(redis, "s") == 0, "the end")
    assert count_items(redis, "s") == 1


async def test_request_that_stays_for_two_pages_is_crawled_though_one_is_taken_away(
    start, redis, monkeypatch
):
    """Without the add-on nobody knows which of them has yielded it."""
    worker = await start(addon=False)
    one, other = await lease(worker, "one", "other")
    worker.arrives(one)
    worker.yields(other, local("stays", dont_filter=True))
    worker.end(one, ask=False)
    worker.end(other, ask=False)
    [taken, *_] = redis.zrange("s:leases", 0, -1)
    redis.zrem("s:leases", taken)  # as a worker that thinks that this one is dead
    redis.hdel("s:leased", taken)
    compared = worker.leases_compared()
    worker.starts_with(request("more"))
    await until(lambda: worker.leases_compared() > compared, "the comparison")
    found = {page.url for page in await worker.all(2)}
    assert found == {f"{URL}stays", f"{URL}more"}


async def test_requests_that_stay_go_out_by_priority_beside_those_of_redis(start):
    worker = await start()
    [page] = await lease(worker, "page")
    options = {"dont_filter": True}
    worker.yields(
        page,
        local("low", priority=-1, **options),
        request("shared", priority=5),
        local("first", priority=7, **options),
        local("second", priority=7, **options),
        local("equal", priority=5, **options),
    )
    await until(lambda: len(worker.scheduler) == 5, "all of them")
    found = [each.url.removeprefix(URL) for each in await worker.all(5)]
    assert found == ["first", "second", "equal", "shared", "low"]


async def test_same_redirect_of_two_pages_is_crawled_once(start, redis):
    worker = await start()
    pages = await lease(worker, "one", "other")
    for page in pages:
        moved = page.replace(url=f"{URL}moved", meta={"redirect_urls": [page.url]})
        assert worker.is_replaced(page, moved)
        worker.end(page, ask=False)
    worker.end(await worker.next())
    await until(lambda: worker.is_finished, "the end")
    assert [each.url for each in worker.dropped] == [f"{URL}moved"]
    assert count_leased(redis, "s") == 0


async def test_redirect_to_what_is_seen_ends_its_page(start, redis):
    worker = await start()
    one, other = await lease(worker, "one", "other")
    moved = one.replace(url=other.url, meta={"redirect_urls": [one.url]})
    worker.is_replaced(one, moved)
    worker.end(one, ask=False)
    await until(lambda: count_leased(redis, "s") == 1, "its end")
    assert [each.url for each in worker.dropped] == [other.url]
    assert worker.take() is None


async def test_retry_is_a_page_under_a_lease_of_its_own(start, redis):
    worker = await start()
    [page] = await lease(worker, "page")
    again = page.replace(dont_filter=True, meta={"retry_times": 1})
    assert worker.is_replaced(page, again)
    worker.end(page, ask=False)
    again = await worker.next()
    assert again.url == page.url
    assert again.meta["retry_times"] == 1
    worker.end(again)
    await until(lambda: worker.is_finished, "the end")
    assert count_leased(redis, "s") == 0
    await worker.close("shutdown")


async def test_what_cannot_be_stored_stays_and_is_told_once(start, redis, caplog):
    worker = await start()
    [page] = await lease(worker, "page")
    unshared = [request(n, cb_kwargs={"f": open}) for n in range(3)]
    worker.yields(page, *unshared)
    worker.end(page, ask=False)
    found = await worker.all(3)
    assert {each.url for each in found} == {f"{URL}{n}" for n in range(3)}
    assert all(each.cb_kwargs["f"] is open for each in found)
    assert worker.stat("scheduler/unserializable") == 3
    assert caplog.text.count("cannot be shared") == 1
    assert count_leased(redis, "s") == 1
    for each in found:
        worker.end(each)
    await until(lambda: worker.is_finished, "the end")
    assert count_leased(redis, "s") == 0


# What fails


async def test_failed_page_is_a_dead_letter_with_its_reason(start, redis):
    worker = await start()
    one, other = await lease(worker, "one", "other")
    worker.fails(one, "no route to host")
    worker.end(one)
    worker.end(other)
    await until(lambda: worker.is_finished, "the end")
    [(_, letter)] = redis.xrange("s:failed")
    assert b"no route to host" in letter[b"reason"]
    assert one.url.encode() in letter[b"payload"]
    assert worker.stat("frontier/failed") == 1


async def test_rubbish_is_set_aside_and_told_in_few_lines(start, redis, caplog):
    worker = await start()
    await worker.has_sent("heartbeat")
    rubbish = {member(b"rubbish %d" % n, n): 0 for n in range(5)}
    redis.zadd("s:requests", rubbish)
    [page] = await lease(worker, "page")
    worker.end(page)
    await until(
        lambda: worker.take() is None and count_failed(redis, "s") == 5, "dead letters"
    )
    await until(lambda: worker.is_finished, "the end")
    await worker.close("shutdown")
    assert worker.stat("frontier/rejected") == 5
    told = [line for line in caplog.messages if line.startswith("Set ")]
    assert len(told) == 2
    assert "4 more" in told[1]


async def test_worker_that_can_read_nothing_gives_all_back_and_closes(
    start, redis, caplog
):
    worker = await start()
    await worker.has_sent("heartbeat")
    rubbish = {member(b"rubbish %d" % n, n, n): 0 for n in range(30)}
    redis.zadd("s:requests", rubbish)
    await until(lambda: worker.take() or worker.asked_to_close, "its end")
    assert worker.asked_to_close == ["unreadable"]
    await worker.close("unreadable")
    assert redis.zrange("s:requests", 0, -1) == list(rubbish)
    assert count_failed(redis, "s") == count_leased(redis, "s") == 0


# Duplicates


async def test_duplicates_are_dropped_at_once_or_when_redis_says_so(start):
    one = await start()
    [page] = await lease(one, "page")
    assert one.yields(page, request("a"), request("a")) == [True, False]
    assert (await one.next()).url == f"{URL}a"
    other = await start()
    [mine] = await lease(other, "mine")
    assert other.yields(mine, request("a"), request("b")) == [True, True]
    assert (await other.next()).url == f"{URL}b"
    assert [each.url for each in other.dropped] == [f"{URL}a"]
    assert [each.url for each in one.dropped] == [f"{URL}a"]


async def test_equal_start_requests_of_two_workers_are_crawled_once(start):
    one, other = await start(), await start()
    names = ["a", "b", "a"]
    for worker in (one, other):
        worker.starts_with(*(unfiltered(name) for name in names))
        await worker.has_sent("commit")
    found = []
    while not (one.is_finished and other.is_finished):
        for worker in (one, other):
            if (page := worker.take()) is not None:
                found.append(page.url.removeprefix(URL))
                worker.end(page, ask=False)
        await asyncio.sleep(0.01)
    assert sorted(found) == sorted(names)


async def test_link_with_the_meta_of_a_start_request_is_a_link(start):
    """Each start request is crawled once for all workers; a link without filter is not."""
    one, other = await start(), await start()
    for worker, name in ((one, "page"), (other, "mine")):
        worker.starts_with(request(name))
        page = await until(lambda: one.take() or other.take(), "a page")
        worker.yields(page, unfiltered("link", meta=dict(page.meta)))
        for each in (one, other):
            each.end(page, ask=False)
        page = await until(lambda: one.take() or other.take(), "its link")
        assert page.url == f"{URL}link"
        for each in (one, other):
            each.end(page, ask=False)
