"""CompactDupeFilter: fingerprints of 64 bits in buckets that are split one by one."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from scrapy_dist.brokers.redis.buckets import LOAD, Shape, compact
from scrapy_dist.brokers.redis.fingerprints import sweep
from scrapy_dist.brokers.redis.types import check_types
from scrapy_dist.core.frontier import BATCH, Claim, NewRequest, Outcome
from scrapy_dist.exceptions import ConfigurationError
from tests.support.frontiers import KEYS, ON_REDIS_ONLY, Worker, contents, dump, restore

#: The ends of what an integer set can hold, and what digits could go wrong about.
FINGERPRINTS = ["0", "-1", "999999999", "1000000000", str(2**63 - 1), str(-(2**63))]


async def add(worker, fingerprints):
    """Commit requests with these fingerprints; those that were new.

    (fingerprint, n): the n-th such request of ``start()``.
    """
    new = []
    for first in range(0, len(fingerprints), BATCH):
        batch = fingerprints[first : first + BATCH]
        reply = None
        while reply is None or reply.outcome is Outcome.AGAIN:
            grow = worker.frontier.grow()
            if grow is not None:
                await worker.call(grow)
            requests = [
                NewRequest(b"x", 0, each)
                if isinstance(each, str)
                else NewRequest(b"x", 0, *each)
                for each in batch
            ]
            reply = await worker.commit(requests, number=worker.commits + 1)
        worker.commits += 1
        filtered = set(reply.duplicates)
        new += [f for i, f in enumerate(batch) if i not in filtered]
    return new


async def join(client):
    return await Worker(client, compact=True).join()


async def shape_of(client):
    found = await client.hgetall(KEYS.dupefilter)
    return Shape(
        KEYS.dupefilter,
        found[b"epoch"].decode(),
        int(found[b"buckets"]),
        int(found[b"count"]),
    )


def some(count, seed=1):
    numbers = random.Random(seed)
    return [str(numbers.getrandbits(64) - 2**63) for _ in range(count)]


def test_fingerprint_is_a_number_of_64_bits():
    assert compact("5d4e") == "2120964789150552559"


@pytest.mark.parametrize("start", ["68747470733a2f2f", "", "0" * 36])
def test_fingerprints_that_begin_alike_are_kept_apart(start):
    """A fingerprinter of a project may give any bytes, e.g. those of the URL."""
    numbers = {int(compact(f"{start}{n:04x}")) for n in range(5000)}
    assert len(numbers) == 5000
    assert all(-(2**63) <= number < 2**63 for number in numbers)
    shape = Shape("k", "1", 16)
    sizes = Counter(shape.place(str(number)) for number in numbers)
    assert max(sizes.values()) < 2 * min(sizes.values())


@pytest.mark.parametrize("buckets", [1, 2, 3, 5, 8, 13, 1000, 1024])
def test_every_fingerprint_has_one_of_the_buckets(buckets):
    shape = Shape("k", "1", buckets)
    names = {shape.name(n) for n in range(buckets)}
    assert {shape.place(f) for f in some(20_000)} == names


async def test_each_fingerprint_is_new_once(client):
    worker = await join(client)
    fingerprints = some(1000)
    assert await add(worker, fingerprints) == fingerprints
    assert await add(worker, fingerprints) == []


async def test_extreme_numbers_are_kept_apart(client):
    worker = await join(client)
    assert await add(worker, FINGERPRINTS) == FINGERPRINTS
    assert await add(worker, FINGERPRINTS) == []


async def test_same_fingerprint_twice_in_one_commit_is_new_once(client):
    worker = await join(client)
    assert await add(worker, ["5", "5", "6"]) == ["5", "6"]


async def test_buckets_are_split_and_nothing_is_forgotten(client):
    worker = await join(client)
    fingerprints = some(20 * LOAD) + FINGERPRINTS
    assert await add(worker, fingerprints) == fingerprints
    shape = await shape_of(client)
    assert shape.count == len(fingerprints)
    assert 15 <= shape.buckets <= 21
    for number in range(shape.buckets):
        name = shape.name(number)
        members = {member.decode() for member in await client.smembers(name)}
        assert members == {f for f in fingerprints if shape.place(f) == name}
    assert await add(worker, fingerprints) == []


@ON_REDIS_ONLY
async def test_buckets_stay_small_sets_of_integers(client):
    worker = await join(client)
    await add(worker, some(100 * LOAD))
    shape = await shape_of(client)
    sizes = [await client.scard(shape.name(n)) for n in range(shape.buckets)]
    assert max(sizes) <= 512
    for number in range(shape.buckets):
        assert await client.object("ENCODING", shape.name(number)) == b"intset"


async def test_worker_that_knows_old_buckets_is_told_the_new_ones(client):
    first, second = await join(client), await join(client)
    await add(second, ["1"])
    old = second.frontier.shape
    fingerprints = some(10 * LOAD)
    await add(first, fingerprints)
    assert second.frontier.shape == old
    assert await add(second, fingerprints) == []
    shapes = [each.frontier.shape for each in (first, second)]
    assert len({shape.buckets.bit_length() for shape in shapes}) == 1


async def test_worker_that_knows_more_buckets_than_there_are_is_told_so(client):
    """Redis went back to an earlier state, with fewer buckets of the same level."""
    worker = await join(client)
    fingerprints = some(5 * LOAD - 50)
    await add(worker, fingerprints)
    snapshot = await dump(client)
    await add(worker, some(2 * LOAD, seed=2))
    assert worker.frontier.shape.buckets > 5
    await restore(client, snapshot)
    assert (await shape_of(client)).buckets < worker.frontier.shape.buckets
    worker.commits = int(await client.hget(KEYS.state, f"commit:{worker.number}"))
    claims = [Claim(fingerprint, []) for fingerprint in fingerprints[:100]]
    assert await worker.call(worker.frontier.claim(claims)) is None
    worker.frontier.shape = Shape(KEYS.dupefilter, worker.frontier.shape.epoch, 7)
    assert await add(worker, fingerprints) == []


async def test_several_workers_split_without_losing_anything(client):
    workers = [await join(client) for _ in range(3)]
    fingerprints = some(30 * LOAD)
    new = []
    for first in range(0, len(fingerprints), BATCH):
        batch = fingerprints[first : first + BATCH]
        for worker in workers:  # two of three know less than they should
            new += await add(worker, batch)
    assert new == fingerprints
    assert (await shape_of(client)).count == len(fingerprints)


async def test_split_of_other_buckets_than_are_there_does_nothing(client):
    worker = await join(client)
    await add(worker, some(3 * LOAD))
    worker.frontier.shape = Shape(KEYS.dupefilter, "1", 1, 10**6)
    before = await contents(client)
    await worker.call(worker.frontier.grow())
    assert await contents(client) == before
    assert worker.frontier.shape == await shape_of(client)


async def test_start_request_is_remembered_for_links_too(client):
    worker = await join(client)
    first, second, third = ("5", 1), ("5", 2), ("5", 3)
    assert await add(worker, [first]) == [first]
    assert await add(worker, [first, "5"]) == []
    assert await add(worker, [second, "7"]) == [second, "7"]
    assert await add(worker, [second, "5", third]) == [third]
    assert (await shape_of(client)).count == 2


@ON_REDIS_ONLY
async def test_claims_and_commits_share_the_fingerprints(client):
    worker = await join(client)
    fingerprints = some(5 * LOAD)
    await add(worker, fingerprints[1:])
    claims = [Claim(fingerprint, []) for fingerprint in fingerprints[:3]]
    assert await worker.call(worker.frontier.claim(claims)) == [True, False, False]
    assert await add(worker, fingerprints[:1]) == []
    assert (await shape_of(client)).count == len(fingerprints)


@ON_REDIS_ONLY
async def test_claim_for_other_buckets_is_to_be_asked_again(client):
    first, second = await join(client), await join(client)
    await add(first, some(5 * LOAD))
    before = await contents(client)
    claims = [Claim("5", []), Claim("6", [], 1)]
    assert await second.call(second.frontier.claim(claims)) is None
    assert await contents(client) == before
    assert await second.call(second.frontier.claim(claims)) == [True, True]


@ON_REDIS_ONLY
async def test_first_claim_of_a_crawl_is_asked_twice(client):
    worker = await join(client)
    assert await worker.call(worker.frontier.claim([Claim("5", [])])) is None
    assert await worker.call(worker.frontier.claim([Claim("5", [])])) == [True]


@pytest.mark.parametrize("way", ["flush", "leave"])
async def test_cleared_crawl_is_forgotten_at_once_and_swept_later(client, way):
    worker = await join(client)
    fingerprints = some(5 * LOAD)
    await add(worker, fingerprints)
    leases = await worker.lease(100)
    while leases:
        await worker.ack(*leases)
        leases = await worker.lease(100)
    assert await worker.leave(finished=way == "leave") is (way == "leave")
    new = Worker(client, compact=True)
    await new.register(flush=way == "flush")
    assert await add(new, fingerprints[:5]) == fingerprints[:5]
    left = [key async for key in client.scan_iter(f"{KEYS.dupefilter}:*")]
    assert len(left) > 3
    assert await sweep(new.frontier) == len(left) - 1
    [bucket] = [key async for key in client.scan_iter(f"{KEYS.dupefilter}:*")]
    assert bucket.decode() == (await shape_of(client)).name(0)
    assert await add(new, fingerprints[:5]) == []


async def test_sweep_leaves_nothing_behind(client):
    worker = await join(client)
    await add(worker, ["5"])
    for _ in range(2):
        [lease] = await worker.lease() or [None]
        if lease:
            await worker.ack(lease)
        if await worker.leave(finished=True):
            break
    assert await sweep(worker.frontier) == 1
    assert set(await contents(client)) == {KEYS.history}
    assert await sweep(worker.frontier) == 0


@pytest.mark.parametrize("compact_first", [True, False])
async def test_fingerprints_of_the_other_kind_are_refused(client, compact_first):
    first = await Worker(client, compact=compact_first).join()
    if compact_first:
        await add(first, ["5"])
    else:
        await first.commit([NewRequest(b"x", 0, "fp")])
    await check_types(first.frontier)
    other = Worker(client, compact=not compact_first)
    with pytest.raises(ConfigurationError, match="DUPEFILTER_CLASS") as caught:
        await check_types(other.frontier)
    named = "CompactDupeFilter" if compact_first else "RFPDupeFilter"
    assert named in str(caught.value)


async def test_foreign_key_is_named(client):
    await client.set(KEYS.dupefilter, "x")
    for compacted in (True, False):
        worker = Worker(client, compact=compacted)
        with pytest.raises(ConfigurationError, match="is a string"):
            await check_types(worker.frontier)
