"""A worker's exchanges when something goes wrong between it and a real Redis.

Scrapy is played by a few sets; everything else is the real thing.
"""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
import redis.asyncio
from scrapy import Request, Spider
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.brokers.redis.session import RedisFrontier
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.frontier import BATCH, SUSPECTS, NewRequest
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.redis_client.client import close_client
from scrapy_dist.worker.exchange import Exchange
from tests.support.engine import FakeEngine, make_queues
from tests.support.frontiers import Worker

URL = "http://a.invalid/"
KEYS = Keys.from_settings(Settings(), "s")


class Crawl:
    """One worker: queues, exchange and frontier; `next` and `end` are Scrapy's part."""

    def __init__(self, client, *, outbox_limit: int = 1000, patience: float = 0.0):
        self.spider = Spider("s")
        self.engine = FakeEngine(self.spider)
        self.in_progress = self.engine.requests
        self.codec = PayloadCodec(self.spider)
        self.duplicates: list[Request] = []
        self.frontier = Frontier(
            client, KEYS, ttl=60, max_deliveries=3, failed_limit=100
        )
        self.queues = make_queues(
            self.engine,
            self.codec,
            self.duplicates,
            FRONTIER_OUTBOX_LIMIT=outbox_limit,
        )
        self.exchange = Exchange(
            RedisFrontier(self.frontier, None),
            self.queues,
            self.spider,
            name="host:1",
            failed_key=KEYS.failed,
            concurrency=16,
            flush=0.01,
            ttl=60,
            patience=patience,
        )

    async def join(self) -> Crawl:
        call = self.frontier.register("host:1", commit=0)
        await self.frontier.exchange([call])
        call.reply()
        return self

    def next(self) -> Request | None:
        """Scrapy begins with a request."""
        found = self.queues.next()
        if found is None:
            return None
        self.in_progress.add(found[0])
        return found[0]

    def end(self, request: Request) -> None:
        """Scrapy has finished a request."""
        self.in_progress.discard(request)

    def leases(self, request: Request):
        return self.queues.leases.handed[request]


class Cut:
    """Cuts Redis off: before an exchange reaches it, or before its reply is here."""

    def __init__(self, frontier: Frontier) -> None:
        self._send = frontier._send
        self._frontier = frontier

    async def _never(self, calls) -> None:
        raise redis.exceptions.ConnectionError("cut")

    async def _no_reply(self, calls) -> None:
        await self._send(calls)
        raise redis.exceptions.ConnectionError("cut")

    def off(self, *, no_reply: bool = False) -> None:
        self._frontier._send = self._no_reply if no_reply else self._never

    def on(self) -> None:
        self._frontier._send = self._send


@pytest.fixture
async def client(redis_server):
    client = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)
    yield client
    await close_client(client)


@pytest.fixture
async def crawl(client):
    return await Crawl(client).join()


@pytest.fixture
async def other(client):
    """Another worker, as Redis sees it."""
    return await Worker(client).join()


@pytest.fixture
def cut(crawl):
    return Cut(crawl.frontier)


async def push(worker, *names: str) -> None:
    codec = PayloadCodec(Spider("s"))
    await worker.push(*(codec.encode(Request(URL + name)) for name in names))


async def lease_page(crawl: Crawl, other: Worker, name: str = "page") -> Request:
    """A page that *other* has found, in the hands of this worker."""
    await push(other, name)
    await crawl.exchange.run_once()
    page = crawl.next()
    assert page is not None
    assert page.url == URL + name
    return page


