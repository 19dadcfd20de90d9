"""A frontier goes into lines of JSON and comes out again."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
import redis.asyncio
from scrapy.settings import Settings

from scrapy_dist import serializer
from scrapy_dist.connection import close_client
from scrapy_dist.exceptions import BadPayload, ConfigurationError
from scrapy_dist.exportfile import dump, load, payload_of, show_payload
from scrapy_dist.exporting import Exported, export_lines
from scrapy_dist.frontier import Commit, NewRequest, Page
from scrapy_dist.importing import Imported, import_lines
from scrapy_dist.options import Options
from tests.support.frontiers import KEYS, Worker, contents, names, places

OPTIONS = Options.from_settings(Settings())
LIFO = Options.from_settings(
    Settings({"SCHEDULER_QUEUE_CLASS": "scrapy_dist.queue.LifoQueue"})
)


def request(name, **fields):
    return b"\x01" + serializer.dumps({"url": f"http://site/{name}", **fields})


async def export(frontier, **options):
    exported = Exported()
    lines = export_lines(frontier, exported, spider="s", **options)
    found = [line async for some in lines for line in some]
    assert exported.is_whole
    return [f"{dump(line)}\n".encode() for line in found]


async def bring_in(frontier, lines, options=OPTIONS, **more):
    imported = Imported()
    async for _ in import_lines(frontier, lines, imported, options, **more):
        pass
    return imported


def kinds(lines):
    return [json.loads(line)["type"] for line in lines]


@pytest.fixture
async def worker(client):
    return await Worker(client).join()


@pytest.fixture
async def fill(client, worker):
    """Pending, leased and suspect requests, seeds, letters, items and stats."""
    other = await Worker(client).join()
    await worker.commit(
        [NewRequest(request(n), 1.5, f"fp{n}") for n in range(3)]
        + [NewRequest(request("start"), -1, "!fpstart")]
    )
    await other.lease(1)
    await other.dies(worker)
    await worker.lease(1, suspect=False)
    await worker.lease(1, suspect=False)
    await client.rpush("s:start_urls", "http://a/", b"\xff\xfe", '{"url": "http://b/"}')
    await client.zadd("s:more_urls", {"http://low/": 1, "http://high/": 2.5})
    letter = {"payload": request("bad"), "reason": "é", "worker": "h:1"}
    letter |= {"deliveries": 2, "time": 3, "kind": "request"}
    await client.xadd(KEYS.failed, letter)
    await client.xadd(KEYS.failed, letter | {"payload": b"x y", "kind": "seed"})
    await client.rpush(KEYS.items, "1", "2", b"\xff")
    await client.hset(KEYS.stats, "pages", "7")


async def test_all_of_a_frontier_comes_back(client, worker, fill):
    before = await contents(client)
    lines = await export(worker.frontier, items=True)
    await client.flushdb()

    imported = await bring_in(worker.frontier, lines)

    assert imported.is_complete
    assert imported.spider == "s"
    after = await contents(client)
    for key in ("dupefilter", "started", "start_urls", "more_urls", "items", "stats"):
        assert after[f"s:{key}"] == before[f"s:{key}"], key
    assert [f for _, f in after["s:failed"]] == [f for _, f in before["s:failed"]]
    # What was leased is pending, and comes first again; nothing else was lost.
    pending = await client.zrange(KEYS.requests, 0, -1, withscores=True)
    assert [(m[16:], s) for m, s in pending] == [(request(n), 1.5) for n in range(3)]
    [(suspect, score)] = await client.zrange(KEYS.suspects, 0, -1, withscores=True)
    assert (suspect[16:], score) == (b"1 - " + request("start"), -1)
    assert {b"order", b"active"} == set(after["s:state"])


async def test_without_items_they_are_not_in_the_file(worker, fill):
    lines = await export(worker.frontier)
    assert "item" not in kinds(lines)
    assert kinds(lines)[0] == "frontier"
    assert kinds(lines)[-1] == "end"


@pytest.mark.parametrize("options", [OPTIONS, LIFO])
async def test_equal_priorities_keep_their_order(client, options):
    newest_first = options is LIFO
    worker = await Worker(client, newest_first=newest_first).join()
    for at in range(0, 350, 50):
        some = [NewRequest(request(n), n % 2) for n in range(at, at + 50)]
        await worker.commit(some)
    order = [m[16:] for m in await client.zrange(KEYS.requests, 0, -1)]
    lines = await export(worker.frontier)
    await client.flushdb()
    await bring_in(worker.frontier, lines, options)
    found = [m[16:] for m in await client.zrange(KEYS.requests, 0, -1)]
    assert found == order
