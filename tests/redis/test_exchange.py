"""A worker's exchanges with a real Redis, and what may go wrong between them.

Scrapy is played by a few sets; everything else is the real thing.
"""

from __future__ import annotations

import asyncio
import logging

import pytest
import redis.asyncio
from scrapy import Request, Spider
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.brokers.redis.session import RedisFrontier
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.frontier import BATCH, SUSPECTS, End, NewRequest, Settlement
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.redis_client.client import close_client
from scrapy_dist.worker.loop import Loop
from scrapy_dist.worker.recovery import Ending
from scrapy_dist.worker.view import Account
from tests.support.engine import Closer, FakeEngine, make_options, make_queues
from tests.support.frontiers import Worker, suspect
from tests.support.worker import Clock, until

URL = "http://a.invalid/"
KEYS = Keys.from_settings(Settings(), "s")


class Crawl:
    """One worker: queues, loop and frontier; `next` and `end` are Scrapy's part."""

    def __init__(self, client, **options):
        self.engine = FakeEngine()
        self.in_progress = self.engine.requests
        self.codec = PayloadCodec(self.engine.spider)
        self.duplicates: list[Request] = []
        self.closer = Closer()
        self.frontier = Frontier(
            client, KEYS, ttl=60, max_deliveries=3, failed_limit=100
        )
        options = {"FRONTIER_FLUSH_INTERVAL": 0.01, **options}
        self.queues = make_queues(self.engine, self.codec, self.duplicates, **options)
        self.outbox = self.queues.outbox
        self.loop = Loop(
            self.engine,
            RedisFrontier(self.frontier, None),
            self.queues,
            make_options(**options),
            self.closer,
            name="host:1",
        )
        self.exchange = self.loop.exchange

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
def clock(monkeypatch):
    return Clock(monkeypatch)


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
    assert len(set(crawl.queues.leases.records)) == 1
    for request in begun:
        crawl.end(request)
    await crawl.exchange.run_once()
    assert set(crawl.queues.leases.records) == set()


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
    crawl = await Crawl(client, FRONTIER_OUTBOX_LIMIT=5).join()
    await push(other, *"123")
    for n in range(5):
        crawl.outbox.add_request(NewRequest(b"%d" % n, 0.0), Request(URL))
    assert crawl.queues.wanted() == 0
    await crawl.exchange.run_once()
    assert set(crawl.queues.leases.records) == set()
    assert crawl.queues.wanted() > 0
    await crawl.exchange.run_once()
    assert set(crawl.queues.leases.records) != set()


@pytest.mark.keeps("wrong", reason="no list of items")
async def test_worker_leases_nothing_while_redis_refuses_results_and_again_after_that(
    crawl, other, client, caplog
):
    caplog.set_level(logging.INFO)
    page = await lease_page(crawl, other)
    await client.set("wrong", "no list")
    crawl.outbox.add_item("wrong", b"item")
    await push(other, *(f"later-{n}" for n in range(8)))
    for _ in range(3):
        with pytest.raises(RedisUnavailable):
            await crawl.exchange.run_once()
    assert len(set(crawl.queues.leases.records)) == 1
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
    assert set(crawl.queues.leases.records) == {first.id, second.id}
    cut.on()
    await crawl.exchange.run_once(take=False)
    assert set(crawl.queues.leases.records) == set()
    assert await client.zcard(KEYS.requests) == 3
    assert await client.xlen(KEYS.failed) == 1
    assert crawl.queues.outbox.releases == crawl.queues.outbox.rejects == []


async def test_worker_is_not_alone_any_more_when_another_one_has_come(
    crawl, client, clock
):
    crawl.queues.view.alone = True
    await crawl.exchange.run_once()
    assert crawl.queues.view.alone
    other = await Worker(client).join()
    clock.leap(6)
    await crawl.exchange.run_once()
    assert not crawl.queues.view.alone
    await other.call(other.frontier.leave(finished=False))
    clock.leap(6)
    await crawl.exchange.run_once()
    assert crawl.queues.view.alive == 1
    assert not crawl.queues.view.alone  # what that one has seen is not known here


async def test_suspects_are_asked_for_once_in_an_exchange(crawl, monkeypatch):
    asked = []
    lease = crawl.frontier.lease

    def spy(want, *, suspects, enough):
        asked.append(suspects)
        return lease(want, suspects=suspects, enough=enough)

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
    await client.zadd(KEYS.suspects, {suspect(payload, 1, deaths=2): 0})
    await push(other, *"abcdef")
    cut.off(no_reply=True)
    with pytest.raises(RedisUnavailable) as lost:
        await crawl.exchange.run_once()
    crawl.loop._failed(lost.value)
    assert await client.zcard(KEYS.leases) == 1
    cut.on()
    await crawl.exchange.run_once()
    assert await client.zcard(KEYS.leases) == 1
    crawl.loop.recovery.answered()
    await crawl.exchange.run_once()
    assert crawl.next().url == url
    assert crawl.next() is None
    assert await client.zcard(KEYS.leases) == 1


