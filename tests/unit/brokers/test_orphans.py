"""A worker that has nothing to do puts back what belongs to nobody."""

from __future__ import annotations

import pytest
from scrapy import Spider

from scrapy_dist.brokers.redis.orphans import Orphans
from scrapy_dist.core.frontier import Counts
from tests.support.frontiers import (
    KEYS,
    SEED_KEYS,
    Worker,
    dead_letters,
    member,
    names,
    places,
)


async def search(orphans, worker):
    """One whole search, if there is a reason for it; steps that it took."""
    orphans.told(await worker.call(worker.frontier.drained()))
    steps = 0
    while orphans.is_searching:
        await orphans.step()
        steps += 1
    return steps


def orphans_of(worker):
    return Orphans(worker.frontier, Spider("s"))


async def test_whole_frontier_is_not_searched(client):
    worker = await Worker(client).join()
    await worker.push("a")
    await worker.lease()
    assert await search(orphans_of(worker), worker) == 0


async def test_payloads_without_a_lease_go_back_to_where_they_came_from(client, caplog):
    doomed, worker = await Worker(client).join(), await Worker(client).join()
    await doomed.push("suspect")
    await doomed.lease()
    await doomed.dies(worker)
    await worker.push("a", "b", score=3)
    await client.rpush(SEED_KEYS[0], "seed")
    held = [*await worker.lease(), *await worker.seeds()]
    assert len(held) == 4
    await client.delete(KEYS.leases)
    assert await search(orphans_of(worker), worker) > 0
    assert await places(client) == {
        "pending": ["\0seed", "a", "b"],
        "suspects": ["suspect"],
        "leased": [],
    }
    assert caplog.text.count("4 requests in s:leased had no lease in s:leases") == 1


async def test_many_go_back_some_at_a_time_beside_living_leases(client):
    worker = await Worker(client).join()
    for n in range(10):
        await worker.push(*(f"{n}-{i}" for i in range(100)))
    leases = [lease for _ in range(10) for lease in await worker.lease(100)]
    gone = [lease.id for lease in leases[::3]]
    await client.zrem(KEYS.leases, *gone)
    await search(orphans_of(worker), worker)
    assert await client.zcard(KEYS.requests) == len(gone)
    assert len(await worker.frontier.leases_held()) == 1000 - len(gone)
    assert await client.hlen(KEYS.leased) == 1000 - len(gone)


@pytest.mark.parametrize("backend", ["redis"], indirect=True)
@pytest.mark.parametrize(
    "value",
    [
        b"junk",
        b"0 0 - junk",
        b"nan 0 - RANK.",
        b"1e 0 - RANK.",
        b"0x1 0 - RANK.",
        b"0 x - RANK.",
        b" 0 0 - RANK.",
        b"0 0 - RANK"[:-1] + b"g",
    ],
)
async def test_entry_of_another_form_is_set_aside(client, value):
    worker = await Worker(client).join()
    value = value.replace(b"RANK", member(b"", 9))
    await client.hset(KEYS.leased, f"{9:016x}", value)
    await search(orphans_of(worker), worker)
    [letter] = await dead_letters(client)
    assert letter["payload"] == value
    assert await client.hlen(KEYS.leased) == 0


@pytest.mark.parametrize(
    "slot", [b"-inf", b"+inf", b"inf", b"1.5e+3", b"-3", b"7.25", b"%d" % (2**52 - 1)]
)
async def test_slot_and_rank_of_an_orphan_are_kept(client, slot):
    worker = await Worker(client).join()
    ranked = member(b".", 9, score=-2.5)
    await client.hset(KEYS.leased, f"{9:016x}", slot + b" 0 - " + ranked)
    await search(orphans_of(worker), worker)
    assert await client.zscore(KEYS.requests, ranked) == float(slot)
    assert names(await worker.lease()) == ["."]


@pytest.mark.parametrize("backend", ["redis"], indirect=True)
async def test_payloads_stay_in_redis_while_orphans_are_looked_for(client):
    worker = await Worker(client).join()
    await worker.push(*(f"{n}" + "x" * 100_000 for n in range(20)))
    await worker.lease()
    await client.delete(KEYS.leases)
    before = (await client.info("stats"))["total_net_output_bytes"]
    await search(orphans_of(worker), worker)
    sent = (await client.info("stats"))["total_net_output_bytes"] - before
    assert await client.zcard(KEYS.requests) == 20
    assert sent < 100_000


@pytest.mark.parametrize("backend", ["redis"], indirect=True)
async def test_what_has_no_form_is_set_aside_where_there_is_room(client, caplog):
    worker = await Worker(client, failed_limit=1).join()
    await client.hset(KEYS.leased, mapping={f"{9:016x}": b"junk 1", b"x": b"junk 2"})
    orphans = orphans_of(worker)
    await search(orphans, worker)
    assert len(await dead_letters(client)) == 1
    assert await client.hlen(KEYS.leased) == 1
    assert caplog.text.count("1 entry of s:leased cannot be read") == 1
    assert await search(orphans, worker) == 0  # not again and again
    assert not (await worker.call(worker.frontier.drained())).is_drained


async def test_leases_of_unknown_workers_are_handed_out_again_after_the_ttl(
    client, caplog, monkeypatch
):
    worker, other = await Worker(client).join(), await Worker(client).join()
    await worker.push(*"ab")
    await other.lease(1)
    await client.zrem(KEYS.workers, other.number)
    now = 1000.0
    monkeypatch.setattr("scrapy_dist.brokers.redis.orphans.time.monotonic", lambda: now)
    orphans = orphans_of(worker)
    assert await search(orphans, worker) == 0
    now += 59
    assert await search(orphans, worker) == 0
    now += 2
    assert await search(orphans, worker) > 0
    assert names(await worker.lease()) == ["a", "b"]
    assert "held 1 request in s:leases. They are handed out again" in caplog.text
    # One that has registered again in the meantime keeps them.
    orphans.told(Counts(0, 0, 1, 0, 0.0, unknown=1))
    orphans.told(Counts(0, 0, 1, 0, 0.0))
    now += 100
    orphans.told(Counts(0, 0, 1, 0, 0.0, unknown=1))
    assert not orphans.is_searching
