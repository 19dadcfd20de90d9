"""What waits in front of the downloader of a polite crawl."""

from __future__ import annotations

import asyncio

import pytest
from scrapy import Request
from scrapy.exceptions import IgnoreRequest, NotConfigured
from scrapy.utils.test import get_crawler

from scrapy_dist.core.frontier import Answer, Ask, Lease
from scrapy_dist.core.politeness import Rules, Visit
from scrapy_dist.core.politeness_settings import PolitenessOptions
from scrapy_dist.core.slots import Slots, host_of, slot_number
from scrapy_dist.middleware import FrontierGateMiddleware
from scrapy_dist.worker.gate import Gate
from scrapy_dist.worker.leases import Leases
from scrapy_dist.worker.politeness import Politeness
from tests.support.engine import FakeEngine

A, B = slot_number("a"), slot_number("b")
URL = "http://a/"


class Pacing:
    """Notes for when an exchange is asked for."""

    def __init__(self) -> None:
        self.requests: list[float] = []

    def request(self, delay: float = 0.0) -> None:
        self.requests.append(delay)

    def something_waits(self) -> None:
        self.requests.append(0.03)


class Crawl:
    """A gate and what is behind it; *delay* in seconds."""

    def __init__(self, delay: float = 0.0, places: int = 2, ttl: float = 30.0) -> None:
        self.rules = Rules(delay, places)
        self.engine = FakeEngine()
        self.polite = Politeness(
            self.engine,
            PolitenessOptions(self.rules, turn=60.0),
            Slots(host_of),
            ttl=ttl,
            is_gated=True,
        )
        self.leases, self.pacing = Leases(), Pacing()
        self.gate = Gate(
            self.engine, self.polite, Slots(host_of), self.leases, self.pacing
        )
        self.tasks: list[asyncio.Task[None]] = []
        #: What the gate has let go, in order.
        self.started: list[Request] = []
        self.beat()

    def beat(self) -> None:
        self.polite.beaten(asyncio.get_running_loop().time())

    async def comes(self, url: str = URL, **meta: object) -> Request:
        """A request to the gate."""
        request = Request(url, meta=meta)
        self.engine.requests.add(request)
        self.engine.downloads.add(request)
        self.tasks.append(asyncio.ensure_future(self._passes(request)))
        await self.turns()
        return request

    async def _passes(self, request: Request) -> None:
        await self.gate.admit(request)
        self.started.append(request)

    async def visit(self, *, granted: bool = True) -> list[int]:
        """An exchange; says which slots were asked for."""
        now = asyncio.get_running_loop().time()
        ask = Ask(**self.polite.ask(now, want=0))
        answers = [Visit(granted, None, self.rules) for _ in ask.visits]
        self.polite.answered(ask, Answer(visits=answers), now)
        await self.turns()
        return list(ask.visits)

    async def ends(self, request: Request) -> None:
        self.engine.downloads.discard(request)
        self.engine.requests.discard(request)
        self.polite.look()
        await self.turns()

    async def turns(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def crawl():
    crawl = Crawl()
    yield crawl
    for task in crawl.tasks:
        task.cancel()
    await asyncio.gather(*crawl.tasks, return_exceptions=True)


async def test_request_of_a_slot_that_the_worker_has_not_is_asked_for(crawl):
    request = await crawl.comes()
    assert crawl.started == []
    assert crawl.pacing.requests == [0.0]
    assert await crawl.visit(granted=False) == [A]
    assert crawl.started == []
    assert 0 < crawl.pacing.requests[-1] <= 0.05
    await asyncio.sleep(crawl.pacing.requests[-1])
    assert await crawl.visit() == [A]
    assert crawl.started == [request]
    assert await crawl.visit() == []


async def test_requests_of_a_slot_start_in_their_order_as_places_are_free(crawl):
    requests = [await crawl.comes(f"{URL}{n}") for n in range(4)]
    await crawl.visit()
    assert crawl.started == requests[:2]
    await crawl.ends(requests[1])
    assert crawl.started == requests[:3]
    await crawl.ends(requests[0])
    assert crawl.started == requests
    await crawl.ends(requests[2])
    await crawl.ends(requests[3])
    assert not crawl.gate._ways
    assert not crawl.polite.wishes
    crawl.polite.ask(asyncio.get_running_loop().time(), want=0)
    assert not crawl.polite.held


async def test_slots_do_not_wait_for_each_other(crawl):
    await crawl.comes("http://a/1")
    other = await crawl.comes("http://b/1")
    crawl.polite._take(str(B), crawl.rules, asyncio.get_running_loop().time())
    crawl.polite.changed()
    await crawl.turns()
    assert crawl.started == [other]


async def test_next_one_starts_when_the_delay_is_over(crawl):
    crawl.rules = Rules(0.05, 2)
    loop = asyncio.get_running_loop()
    await crawl.comes(f"{URL}1")
    await crawl.comes(f"{URL}2")
    await crawl.visit()
    begin = loop.time()
    assert len(crawl.started) == 1
    await asyncio.wait_for(asyncio.gather(*crawl.tasks), 30)
    assert len(crawl.started) == 2
    assert loop.time() - begin >= 0.049


async def test_who_is_cancelled_keeps_nobody_waiting(crawl):
    await crawl.comes(f"{URL}1")
    other = await crawl.comes(f"{URL}2")
    crawl.tasks[0].cancel()
    await crawl.turns()
    await crawl.visit()
    assert crawl.started == [other]


async def test_what_a_redirect_leads_to_is_of_its_own_slot(crawl):
    inherited = await crawl.comes(
        "http://b/", download_slot="a", redirect_urls=["http://a/"]
    )
    assert "download_slot" not in inherited.meta
    own = await crawl.comes(
        "http://c/", download_slot="mine", redirect_urls=["http://a/"]
    )
    assert own.meta["download_slot"] == "mine"
    same = await crawl.comes(
        "http://a/2", download_slot="a", redirect_urls=["http://a/"]
    )
    assert same.meta["download_slot"] == "a"
    assert sorted(await crawl.visit()) == sorted([A, B, slot_number("mine")])


async def test_worker_that_closes_without_redis_gives_back_what_has_not_started():
    crawl = Crawl(ttl=0.2)
    record = crawl.leases.open(Lease("1", b""))
    request = await crawl.comes()
    crawl.leases.handed[request] = (record,)
    await asyncio.sleep(0.25)
    crawl.polite.changed()
    await crawl.turns()
    assert not crawl.tasks[0].done()  # Redis may answer again
    crawl.engine.is_closing = True
    crawl.polite.changed()
    with pytest.raises(IgnoreRequest, match="closes"):
        await crawl.tasks[0]
    assert record.invalidated
    assert crawl.started == []
    assert not crawl.polite.wishes


async def test_page_that_waits_for_media_is_given_back_then():
    crawl = Crawl(ttl=0.2)
    record = crawl.leases.open(Lease("1", b""))
    page = Request("http://b/")
    crawl.leases.handed[page] = (record,)
    crawl.engine.scraping.add(page)
    await crawl.comes("http://a/image")
    crawl.engine.is_closing = True
    await asyncio.sleep(0.25)
    crawl.polite.changed()
    with pytest.raises(IgnoreRequest):
        await crawl.tasks[0]
    assert record.invalidated


async def test_worker_that_closes_while_redis_answers_still_starts_what_it_has(crawl):
    request = await crawl.comes()
    crawl.engine.is_closing = True
    crawl.polite.changed()
    await crawl.turns()
    assert not crawl.tasks[0].done()
    await crawl.visit()
    assert crawl.started == [request]


@pytest.mark.parametrize("value", ["yes", None, ""])
def test_it_leaves_a_bad_setting_to_the_scheduler(value):
    """Which refuses it by name."""
    crawler = get_crawler(settings_dict={"FRONTIER_POLITENESS": value})
    with pytest.raises(NotConfigured):
        FrontierGateMiddleware.from_crawler(crawler)