@pytest.mark.parametrize("no_reply", [False, True])
async def test_request_that_stays_is_crawled_though_redis_was_away(
    crawl, other, cut, no_reply
):
    page = await lease_page(crawl, other)
    pinned, free = Request(URL + "pinned"), Request(URL + "free")
    crawl.queues.pinned.keep(pinned, crawl.leases(page), "fp-pinned")
    crawl.queues.pinned.keep(free, (), "fp-free")
    cut.off(no_reply=no_reply)
    for _ in range(2):
        with pytest.raises(RedisUnavailable):
            await crawl.exchange.run_once()
    cut.on()
    crawl.end(page)
    for _ in range(3):
        await crawl.exchange.run_once()
    begun = [crawl.next(), crawl.next()]
    assert {request.url for request in begun} == {pinned.url, free.url}
    assert crawl.duplicates == []
    assert len(crawl.queues.held()) == 1
    for request in begun:
        crawl.end(request)
    await crawl.exchange.run_once()
    assert crawl.queues.held() == set()


async def test_worker_with_a_claim_under_way_is_not_empty(crawl, other):
    assert crawl.queues.is_empty()
    crawl.queues.pinned.keep(Request(URL), (), "fp")
    assert not crawl.queues.is_empty()
    crawl.queues.pinned.take_claims()
    assert not crawl.queues.is_empty()
    crawl.queues.pinned.claimed([True])
    assert not crawl.queues.is_empty()
    assert crawl.next() is not None


async def test_claims_that_came_meanwhile_are_made_too_when_no_reply_has_come(
    crawl, other
):
    page = await lease_page(crawl, other)
    crawl.queues.pinned.keep(Request(URL + "1"), crawl.leases(page), "before")
    crawl.queues.pinned.take_claims()
    crawl.queues.pinned.keep(Request(URL + "2"), crawl.leases(page), "meanwhile")
    crawl.queues.pinned.claimed([])
    assert [claim.fingerprint for claim in crawl.queues.pinned.take_claims()] == [
        "before",
        "meanwhile",
    ]


async def test_pinned_request_of_two_leases_stays_while_one_of_them_does(crawl, other):
    await push(other, *"1234")  # two of them are this worker's share
    await crawl.exchange.run_once()
    pages = [crawl.next(), crawl.next()]
    records = tuple(record for page in pages for record in crawl.leases(page))
    pinned = Request(URL + "pinned")
    crawl.queues.pinned.keep(pinned, records, "")
    crawl.queues.lost([records[0].id])
    assert crawl.next() is pinned


async def test_nothing_is_leased_while_the_outbox_is_full(client, other):
    crawl = await Crawl(client, outbox_limit=5).join()
    await push(other, *"123")
    for n in range(5):
        crawl.exchange.outbox.add_request(NewRequest(b"%d" % n, 0.0), Request(URL))
    assert crawl.queues.wanted() == 0
    await crawl.exchange.run_once()
    assert crawl.queues.held() == set()
    assert crawl.queues.wanted() > 0
    await crawl.exchange.run_once()
    assert crawl.queues.held() != set()


async def test_worker_leases_nothing_while_redis_refuses_results_and_again_after_that(
    crawl, other, client, caplog
):
    caplog.set_level(logging.INFO)
    page = await lease_page(crawl, other)
    await client.set("wrong", "no list")
    crawl.exchange.outbox.add_item("wrong", b"item")
    await push(other, *(f"later-{n}" for n in range(8)))
    for _ in range(3):
        with pytest.raises(RedisUnavailable):
            await crawl.exchange.run_once()
    assert len(crawl.queues.held()) == 1
    assert await client.zcard(KEYS.leases) == 1
    assert caplog.text.count("Redis refuses what this worker produced") == 1

    await client.delete("wrong")
    crawl.end(page)
    for _ in range(3):
        await crawl.exchange.run_once()
    assert caplog.text.count("Redis takes results again") == 1
    assert await client.lrange("wrong", 0, -1) == [b"item"]
    later = crawl.next()
    assert later is not None
    assert later.url == URL + "later-0"


async def test_stats_are_added_once_whatever_became_of_an_exchange(crawl, cut, client):
    changes = [[("inc", "pages", "3")], []]
    crawl.exchange.changes = lambda: changes.pop(0) if changes else []
    cut.off()
    with pytest.raises(RedisUnavailable):
        await crawl.exchange.run_once(take=False)
    cut.on()
    for _ in range(3):
        await crawl.exchange.run_once(take=False)
    assert await client.hgetall(KEYS.stats) == {b"pages": b"3"}


