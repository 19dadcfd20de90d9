"""Fingerprints seen from outside, in one set and in buckets."""

from __future__ import annotations

import random
from hashlib import sha1

import pytest

from scrapy_dist.brokers.redis import fingerprints
from scrapy_dist.brokers.redis.buckets import LOAD, compact
from scrapy_dist.brokers.redis.layout import RANK
from scrapy_dist.brokers.redis.tools.clear import recrawl
from scrapy_dist.brokers.redis.tools.export import export_lines
from scrapy_dist.brokers.redis.tools.import_ import import_lines
from scrapy_dist.codec.dump_lines import dump
from scrapy_dist.core.crawl import Exported, Imported
from scrapy_dist.core.frontier import NewRequest
from scrapy_dist.exceptions import ConfigurationError
from tests.support.frontiers import KEYS, Worker


def some(count):
    numbers = random.Random(count)
    return [sha1(numbers.randbytes(8)).hexdigest() for _ in range(count)]


async def everything(frontier):
    return [name async for names in fingerprints.scan(frontier) for name in names]


@pytest.fixture(params=[False, True], ids=["set", "buckets"])
def is_compact(request):
    return request.param


@pytest.fixture
async def worker(client, is_compact):
    return await Worker(client, compact=is_compact).join()


async def test_what_is_added_is_seen(worker, is_compact):
    names = some(30 * LOAD)
    await fingerprints.add(worker.frontier, names)
    await fingerprints.add(worker.frontier, names[:500])
    assert await fingerprints.count(worker.frontier) == len(names)
    assert await fingerprints.is_seen(worker.frontier, names[7])
    assert not await fingerprints.is_seen(worker.frontier, "0" * 40)
    kept = [compact(name) for name in names] if is_compact else names
    assert sorted(await everything(worker.frontier)) == sorted(kept)


async def test_workers_filter_by_what_was_added(worker, is_compact):
    [name] = some(1)
    await fingerprints.add(worker.frontier, [name])
    if is_compact:
        name = compact(name)
    reply = await worker.commit([NewRequest(b"x", 0, name)])
    assert list(reply.duplicates) == [0]


async def test_empty_frontier_has_seen_nothing(worker):
    assert await everything(worker.frontier) == []
    assert await fingerprints.count(worker.frontier) == 0
    assert not await fingerprints.is_seen(worker.frontier, "0" * 40)


async def test_kind_is_that_of_what_is_there(client, worker, is_compact):
    await fingerprints.add(worker.frontier, some(3))
    other = Worker(client, compact=not is_compact)
    kind = fingerprints.COMPACT if is_compact else fingerprints.HEX
    assert await fingerprints.kind_of(other.frontier) == kind
    await fingerprints.add(other.frontier, some(4))
    assert await fingerprints.count(worker.frontier) == 7


async def test_recrawled_request_is_pending_and_seen(client, worker, is_compact):
    [name] = some(1)
    new = NewRequest(b"x", 2.0, compact(name) if is_compact else name)
    await recrawl(worker.frontier, [new, NewRequest(b"y", 1.0)])
    assert await fingerprints.is_seen(worker.frontier, name)
    assert await fingerprints.count(worker.frontier) == 1
    members = await client.zrange(KEYS.requests, 0, -1)
    assert [member[RANK:] for member in members] == [b"y", b"x"]


async def exported(frontier):
    lines = export_lines(frontier, Exported(), spider="s")
    return [f"{dump(line)}\n".encode() async for found in lines for line in found]


async def bring_in(frontier, lines):
    async for _ in import_lines(frontier, lines, Imported()):
        pass


async def test_whole_fingerprints_become_compact_ones(client):
    worker = await Worker(client).join()
    names = some(300)
    new = [NewRequest(b"\x01\x80", 0, name) for name in names[:9]]
    await worker.commit([*new, NewRequest(b"\x01\x80", 0, names[9], 1)])
    await fingerprints.add(worker.frontier, names)
    lines = await exported(worker.frontier)
    await client.flushdb()
    other = Worker(client, compact=True)
    await bring_in(other.frontier, lines)
    assert await fingerprints.count(other.frontier) == 300
    assert all([await fingerprints.is_seen(other.frontier, name) for name in names])
    assert await fingerprints.is_start(other.frontier, names[9])


async def test_compact_fingerprints_stay_compact(client):
    worker = await Worker(client, compact=True).join()
    names = some(300)
    await fingerprints.add(worker.frontier, names)
    lines = await exported(worker.frontier)
    await client.flushdb()
    other = Worker(client)
    await bring_in(other.frontier, lines)
    assert await client.type(KEYS.dupefilter) == b"hash"
    assert all([await fingerprints.is_seen(other.frontier, name) for name in names])


async def test_compact_fingerprints_do_not_go_into_a_set(client):
    worker = await Worker(client, compact=True).join()
    await fingerprints.add(worker.frontier, some(3))
    lines = await exported(worker.frontier)
    await client.flushdb()
    other = Worker(client)
    await fingerprints.add(other.frontier, some(3))
    with pytest.raises(ConfigurationError, match="CompactDupeFilter"):
        await bring_in(other.frontier, lines)
