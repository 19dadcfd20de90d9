"""When a worker is at its end, why it closes, and what it leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.pages import URL, request
from tests.support.redis_state import (
    count_items,
    count_leased,
    count_pending,
    count_seen,
    count_suspects,
    count_workers,
)
from tests.support.worker import Clock, Worker, until

if TYPE_CHECKING:
    from scrapy import Request


async def crawl_one(worker: Worker, name: str = "page") -> None:
    worker.starts_with(request(name))
    worker.end(await worker.next())


async def looks(worker: Worker, clock: Clock) -> None:
    """The worker looks whether anything is left."""
    await worker.beats(clock, "drained")


async def is_finished(worker: Worker) -> None:
    await until(lambda: worker.is_finished, "the end")


# When


async def test_worker_waits_for_the_page_of_another_one(start, clock):
    one, other = await start(), await start()
    one.starts_with(request("page"))
    page = await one.next()
    for _ in range(3):
        await looks(other, clock)
    assert not other.is_finished
    one.yields(page, request("link"))
    one.end(page, ask=False)
    found: list[Request] = []

    def take() -> bool:
        for worker in (one, other):
            if (link := worker.take()) is not None:
                found.append(link)
                worker.end(link, ask=False)
        return one.is_finished and other.is_finished

    await until(take, "the end of both")
    assert [link.url for link in found] == [f"{URL}link"]


async def test_worker_waits_for_a_request_that_stays_in_another_one(start, clock):
    one, other = await start(), await start()
    one.starts_with(request("login", meta={"frontier_local": True}))
    page = await one.next()
    await one.has_sent("heartbeat")
    for _ in range(3):
        await looks(other, clock)
    assert not other.is_finished
    one.yields(page, request("link"))
    one.end(page, ask=False)
    link = await until(lambda: one.take() or other.take(), "its link")
    assert link.url == f"{URL}link"
    for worker in (one, other):
        worker.end(link)
    await is_finished(one)
    await is_finished(other)


async def test_something_new_is_no_end(start):
    worker = await start()
    await crawl_one(worker)
    await is_finished(worker)
    worker.starts_with(request("more"))
    assert not worker.is_finished
    worker.end(await worker.next())
    await is_finished(worker)


async def test_idle_worker_waits_from_its_own_start(start, frontier, clock):
    options = {"SCHEDULER_IDLE_BEFORE_CLOSE": 30}
    first = await start(**options)
    frontier.is_idle(1000)
    await is_finished_soon_after_looking(first, clock, 31)
    worker = await start(**options)
    frontier.is_idle(1000)
    await is_finished_soon_after_looking(worker, clock, 31)


async def is_finished_soon_after_looking(
    worker: Worker, clock: Clock, seconds: float
) -> None:
    await worker.has_sent("drained")
    assert not worker.is_finished
    clock.leap(seconds)
    await is_finished(worker)


async def test_idle_worker_waits_from_what_others_have_done_last(
    start, frontier, clock
):
    worker = await start(SCHEDULER_IDLE_BEFORE_CLOSE=30)
    await crawl_one(worker)
    for _ in range(2):
        clock.leap(31)  # for the frontier it is no time
        await worker.has_sent("drained")
        assert not worker.is_finished
    frontier.is_idle(31)
    clock.leap(31)
    await is_finished(worker)


async def test_paused_worker_takes_no_more_and_goes_on_when_resumed(
    start, frontier, log
):
    worker = await start()
    worker.starts_with(request("page"))
    page = await worker.next()
    frontier.pause()
    worker.yields(page, request("link"))
    await until(lambda: worker.is_paused, "the pause")
    worker.yields(page, request("later"))
    await worker.has_sent("commit")
    await worker.has_sent("heartbeat")
    frontier.pause(on=False)
    found = {(await worker.next()).url for _ in range(2)}
    assert found == {f"{URL}link", f"{URL}later"}
    assert log.text.count("Paused") == log.text.count("Resumed") == 1
    assert not worker.is_paused


async def test_worker_that_is_asked_to_stop_closes_once(start, frontier, log, clock):
    worker, other = await start(), await start()
    frontier.stop(worker)
    await looks(other, clock)
    await until(lambda: worker.asked_to_close, "its end")
    for _ in range(2):
        await looks(worker, clock)
    assert worker.asked_to_close == ["stopped"]
    assert other.asked_to_close == []
    assert log.text.count("Asked to stop") == 1


async def test_worker_that_was_cut_off_while_the_others_finished_closes(
    start, redis, frontier, log, clock
):
    worker = await start()
    worker.starts_with(request("page"))
    page = await worker.next()
    worker.proxy.refuse()
    worker.yields(page, request("link"))
    await until(lambda: "No exchange" in log.text, "the cut")
    # The others take it for dead, and crawl its page.
    other = await start()
    frontier.is_silent(worker)
    again = await other.next()
    assert again.url == page.url
    other.end(again)
    await is_finished(other)
    await other.close()
    clock.leap(30)  # its stats are due
    worker.proxy.accept()
    await until(lambda: worker.asked_to_close, "its end")
    assert worker.asked_to_close == ["finished"]
    worker.end(page)
    assert worker.take() is None
    await worker.close()
    assert redis.keys() == [b"s:history"]
    assert "1 result of it is not stored" in log.text


# What is left


async def test_finished_crawl_leaves_a_record_only(start, redis):
    worker = await start()
    await crawl_one(worker)
    await is_finished(worker)
    await worker.close()
    assert redis.keys() == [b"s:history"]


async def test_finished_crawl_is_kept_if_it_is_to_persist(start, redis):
    worker = await start(SCHEDULER_PERSIST=True)
    await crawl_one(worker)
    await is_finished(worker)
    await worker.close()
    assert count_seen(redis, "s") == 1
    assert count_workers(redis, "s") == 0


@pytest.mark.parametrize("reason", ["shutdown", "cancelled", "finished"])
async def test_worker_that_is_closed_before_its_start_has_ended_keeps_the_crawl(
    start, redis, log, reason
):
    worker = await start()
    worker.start_goes_on()
    await crawl_one(worker)
    await until(lambda: count_leased(redis, "s") == 0, "the ack")
    await worker.close(reason)
    if reason == "finished":  # Scrapy says so only where nothing more comes
        assert redis.keys() == [b"s:history"]
        return
    assert count_seen(redis, "s") == 1
    assert "1 fingerprint of this crawl is kept" in log.text
    assert "scrapy frontier clear s" in log.text


@pytest.mark.parametrize("reason", ["shutdown", "cancelled"])
async def test_worker_that_is_closed_with_nothing_left_finishes_the_crawl(
    start, redis, reason
):
    worker = await start()
    await crawl_one(worker)
    await worker.close(reason)
    assert redis.keys() == [b"s:history"]


async def test_closing_worker_keeps_a_crawl_whose_own_request_it_has_not_begun(
    start, redis
):
    worker = await start()
    worker.starts_with(request("login", meta={"frontier_local": True}))
    await worker.has_sent("claim")
    await until(lambda: len(worker.scheduler) == 1, "the claim")
    await worker.close("shutdown")
    assert redis.exists("s:state")


async def test_closing_worker_leaves_pending_requests_to_others(start, redis):
    worker = await start(CONCURRENT_REQUESTS=3)
    worker.starts_with(*map(request, range(10)))
    for _ in range(2):
        worker.end(await worker.next(), ask=False)
    await worker.close("shutdown")
    assert count_leased(redis, "s") == 0
    assert count_pending(redis, "s") == 8
    assert count_suspects(redis, "s") == 0
    other = await start()
    for _ in range(8):
        other.end(await other.next())
    await is_finished(other)


async def test_start_request_that_cannot_be_taken_ends_the_worker(
    start, redis, monkeypatch
):
    worker = await start()
    await crawl_one(worker)
    monkeypatch.setattr(
        worker.crawler.request_fingerprinter, "fingerprint", lambda request: 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        worker.starts_with(request("broken"))
    await until(lambda: worker.asked_to_close, "its end")
    assert worker.asked_to_close == ["start_error"]
    await worker.close("start_error")
    assert count_seen(redis, "s") == 1  # nobody takes that for a whole crawl


async def test_other_request_that_cannot_be_taken_ends_nothing(start, monkeypatch):
    worker = await start()
    worker.starts_with(request("page"))
    page = await worker.next()
    monkeypatch.setattr(
        worker.crawler.request_fingerprinter, "fingerprint", lambda request: 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        worker.yields(page, request("broken", meta={"is_start_request": 1}))
    await worker.has_sent("heartbeat")
    assert worker.asked_to_close == []


@pytest.mark.parametrize("others", [0, 1])
async def test_first_worker_flushes_what_an_earlier_crawl_has_left(
    start, redis, log, others
):
    old = await start()
    old.start_goes_on()
    await crawl_one(old)
    await until(lambda: count_leased(redis, "s") == 0, "the ack")
    if not others:
        await old.close("shutdown")
    worker = await start(SCHEDULER_FLUSH_ON_START=True)
    worker.starts_with(request("page"))
    if others:
        await is_finished(worker)
        assert len(worker.dropped) == 1
        assert "SCHEDULER_FLUSH_ON_START deletes nothing: 1 other" in log.text
    else:
        assert (await worker.next()).url == f"{URL}page"


async def test_worker_whose_event_loop_ends_gives_back_what_it_has_not_finished(
    start, redis, log
):
    worker = await start()
    worker.starts_with(*map(request, "123"))
    page, *_ = await worker.all(3)
    worker.yields(page, {"n": 1})
    worker.end(page, ask=False)
    await until(lambda: count_items(redis, "s") == 1, "the item")
    await worker.is_cancelled()
    assert "gives 2 requests back" in log.text
    assert count_leased(redis, "s") == 0
    assert count_pending(redis, "s") == 2
    assert count_workers(redis, "s") == 0


async def test_worker_whose_event_loop_ends_delivers_what_is_done(start, redis):
    worker = await start()
    worker.starts_with(*map(request, "12"))
    page, _ = await worker.all(2)
    worker.yields(page, {"n": 1}, *(request(f"link-{n}") for n in range(500)))
    worker.end(page, ask=False)
    worker.take()
    worker.engine._slot.inprogress.clear()
    await worker.is_cancelled()
    assert count_leased(redis, "s") == 0
    assert count_pending(redis, "s") >= 2


async def test_worker_whose_event_loop_ends_while_redis_is_away_says_so(
    start, redis, log
):
    worker = await start()
    worker.starts_with(request("page"))
    await worker.next()
    worker.proxy.refuse()
    await worker.is_cancelled()
    assert "ends without a goodbye" in log.text
    assert count_leased(redis, "s") == 1


# What is counted


async def test_stats_tell_what_came_from_whom(start):
    worker = await start()
    worker.starts_with(request("a"), request("b"))
    [page, other] = await worker.all(2)
    worker.yields(page, request("c"), request("d"), request("a"))
    moved = other.replace(url=f"{URL}moved", meta={"redirect_urls": [other.url]})
    worker.is_replaced(other, moved)
    for each in (page, other):
        worker.end(each)
    for _ in range(3):
        worker.end(await worker.next())
    await is_finished(worker)
    assert worker.stat("scheduler/enqueued/redis") == 4
    assert worker.stat("scheduler/enqueued/memory") == 1
    assert worker.stat("scheduler/enqueued") == 5
    assert worker.stat("scheduler/dequeued/redis") == 4
    assert worker.stat("scheduler/dequeued/memory") == 1
    assert worker.stat("scheduler/dequeued") == 5
    await worker.close()
    assert worker.stat("frontier/exchanges") > 2


async def test_length_is_what_is_here_and_in_redis(start):
    worker = await start(CONCURRENT_REQUESTS=2)
    assert len(worker.scheduler) == 0
    worker.starts_with(*map(request, range(20)))
    await until(lambda: len(worker.scheduler) == 20, "all of them")
    await worker.next()
    assert len(worker.scheduler) == 19