async def test_commits_behind_one_that_a_full_redis_refuses_wait_for_it(make_redis):
    server = make_redis()
    client = redis.asyncio.Redis.from_url(server.url, protocol=2)
    crawl = await Crawl(client).join()
    for n in range(3 * BATCH):
        crawl.outbox.add_request(NewRequest(b"%d" % n, 0.0), Request(URL))
    await client.config_set("maxmemory", 1)
    await crawl.exchange.run_once()
    assert crawl.queues.view.is_full
    assert crawl.queues.view.account is Account.JOINED
    assert len(crawl.outbox) == 3 * BATCH
    await client.config_set("maxmemory", 0)
    while len(crawl.outbox):
        await crawl.exchange.run_once(take=False)
    assert crawl.queues.view.account is Account.JOINED
    assert await client.zcard(KEYS.requests) == 3 * BATCH
    await close_client(client)


async def test_defect_that_stays_the_same_closes_and_gives_all_back(
    crawl, other, client, caplog, monkeypatch
):
    monkeypatch.setattr(crawl.queues.pacing, "_retry_longest", 0.001)
    await push(other, "a")
    await crawl.exchange.run_once()
    assert await client.hlen(KEYS.leased) == 1
    tries = []

    def collect() -> None:
        tries.append(1)
        raise KeyError("on purpose")

    monkeypatch.setattr(crawl.queues, "collect", collect)
    caplog.set_level(logging.ERROR, "scrapy_dist")

    crawl.loop.start()
    await until(lambda: crawl.closer.reasons, "that it has to close")
    assert crawl.closer.reasons == [Ending.DEFECT]
    assert len(tries) >= 8
    assert [r.exc_info is not None for r in caplog.records] == [True, False]
    assert "KeyError" in caplog.messages[-1]
    assert "failed 8 times" in caplog.messages[-1]

    await crawl.loop.stop(1.0)
    with pytest.raises(KeyError):
        await crawl.loop.finish(1.0)
    await crawl.loop.say_goodbye()
    assert await client.hlen(KEYS.leased) == 0
    assert await client.zcard(KEYS.requests) == 1


async def test_defects_of_different_places_or_with_success_between_are_retried(
    crawl, monkeypatch
):
    monkeypatch.setattr(crawl.queues.pacing, "_retry_longest", 0.001)
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
    crawl.loop.start()

    async def ask() -> None:
        while not over.is_set():
            crawl.queues.pacing.request()
            await asyncio.sleep(0.001)

    await asyncio.wait_for(ask(), 60)
    await crawl.loop.stop(1.0)
    assert crawl.closer.reasons == []


async def test_worker_gives_back_leases_whose_reply_was_lost_before_it_goes(
    crawl, other, client
):
    await push(other, "page")
    call = crawl.frontier.lease(5, suspects=0)
    await crawl.frontier.exchange([call])
    assert len(call.reply().leases) == 1

    assert await crawl.loop.finish(5)
    assert await client.zcard(KEYS.leases) == 0
    assert await client.zcard(KEYS.requests) == 1


async def test_worker_is_told_once_that_redis_has_answered(crawl, monkeypatch):
    """However many calls that took, of which one holds 100 leases at the most."""
    answers = []
    monkeypatch.setattr(crawl.queues.prefetch, "answered", lambda: answers.append(True))
    for want, count in ((0, 0), (250, 1)):
        monkeypatch.setattr(crawl.queues, "wanted", lambda want=want: want)
        await crawl.exchange.run_once()
        assert len(answers) == count


async def test_what_was_stored_beside_a_strange_lease_is_not_sent_again(crawl, client):
    """Two commits in one exchange; the first names a lease that Redis does not hold."""
    crawl.outbox.add_settlement(Settlement("0" * 16, end=End.OPEN))
    for n in range(150):
        crawl.outbox.add_request(NewRequest(b"x%d" % n, 0), Request(URL))

    await crawl.exchange.run_once(take=False)
    assert crawl.queues.view.account is Account.REJOINING
    for _ in range(2):
        await crawl.exchange.run_once(take=False)

    assert crawl.queues.view.account is Account.JOINED
    assert len(crawl.outbox) == 0
    assert await client.zcard(KEYS.requests) == 150
