"""What scrapy-redis 0.9.1 keeps in Redis becomes a frontier."""

from __future__ import annotations

import pickle

import pytest
from scrapy import Request, Spider

from scrapy_dist.brokers.redis.layout import RANK, REQUESTS, encode_score, parse
from scrapy_dist.brokers.redis.tools.takeover import take_over
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.crawl import TakenOver
from scrapy_dist.core.slots import Slots, host_of, slot_number
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.fingerprints import ScrapyRedisFingerprinter, default
from scrapy_dist.queue import LifoQueue, PriorityQueue, SlotQueue
from tests.support.frontiers import KEYS, Worker, contents


class Shop(Spider):
    name = "s"

    def parse_item(self, response):
        pass


SPIDER = Shop()
CODEC = PayloadCodec(SPIDER)
NO_SLOTS = Slots(None)
PROJECT = {"spider": SPIDER, "codec": CODEC, "fingerprint": default}


def url(n):
    return f"http://site/{n}"


def theirs(n, **fields):
    """As scrapy_redis.queue.Base._encode_request writes it."""
    request = Request(url(n), callback=SPIDER.parse_item, meta={"n": n}, **fields)
    return pickle.dumps(request.to_dict(spider=SPIDER), protocol=-1)


async def take(client, prefix="old", queue=PriorityQueue, slots=NO_SLOTS):
    taken = TakenOver()
    frontier = Worker(client, newest_first=queue is LifoQueue).frontier
    project = PROJECT | {"discipline": queue, "slots": slots}
    async for _ in take_over(frontier, prefix, taken, **project):
        pass
    return taken


async def pending(client):
    """URLs in the order of their leases."""
    members = await client.zrange(KEYS.requests, 0, -1)
    requests = [CODEC.decode(member[RANK:]) for member in members]
    assert all(r.callback == SPIDER.parse_item for r in requests)
    assert all(r.url == url(r.meta["n"]) for r in requests)
    return [r.meta["n"] for r in requests]


@pytest.mark.parametrize("prefix", ["old", "s"])
async def test_a_priority_queue_is_taken_over(client, prefix):
    members = {theirs(n, priority=n): -n for n in range(250)}
    await client.zadd(f"{prefix}:requests", members)
    taken = await take(client, prefix)
    assert (taken.requests, taken.left) == (250, 0)
    assert await pending(client) == list(range(249, -1, -1))
    assert parse(REQUESTS, await first_member(client)).score == -249
    # Links to what is pending are duplicates.
    names = {default(Request(url(n))) for n in range(250)}
    assert {n.decode() for n in await client.smembers(KEYS.dupefilter)} == names
    assert prefix == "s" or not await client.exists("old:requests")


async def first_member(client):
    [member] = await client.zrange(KEYS.requests, 0, 0)
    return member


@pytest.mark.parametrize("prefix", ["old", "s"])
@pytest.mark.parametrize("queue", [PriorityQueue, LifoQueue])
async def test_a_list_keeps_its_order(client, prefix, queue):
    # Both disciplines of scrapy-redis push to the left.
    for n in range(250):
        await client.lpush(f"{prefix}:requests", theirs(n))
    taken = await take(client, prefix, queue)
    assert (taken.requests, taken.left) == (250, 0)
    order = list(range(250))
    assert await pending(client) == (order if queue is not LifoQueue else order[::-1])
    assert not await client.exists("old:requests", "s:requests:scrapy_redis")


async def test_each_is_taken_into_the_slot_of_its_host(client):
    hosts = {n: f"host{n % 3}" for n in range(9)}
    for n, host in hosts.items():
        fields = Request(f"http://{host}/{n}").to_dict()
        await client.lpush("old:requests", pickle.dumps(fields, protocol=-1))
    await take(client, queue=SlotQueue, slots=Slots(host_of))
    found = {}
    for host in set(hosts.values()):
        number = slot_number(host)
        members = await client.zrangebyscore(KEYS.requests, number, number)
        urls = [CODEC.decode(member[RANK:]).url for member in members]
        found |= {int(url.rsplit("/")[-1]): host for url in urls}
        # In the order in which scrapy-redis would have taken them.
        assert urls == sorted(urls)
    assert found == hosts
    slots = {int(slot) for slot in await client.zrange(KEYS.slots, 0, -1)}
    assert slots == {slot_number(host) for host in hosts.values()}


async def test_what_is_not_to_be_filtered_gets_no_fingerprint(client):
    await client.zadd("old:requests", {theirs(1, dont_filter=True): 0})
    await take(client)
    assert await pending(client) == [1]
    assert not await client.exists(KEYS.dupefilter)


async def test_fingerprints_and_seeds_are_taken_over(client):
    names = [f"{n:040x}" for n in range(300)]
    await client.sadd("old:dupefilter", *names)
    await client.rpush("old:start_urls", "http://a/", "http://b/")
    taken = await take(client)
    assert (taken.fingerprints, taken.seeds, taken.left) == (300, 2, 0)
    assert taken.has_fingerprints
    found = await contents(client)
    assert found == {
        "s:dupefilter": {name.encode() for name in names},
        "s:start_urls": [b"http://a/", b"http://b/"],
    }


