"""A DUPEFILTER_CLASS that decides itself, in the real worker."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from scrapy.dupefilters import BaseDupeFilter

from scrapy_dist.dupefilter import RFPDupeFilter
from scrapy_dist.exceptions import FrontierError
from tests.support.pages import URL, names, request
from tests.support.redis_state import count_leased
from tests.support.worker import Worker, until

if TYPE_CHECKING:
    from scrapy import Request


class Memory(RFPDupeFilter):
    """Knows what all workers of this process have asked about."""

    seen: set[str] = set()
    asked: list[str] = []
    done: list[str] = []
    gate = threading.Event()

    def request_seen(self, request: Request) -> bool:
        assert self.gate.wait(60)
        self.asked.append(request.url.removeprefix(URL))
        if "broken" in request.url:
            raise ValueError("on purpose")
        known = request.url in self.seen
        self.seen.add(request.url)
        return known

    def close(self, reason: str) -> None:
        self.done.append(f"close {reason}")

    def clear(self) -> None:
        self.done.append("clear")


@pytest.fixture
def memory(monkeypatch):
    for name in ("seen", "asked", "done"):
        monkeypatch.setattr(Memory, name, type(getattr(Memory, name))())
    monkeypatch.setattr(Memory, "gate", threading.Event())
    Memory.gate.set()
    yield Memory
    Memory.gate.set()


async def begin(start, **options) -> tuple[Worker, Request]:
    worker = await start(DUPEFILTER_CLASS=Memory, **options)
    worker.starts_with(request("page"))
    return worker, await worker.next()


async def test_filter_is_asked_once_for_each_request_in_their_order(
    start, redis, memory
):
    worker, page = await begin(start)
    assert worker.yields(page, *map(request, ["a", "b", "a", "c"])) == [True] * 4
    worker.yields(page, request("unfiltered", dont_filter=True))
    worker.end(page, ask=False)
    found = await worker.all(4)
    assert sorted(names(*found)) == ["a", "b", "c", "unfiltered"]
    await until(lambda: worker.dropped, "the duplicate")
    assert names(*worker.dropped) == ["a"]
    assert memory.asked == ["page", "a", "b", "a", "c"]
    for each in found:
        worker.end(each)
    await until(lambda: worker.is_finished, "the end")
    assert count_leased(redis, "s") == 0
    await worker.close()
    assert memory.done == ["clear", "close finished"]


async def test_page_is_not_finished_before_the_filter_has_answered(
    start, redis, memory
):
    worker, page = await begin(start)
    memory.gate.clear()
    worker.yields(page, request("a"))
    worker.end(page, ask=False)
    await worker.has_sent("heartbeat")
    assert count_leased(redis, "s") == 1
    assert not worker.is_finished
    memory.gate.set()
    assert names(await worker.next()) == ["a"]
    await until(lambda: count_leased(redis, "s") == 1, "the ack of the page")


async def test_request_that_the_filter_cannot_decide_about_is_crawled(
    start, redis, memory, caplog
):
    worker, page = await begin(start)
    worker.yields(page, request("broken"), request("a"))
    worker.end(page, ask=False)
    found = await worker.all(2)
    assert sorted(names(*found)) == ["a", "broken"]
    for each in found:
        worker.end(each)
    await until(lambda: worker.is_finished, "the end")
    assert count_leased(redis, "s") == 0
    assert "on purpose" in caplog.text


async def test_equal_start_requests_of_two_workers_are_crawled_once(start, memory):
    one, page = await begin(start)
    assert names(page) == ["page"]
    other = await start(DUPEFILTER_CLASS=Memory)
    other.starts_with(request("page"))
    await until(lambda: other.dropped or other.take(), "the answer")
    assert names(*other.dropped) == ["page"]
    one.end(page)
    for worker in (one, other):
        await until(lambda worker=worker: worker.is_finished, "the end")


async def test_worker_takes_no_more_while_too_many_wait_for_the_filter(start, memory):
    worker, page = await begin(start, FRONTIER_OUTBOX_LIMIT=5)
    worker.yields(page, request("one"))
    await until(lambda: len(worker.scheduler) > 0, "it")
    memory.gate.clear()
    worker.yields(page, *map(request, range(6)))
    assert worker.take() is None
    memory.gate.set()
    assert names(*await worker.all(2))


async def test_page_of_a_dead_worker_is_asked_about_again(
    start, redis, memory, frontier
):
    """The dead one may have asked, and Redis never have heard of the answer."""
    dead, page = await begin(start)
    dead.proxy.freeze()
    dead.yields(page, request("link"))
    await until(lambda: "link" in memory.asked, "its question")
    await dead.vanish()
    worker = await start(DUPEFILTER_CLASS=Memory)
    frontier.is_silent(dead)
    page = await worker.next()
    worker.yields(page, request("link"))
    worker.end(page, ask=False)
    assert names(await worker.next()) == ["link"]


async def test_closing_worker_hands_over_what_the_filter_has_seen(start, redis, memory):
    worker, page = await begin(start, CONCURRENT_REQUESTS=1)
    moved = page.replace(url=f"{URL}moved", meta={"redirect_urls": [page.url]})
    worker.is_replaced(page, moved)
    worker.end(page, ask=False)
    await until(lambda: len(worker.scheduler) == 1, "the redirect")
    await worker.close("shutdown")
    other = await start(DUPEFILTER_CLASS=Memory)
    assert names(await other.next()) == ["moved"]


# One of Scrapy's kind, which is asked at once and knows this worker only


class Local(BaseDupeFilter):
    def __init__(self) -> None:
        self.seen: set[str] = set()

    def request_seen(self, request: Request) -> bool:
        known = request.url in self.seen
        self.seen.add(request.url)
        return known


async def test_filter_of_one_worker_is_asked_at_once(start, redis):
    worker = await start(DUPEFILTER_CLASS=Local)
    worker.starts_with(request("page"))
    page = await worker.next()
    links = [*map(request, ["a", "a"]), request("a", dont_filter=True)]
    assert worker.yields(page, *links) == [True, False, True]
    worker.end(page, ask=False)
    found = await worker.all(2)
    assert names(*found) == ["a", "a"]
    for each in found:
        worker.end(each)
    await until(lambda: worker.is_finished, "the end")
    assert count_leased(redis, "s") == 0


# flush(), as scrapy-redis has it


async def test_running_crawl_is_not_flushed(start, redis):
    worker = await start()
    worker.starts_with(request("page"))
    await worker.next()
    with pytest.raises(FrontierError, match="scrapy frontier clear"):
        worker.scheduler.flush()
    assert count_leased(redis, "s") == 1
