"""Which dead letters are put back or deleted, and with which priority."""

from __future__ import annotations

import pytest
from scrapy import Request, Spider

from scrapy_dist.brokers.redis.layout import RANK, decode_score
from scrapy_dist.brokers.redis.tools.dead_letters import forget, retry
from scrapy_dist.brokers.redis.views.dead_letters import list_failed
from scrapy_dist.codec import compact
from scrapy_dist.codec.request import PayloadCodec
from tests.support.frontiers import KEYS, Worker

URL = "http://site.example/"
CODEC = PayloadCodec(Spider("s"))


async def write(client, payload, reason="HTTP 500"):
    letter = {"payload": payload, "reason": reason, "kind": "request"}
    letter |= {"worker": "host:1", "deliveries": 1, "time": 1700000000123}
    return (await client.xadd(KEYS.failed, letter)).decode()


@pytest.fixture
async def ids(client):
    """Of two reasons, in turn."""
    payload = CODEC.encode(Request(URL))
    reasons = ("HTTP 500", "timeout")
    return [await write(client, payload, reasons[n % 2]) for n in range(6)]


async def left(client):
    found = list_failed(Worker(client).frontier, newest_first=False)
    return [letter.id async for letter in found]


@pytest.mark.parametrize("work", [retry, forget])
@pytest.mark.parametrize(
    ("chosen", "reason", "expected"),
    [
        (None, "", range(6)),
        (None, "timeout", (1, 3, 5)),
        (None, "no such reason", ()),
        ((), "", ()),
        ((), "timeout", ()),
        ((1, 2), "", (1, 2)),
        ((1, 2, 2, 1), "", (1, 2)),
        ((1, 2, 3), "timeout", (1, 3)),
        ((0, 2), "timeout", ()),
    ],
)
async def test_those_that_are_named_and_of_the_reason_and_no_others(
    client, ids, work, chosen, reason, expected
):
    named = None if chosen is None else [ids[n] for n in chosen]
    done = await work(Worker(client).frontier, ids=named, reason=reason)
    gone = {ids[n] for n in expected}
    assert await left(client) == [id_ for id_ in ids if id_ not in gone]
    count = done.requests if work is retry else done.deleted
    assert count == len(gone)
    assert await client.zcard(KEYS.requests) == (len(gone) if work is retry else 0)


@pytest.mark.parametrize("work", [retry, forget])
async def test_names_of_letters_that_are_gone_are_counted(client, ids, work):
    named = ["1-0", *ids[:2], "2-0"]
    done = await work(Worker(client).frontier, ids=named, reason="")
    if work is retry:
        assert (done.missing, done.requests) == (2, 2)
    assert await left(client) == ids[2:]


@pytest.mark.parametrize(
    ("priority", "meta", "expected"),
    [
        (-2, {"retry_times": 2}, 0),
        (3, {"retry_times": 2}, 5),
        (-6, {"retry_times": 2, "priority_adjust": -3}, 0),
        (10, {"retry_times": 2, "priority_adjust": 5}, 0),
        (7, {"retry_times": 2, "priority_adjust": 0}, 7),
        (-2, {"retry_times": 2, "priority_adjust": "x"}, 0),
        (-2, {}, -2),
        (-2, {"retry_times": "2"}, -2),
        (-2, {"priority_adjust": -3}, -2),
    ],
)
async def test_the_priority_is_that_of_before_the_retries(
    client, priority, meta, expected
):
    request = Request(URL, priority=priority, meta=meta)
    await write(client, CODEC.encode(request))
    done = await retry(Worker(client).frontier, decode=CODEC.decode)
    assert done.requests == 1
    [member] = await client.zrange(KEYS.requests, 0, -1)
    found = CODEC.decode(member[RANK:])
    assert found.priority == expected
    assert decode_score(member[:8]) == -expected
    assert type(found.meta.get("retry_times")) is not int


@pytest.mark.parametrize("priority", ["high", None, 1.5, True, [1]])
async def test_a_priority_that_is_none_does_no_harm(client, priority):
    fields = {"url": URL, "priority": priority, "meta": {"retry_times": 1}}
    id_ = await write(client, b"\x01" + compact.dumps(fields))
    good = await write(client, CODEC.encode(Request(URL)))
    done = await retry(Worker(client).frontier, decode=CODEC.decode)
    assert (done.requests, done.unreadable) == (1, 1)
    assert await left(client) == [id_]
    assert good != id_


async def test_a_few_of_those_that_cannot_be_read_are_told(client):
    for n in range(30):
        await write(client, b"no request %d" % n)
    done = await retry(Worker(client).frontier, decode=CODEC.decode)
    assert done.unreadable == 30
    assert 0 < len(done.examples) <= 10
    assert len(await left(client)) == 30