async def test_seeds_are_not_mixed_with_those_that_are_there(client):
    await client.rpush("old:start_urls", "http://a/")
    await client.rpush("s:start_urls", "http://b/")
    before = await contents(client)
    taken = await take(client)
    assert taken.left == 1
    assert taken.reasons == ["1 seed stays in 'old:start_urls': 's:start_urls' exists"]
    assert await contents(client) == before


async def test_what_cannot_be_converted_stays_with_its_reason(client):
    bad = {
        b"\x80no pickle": 0,
        pickle.dumps({"no": "url"}, protocol=-1): 0,
        pickle.dumps({"url": "http://a/", "callback": "gone"}, protocol=-1): 0,
    }
    await client.zadd("old:requests", bad | {theirs(1): 0})
    taken = await take(client)
    assert (taken.requests, taken.left) == (1, 3)
    assert len(taken.reasons) == 3
    assert set(await client.zrange("old:requests", 0, -1)) == set(bad)
    assert await pending(client) == [1]


async def test_in_a_list_the_others_are_reached_behind_what_stays(client):
    bad = [b"\x80%d" % n for n in range(150)]
    await client.rpush("old:requests", theirs(1), *bad, theirs(2), *bad)
    taken = await take(client)
    assert (taken.requests, taken.left) == (2, 300)
    assert await client.lrange("old:requests", 0, -1) == [*bad, *bad]


async def test_our_own_requests_stay_what_they_are(client):
    worker = await Worker(client).join()
    await worker.push("ours")
    await client.zadd(KEYS.requests, {theirs(1): 0})
    taken = await take(client, "s")
    assert (taken.requests, taken.left) == (1, 0)
    found = [m[RANK:] for m in await client.zrange(KEYS.requests, 0, -1)]
    assert found[0] == b"ours"
    assert len(found) == 2


async def test_a_wrong_prefix_is_noticed(client):
    await client.set("old:requests", "x")
    with pytest.raises(ConfigurationError, match="Is the prefix right"):
        await take(client)


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (
            Request("http://example.org/b?z=1&a=2#x"),
            "d307f54620efab3d27fd4b6821ff4de04b2e7728",
        ),
        (
            Request("http://example.org/", method="POST", body=b"\xff1"),
            "d46854bcc3a1665603ce2d647bd3a904d26a107d",
        ),
    ],
)
def test_fingerprints_are_those_of_scrapy_redis(request_, name):
    # What scrapy_redis.dupefilter.RFPDupeFilter.request_fingerprint returns.
    assert ScrapyRedisFingerprinter().fingerprint(request_).hex() == name


@pytest.mark.keeps("old", reason="a list of scrapy-redis")
async def test_of_equal_requests_in_a_list_each_is_moved_by_itself(client):
    """From the end where scrapy-redis takes its next; the others keep their places."""
    worker = await Worker(client).join()
    await client.rpush("old", "x", "y", "x")
    found = ["x", "", encode_score(0), 0, b"payload of x"]
    names = {"seen": KEYS.dupefilter, "old": "old", "found": found}
    assert await worker.call(worker.frontier.call("takeover", int, **names)) == 1
    assert await client.lrange("old", 0, -1) == [b"x", b"y"]
    assert await worker.call(worker.frontier.call("takeover", int, **names)) == 1
    assert await client.lrange("old", 0, -1) == [b"y"]
    assert await worker.call(worker.frontier.call("takeover", int, **names)) == 0
    assert await client.zcard(KEYS.requests) == 2


async def test_seeds_stay_where_the_spider_reads_none(client):
    await client.rpush("old:start_urls", "http://a/", "http://b/")
    frontier = Worker(client).frontier
    frontier.seed_keys = ()
    taken = TakenOver()
    project = PROJECT | {"discipline": PriorityQueue, "slots": NO_SLOTS}
    async for _ in take_over(frontier, "old", taken, **project):
        pass
    assert (taken.seeds, taken.left) == (0, 2)
    assert taken.reasons == ["2 seeds stay in 'old:start_urls': this spider reads none"]
    assert await client.lrange("old:start_urls", 0, -1) == [b"http://a/", b"http://b/"]


@pytest.mark.parametrize("kind", ["list", "set", "zset"])
async def test_seeds_of_each_kind_are_counted_and_moved(client, kind):
    names = [f"http://a/{n}" for n in range(150)]
    if kind == "list":
        await client.rpush("old:start_urls", *names)
    elif kind == "set":
        await client.sadd("old:start_urls", *names)
    else:
        await client.zadd("old:start_urls", dict.fromkeys(names, 1))
    taken = await take(client)
    assert (taken.seeds, taken.left) == (150, 0)
    assert (await client.type("s:start_urls")).decode() == kind
    assert not await client.exists("old:start_urls")


async def test_seeds_that_are_ours_already_stay(client):
    await client.rpush("s:start_urls", "http://a/")
    taken = await take(client, "s")
    assert (taken.seeds, taken.left, taken.reasons) == (0, 0, [])
    assert await client.lrange("s:start_urls", 0, -1) == [b"http://a/"]
