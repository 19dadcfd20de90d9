"""What is too large stays in Redis: its length travels, and a dead letter keeps its head."""

from __future__ import annotations

import pytest

from scrapy_dist.brokers.redis import link
from scrapy_dist.core.frontier import Reject
from tests.support.frontiers import KEYS, SEED_KEYS, Worker, dead_letters, names

LIMITS = {"max_payload": 1000, "max_seed": 500}
#: Above both limits, with what may be around a payload.
LARGE = b"x" * 5000


@pytest.fixture
async def worker(client):
    return await Worker(client, **LIMITS).join()


async def test_a_large_request_is_leased_and_does_not_travel(client, worker):
    await worker.push(b"1", LARGE, b"2", b"y" * 1000)
    leases = await worker.lease()
    assert [(lease.payload, lease.too_large) for lease in leases] == [
        (b"1", 0),
        (b"x", 5000),
        (b"2", 0),
        (b"y" * 1000, 0),
    ]
    large = leases[1]
    assert (await client.hget(KEYS.leased, large.id)).endswith(LARGE)
    # It can be given back as it was, or set aside with as much as is allowed.
    await worker.release(large)
    [again] = await worker.lease()
    assert again.too_large == 5000
    await worker.call(
        worker.frontier.reject([Reject(again.id, "request", "r")], max_size=10)
    )
    [letter] = await dead_letters(client)
    assert letter["payload"] == b"x" * 10
    await worker.ack(*leases[:1], *leases[2:])
    assert (await client.zcard(KEYS.leases), await client.hlen(KEYS.leased)) == (0, 0)


async def test_so_is_a_large_suspect(client, worker):
    doomed = await Worker(client, **LIMITS).join()
    await doomed.push(LARGE, b"1")
    await doomed.lease()
    await doomed.dies(worker)
    leases = await worker.lease()
    assert [(lease.payload, lease.too_large) for lease in leases] == [
        (b"x", 5000),
        (b"1", 0),
    ]
    assert leases[0].suspect


@pytest.mark.parametrize("kind", ["list", "set", "zset"])
async def test_a_large_seed_is_leased_and_does_not_travel(client, worker, kind):
    seeds = [b"http://1/", LARGE, b"y" * 500, b"y" * 501]
    if kind == "list":
        await client.rpush(SEED_KEYS[0], *seeds)
    elif kind == "set":
        await client.sadd(SEED_KEYS[0], *seeds)
    else:
        await client.zadd(SEED_KEYS[0], dict.fromkeys(seeds, 1))
    leases = await worker.seeds()
    found = {(lease.payload, lease.too_large) for lease in leases}
    assert found == {(b"http://1/", 0), (b"", 5000), (b"y" * 500, 0), (b"", 501)}
    assert not await client.exists(SEED_KEYS[0])
    for lease in leases:
        if lease.too_large:
            call = worker.frontier.reject([Reject(lease.id, "seed", "r")], max_size=10)
            await worker.call(call)
    letters = await dead_letters(client)
    assert sorted(letter["payload"] for letter in letters) == [b"x" * 10, b"y" * 10]
    assert {letter["kind"] for letter in letters} == {b"seed"}


async def test_a_reply_is_bounded_and_the_rest_comes_later(client, monkeypatch):
    monkeypatch.setattr(link, "REPLY_BYTES", 1000)
    worker = await Worker(client).join()
    await worker.push(*[b"%03d" % n + b"x" * 200 for n in range(40)])
    found = []
    while leases := await worker.lease():
        assert 1 <= len(leases) <= 5
        found += names(leases)
        await worker.ack(*leases)
    assert [name[:3] for name in found] == [f"{n:03}" for n in range(40)]


async def test_so_is_one_of_suspects(client, monkeypatch):
    monkeypatch.setattr(link, "REPLY_BYTES", 1000)
    doomed, worker = [await Worker(client).join() for _ in range(2)]
    await doomed.push(*[b"%d" % n + b"x" * 600 for n in range(6)])
    for _ in range(3):
        await doomed.lease()
    await doomed.dies(worker)
    found = []
    while leases := await worker.lease():
        assert len(leases) <= 2
        found += names(leases)
        await worker.ack(*leases)
    assert sorted(name[0] for name in found) == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize("kind", ["list", "set", "zset"])
async def test_so_is_one_of_seeds(client, monkeypatch, kind):
    monkeypatch.setattr(link, "REPLY_BYTES", 1000)
    worker = await Worker(client).join()
    seeds = [b"%03d" % n + b"x" * 200 for n in range(40)]
    if kind == "list":
        await client.rpush(SEED_KEYS[0], *seeds)
    elif kind == "set":
        await client.sadd(SEED_KEYS[0], *seeds)
    else:
        await client.zadd(SEED_KEYS[0], {seed: -n for n, seed in enumerate(seeds)})
    found = []
    while leases := await worker.seeds():
        # A few are read at once.
        assert 1 <= len(leases) <= 20
        found += [lease.payload for lease in leases]
        await worker.ack(*leases)
    assert sorted(found) == seeds
    if kind != "set":
        assert found == seeds


async def test_many_small_ones_still_come_in_one_reply(client, worker):
    await worker.push(*[b"%03d" % n for n in range(100)])
    assert names(await worker.lease()) == [f"{n:03}" for n in range(100)]
    await client.rpush(SEED_KEYS[0], *[b"%03d" % n for n in range(100)])
    assert [x.payload for x in await worker.seeds()] == [
        b"%03d" % n for n in range(100)
    ]


async def test_a_large_one_at_the_front_keeps_nobody_waiting(client, monkeypatch):
    monkeypatch.setattr(link, "REPLY_BYTES", 1000)
    worker = await Worker(client, **LIMITS).join()
    await worker.push(LARGE, b"1")
    assert [x.too_large for x in await worker.lease()] == [5000]
    assert names(await worker.lease()) == ["1"]
    assert not await client.exists(KEYS.requests)