async def test_what_is_given_back_and_set_aside_survives_a_lost_exchange(
    crawl, other, cut, client
):
    await push(other, *"1234")  # two of them are this worker's share
    await crawl.exchange.run_once()
    first, second = (crawl.leases(crawl.next())[0] for _ in range(2))
    crawl.queues.outbox.releases.append(first.id)
    crawl.queues.rejects.add(second, "it is bad")
    cut.off()
    with pytest.raises(RedisUnavailable):
        await crawl.exchange.run_once(take=False)
    assert crawl.queues.held() == {first.id, second.id}
    cut.on()
    await crawl.exchange.run_once(take=False)
    assert crawl.queues.held() == set()
    assert await client.zcard(KEYS.requests) == 3
    assert await client.xlen(KEYS.failed) == 1
    assert crawl.queues.outbox.releases == crawl.queues.outbox.rejects == []


async def test_tries_become_rare_while_redis_is_away_and_frequent_when_it_is_back(
    crawl, cut
):
    loop = asyncio.get_running_loop()
    exchange = crawl.exchange
    waits = []
    for _ in range(6):
        exchange._nothing_due()
        exchange._failed(RedisUnavailable("away"))
        exchange.request()  # somebody has something to send
        waits.append(exchange._due - loop.time())
    assert min(waits) > 0.01
    assert waits[-1] > 4 * waits[0]
    exchange._nothing_due()
    exchange._answered()
    exchange.request()
    assert exchange._due <= loop.time()
    exchange._nothing_due()
    exchange._failed(RedisUnavailable("away"))
    assert exchange._due - loop.time() < waits[-1]
    exchange._nothing_due()


async def test_patience_begins_anew_with_each_answer(client):
    crawl = await Crawl(client, patience=30.0).join()
    given_up = []
    crawl.exchange.give_up = lambda: given_up.append(True)
    crawl.exchange._answered_at = time.monotonic() - 60
    crawl.exchange._answered()
    crawl.exchange._failed(RedisUnavailable("away"))
    assert given_up == []
    crawl.exchange._answered_at = time.monotonic() - 60
    crawl.exchange._failed(RedisUnavailable("away"))
    crawl.exchange._failed(RedisUnavailable("away"))
    assert given_up == [True]
    crawl.exchange._nothing_due()


async def test_worker_is_not_alone_any_more_when_another_one_has_come(crawl, client):
    crawl.queues.view.alone = True
    await crawl.exchange.run_once()
    assert crawl.queues.view.alone
    other = await Worker(client).join()
    crawl.exchange._beat_at = 0.0
    await crawl.exchange.run_once()
    assert not crawl.queues.view.alone
    await other.call(other.frontier.leave(finished=False))
    crawl.exchange._beat_at = 0.0
    await crawl.exchange.run_once()
    assert crawl.queues.view.alive == 1
    assert not crawl.queues.view.alone  # what that one has seen is not known here


async def test_suspects_are_asked_for_once_in_an_exchange(crawl, monkeypatch):
    asked = []
    lease = crawl.frontier.lease

    def spy(want, *, suspects):
        asked.append(suspects)
        return lease(want, suspects=suspects)

    monkeypatch.setattr(crawl.frontier, "lease", spy)
    monkeypatch.setattr(crawl.queues, "wanted", lambda: 2 * BATCH + 1)
    await crawl.exchange.run_once()
    assert asked == [0, 0, SUSPECTS]


