"""What people ask of workers: pause, resume, stop; and what workers tell people."""

from __future__ import annotations

import json

from scrapy_dist.core.frontier import BATCH, Settlement
from scrapy_dist.worker.progress import Progress, memory
from tests.support.frontiers import KEYS, SEED_KEYS, Worker, names


async def test_nothing_is_leased_while_paused(client):
    worker = await Worker(client).join()
    await worker.push("a")
    await client.rpush(SEED_KEYS[0], "seed")
    assert await worker.call(worker.frontier.pause(True)) == (False, 1)
    assert await worker.lease() == []
    assert await worker.seeds() == []
    assert (await worker.heartbeat()).paused
    assert await worker.call(worker.frontier.pause(False)) == (True, 1)
    assert names(await worker.lease()) == ["a"]
    assert len(await worker.seeds()) == 1
    assert not (await worker.heartbeat()).paused


async def test_what_is_held_is_finished_while_paused(client):
    worker = await Worker(client).join()
    await worker.push("a", "b")
    done, given_back = await worker.lease()
    await worker.call(worker.frontier.pause(True))
    assert (await worker.ack(done)).not_owned == 0
    assert await worker.release(given_back) == 1
    assert await client.zcard(KEYS.requests) == 1


async def test_paused_lease_says_what_is_left(client):
    worker = await Worker(client).join()
    await worker.push("a", "b")
    await worker.call(worker.frontier.pause(True))
    reply = await worker.call(worker.frontier.lease(BATCH, suspects=8))
    assert (reply.known, reply.left.pending, reply.leases) == (True, 2, [])


async def test_time_of_a_pause_is_that_of_the_first(client):
    worker = await Worker(client).join()
    await worker.call(worker.frontier.pause(True))
    await client.hset(KEYS.control, "paused", "1")
    assert await worker.call(worker.frontier.pause(True)) == (True, 1)
    assert await client.hget(KEYS.control, "paused") == b"1"


async def test_only_the_worker_that_is_asked_stops(client):
    asked = await Worker(client).join()
    other = await Worker(client).join()
    assert await other.call(other.frontier.stop([asked.number, "7"])) == 1
    assert (await asked.heartbeat()).stop
    assert not (await other.heartbeat()).stop


async def test_wish_to_stop_ends_with_the_worker(client):
    left = await Worker(client).join()
    dead = await Worker(client).join()
    other = await Worker(client).join()
    await other.call(other.frontier.stop([left.number, dead.number]))
    await left.leave()
    await dead.dies(other)
    assert await client.exists(KEYS.control) == 0


async def test_facts_stay_until_the_worker_is_gone(client):
    worker = await Worker(client).join()
    await worker.call(worker.frontier.heartbeat("facts"))
    await worker.heartbeat()
    field = f"beat:{worker.number}"
    assert await client.hget(KEYS.state, field) == b"facts"
    await worker.leave()
    assert await client.hget(KEYS.state, field) is None


async def test_acknowledged_pages_are_counted_once(client):
    worker = await Worker(client).join()
    await worker.push("a", "b", "c")
    first, second, third = await worker.lease()
    await worker.ack(first, second)
    await worker.commit(pages=[], number=worker.commits)  # a repeat
    await worker.release(third)
    assert await client.hget(KEYS.state, "pages") == b"2"


async def test_seeds_are_no_pages(client):
    worker = await Worker(client).join()
    await worker.push("a")
    [page] = await worker.lease()
    await client.rpush(SEED_KEYS[0], "seed")
    [seed] = await worker.seeds()
    await worker.commit(pages=[Settlement(page.id), Settlement(seed.id, counts=False)])
    assert await client.hget(KEYS.state, "pages") == b"1"


def test_rate_is_that_of_the_last_minute(monkeypatch):
    now = 1000.0
    monkeypatch.setattr("scrapy_dist.worker.progress.time.monotonic", lambda: now)
    progress = Progress()
    for _ in range(120):
        now += 1.0
        progress.add(10)
        rate = progress.rate()
    assert rate == 10
    for _ in range(61):
        now += 1.0
        rate = progress.rate()
    assert rate == 0


def test_rate_of_the_first_moments_is_no_guess(monkeypatch):
    now = 1000.0
    monkeypatch.setattr("scrapy_dist.worker.progress.time.monotonic", lambda: now)
    progress = Progress()
    progress.add(5)
    now += 0.001
    assert progress.rate() == 5


def test_facts_are_json():
    info = json.loads(Progress().info())
    assert info.keys() == {"pages", "failed", "pages_per_second", "memory"}
    assert 1_000_000 < info["memory"] <= 2 * memory()