async def test_suspect_that_was_not_heard_of_is_alone_until_it_is_given_back(
    crawl, cut, other, client
):
    """Else it would be blamed for the death of what was leased beside it."""
    url = URL + "last-chance"
    payload = crawl.codec.encode(Request(url))
    await client.zadd(KEYS.suspects, {b"0000000000000001" + b"2 - " + payload: 0})
    await push(other, *"abcdef")
    cut.off(no_reply=True)
    with pytest.raises(RedisUnavailable) as lost:
        await crawl.exchange.run_once()
    crawl.exchange._failed(lost.value)
    assert await client.zcard(KEYS.leases) == 1
    cut.on()
    await crawl.exchange.run_once()
    assert await client.zcard(KEYS.leases) == 1
    crawl.exchange._answered()
    assert crawl.exchange._event.is_set()
    crawl.exchange._nothing_due()
    await crawl.exchange.run_once()
    assert crawl.next().url == url
    assert crawl.next() is None
    assert await client.zcard(KEYS.leases) == 1


async def test_commits_behind_one_that_a_full_redis_refuses_wait_for_it(make_redis):
    server = make_redis()
    client = redis.asyncio.Redis.from_url(server.url, protocol=2)
    crawl = await Crawl(client).join()
    for n in range(3 * BATCH):
        crawl.exchange.outbox.add_request(NewRequest(b"%d" % n, 0.0), Request(URL))
    rollbacks = []
    crawl.exchange._rollback = rollbacks.append
    await client.config_set("maxmemory", 1)
    await crawl.exchange.run_once()
    assert crawl.queues.view.is_full
    assert rollbacks == []
    assert len(crawl.exchange.outbox) == 3 * BATCH
    await client.config_set("maxmemory", 0)
    while len(crawl.exchange.outbox):
        await crawl.exchange.run_once(take=False)
    assert rollbacks == []
    assert await client.zcard(KEYS.requests) == 3 * BATCH
    await close_client(client)


async def test_defect_that_stays_the_same_closes_and_gives_all_back(
    crawl, other, client, caplog, monkeypatch
):
    monkeypatch.setattr("scrapy_dist.worker.exchange._RETRY_FIRST", 0.001)
    monkeypatch.setattr(crawl.exchange, "_retry_longest", 0.001)
    closed = asyncio.Event()
    crawl.exchange.broken = closed.set
    await push(other, "a")
    await crawl.exchange.run_once()
    assert await client.hlen(KEYS.leased) == 1
    tries = []

    def collect() -> None:
        tries.append(1)
        raise KeyError("on purpose")

    monkeypatch.setattr(crawl.queues, "collect", collect)
    caplog.set_level(logging.ERROR, "scrapy_dist")

    crawl.exchange.start()
    await asyncio.wait_for(closed.wait(), 60)
    assert len(tries) == 8
    assert [r.exc_info is not None for r in caplog.records] == [True, False]
    assert "KeyError" in caplog.messages[-1]
    assert "failed 8 times" in caplog.messages[-1]

    await crawl.exchange.stop(1.0)
    with pytest.raises(KeyError):
        await crawl.exchange.finish(1.0)
    await crawl.exchange.say_goodbye()
    assert await client.hlen(KEYS.leased) == 0
    assert await client.zcard(KEYS.requests) == 1


async def test_defects_of_different_places_or_with_success_between_are_retried(
    crawl, monkeypatch
):
    monkeypatch.setattr("scrapy_dist.worker.exchange._RETRY_FIRST", 0.001)
    monkeypatch.setattr(crawl.exchange, "_retry_longest", 0.001)
    crawl.exchange.broken = lambda: pytest.fail("it has closed")
    errors = iter([*[KeyError] * 7, ValueError, *[KeyError] * 7, None, *[KeyError] * 7])
    collect, over = crawl.queues.collect, asyncio.Event()

    def fails() -> None:
        error = next(errors, over)
        if error is over:
            over.set()
        elif error is not None:
            raise error("on purpose")
        collect()

    monkeypatch.setattr(crawl.queues, "collect", fails)
    crawl.exchange.start()

    async def ask() -> None:
        while not over.is_set():
            crawl.exchange.request()
            await asyncio.sleep(0.001)

    await asyncio.wait_for(ask(), 60)
    await crawl.exchange.stop(1.0)
