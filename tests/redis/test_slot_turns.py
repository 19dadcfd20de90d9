"""The turns of slots in Redis: what they hold, and what becomes of it when they are wrong."""

from __future__ import annotations

import pytest

from scrapy_dist.brokers.redis.tools.check import check
from scrapy_dist.codec import compact
from scrapy_dist.core.frontier import NewRequest
from scrapy_dist.core.politeness import Manners, Rules
from tests.support.frontiers import KEYS, ON_REDIS_ONLY, Worker

SLOTS = (1, 2, 3)
#: Milliseconds that no clock of a Redis has reached.
FAR_AHEAD = 2**51
LAST = 2**52 - 1


@pytest.fixture
async def worker(client):
    return await Worker(client).join()


async def fill(worker, per_slot, slots=SLOTS):
    await worker.commit(
        [
            NewRequest(b"%d %d" % (slot, n), n, slot=slot)
            for slot in slots
            for n in range(per_slot)
        ]
    )


async def turns(client):
    return [int(slot) for slot in await client.zrange(KEYS.slots, 0, -1)]


async def test_slots_are_known_exactly_as_long_as_they_have_requests(client, worker):
    await fill(worker, 2)
    assert sorted(await turns(client)) == [1, 2, 3]
    [*_, first, _] = await worker.lease(4)
    assert len(await turns(client)) == 2
    await worker.lease(2)
    assert await turns(client) == []
    await worker.release(first)
    assert await turns(client) == [first.slot]


async def test_turns_go_on_when_the_clock_has_gone_back(client, worker):
    await fill(worker, 4)
    await client.zadd(KEYS.slots, dict.fromkeys(map(str, SLOTS), FAR_AHEAD))
    leased = [(await worker.lease_one()).slot for _ in range(12)]
    assert leased == leased[:3] * 4
    assert sorted(leased[:3]) == [1, 2, 3]


async def test_turns_are_times_also_behind_the_marks_of_owners(client, worker):
    """As an earlier, polite crawl may have left them."""
    await fill(worker, 2)
    await client.zadd(KEYS.slots, {"1": 2**52 + 7})
    assert [(await worker.lease_one()).slot for _ in range(5)] == [2, 3, 2, 3, 1]
    [(slot, at)] = await client.zrange(KEYS.slots, 0, -1, withscores=True)
    assert (slot, at < 2**52) == (b"1", True)
    assert (await worker.lease_one()).slot == 1
    assert await turns(client) == []


async def test_new_requests_of_a_slot_do_not_take_its_turn_away(client, worker):
    await fill(worker, 1)
    await client.zadd(KEYS.slots, {"1": 1, "2": 2, "3": 3})
    await fill(worker, 1, slots=[1])
    again = await worker.lease_one()
    assert again.slot == 1
    await worker.release(again)
    assert [(await worker.lease_one()).slot for _ in range(2)] == [2, 3]


@pytest.mark.parametrize("count", [1, 90, 900])
async def test_slots_that_have_nothing_keep_nobody_waiting(client, worker, count):
    await fill(worker, 3, slots=[LAST])
    await client.zadd(KEYS.slots, {str(n): 1 for n in range(1, count + 1)})
    assert (await worker.lease_one()).slot == LAST
    assert await turns(client) == [LAST]


async def test_slots_without_a_turn_are_found_behind_the_others(client, worker):
    await fill(worker, 2)
    await client.zrem(KEYS.slots, "1", "3")
    assert [(await worker.lease_one()).slot for _ in range(6)] == [2, 2, 1, 1, 3, 3]
    assert await turns(client) == []


async def test_slots_without_a_turn_are_found_behind_some_that_have_nothing(
    client, worker
):
    await fill(worker, 1)
    await client.zrem(KEYS.slots, *SLOTS)
    await client.zadd(KEYS.slots, {str(n): 1 for n in range(7, 70)})
    assert [(await worker.lease_one()).slot for _ in range(3)] == [1, 2, 3]


async def test_slot_without_a_turn_is_left_out_if_there_is_enough_of_it(client, worker):
    await fill(worker, 2, slots=[1])
    await client.delete(KEYS.slots)
    call = worker.frontier.lease(5, suspects=8, enough=[1])
    assert not (await worker.call(call)).leases
    assert [lease.slot for lease in await worker.lease()] == [1, 1]


@ON_REDIS_ONLY
@pytest.mark.parametrize("score", ["1.5", "-7", "inf", "-inf", "1e300"])
async def test_what_others_have_put_there_comes_out_whatever_its_score(
    client, worker, score
):
    await client.zadd(KEYS.requests, {b"foreign": score, b"other": score})
    await fill(worker, 1)
    leases = await worker.lease()
    assert {lease.slot for lease in leases} == {*SLOTS}
    leases = await worker.lease()
    assert [lease.payload for lease in leases] == [b"foreign", b"other"]
    await worker.release(*leases)
    found = await client.zrange(KEYS.requests, 0, -1, withscores=True)
    assert [(m, s) for m, s in found] == [
        (b"foreign", float(score)),
        (b"other", float(score)),
    ]
    assert len(await worker.lease()) == 2


@pytest.mark.parametrize("delay", [0.0, 5.0])
async def test_slots_that_a_full_reply_had_no_room_for_keep_their_turns(
    client, worker, monkeypatch, delay
):
    monkeypatch.setattr("scrapy_dist.brokers.redis.link.REPLY_BYTES", 1000)
    slots, manners = range(1, 21), Manners(Rules(delay, 8), 1.0, 8)
    payloads = [
        b"\x01" + compact.dumps({"url": "http://s/" + n * "x"}) for n in (600, 700)
    ]
    await worker.commit(
        [NewRequest(data, 0, slot=slot) for data in payloads for slot in slots]
    )
    call = worker.frontier.lease_politely(100, manners, suspects=8)
    reply, _ = await worker.call(call)
    assert 0 < len(reply.leases) < 10
    # Each is there, or has this worker as its owner.
    assert (await check(worker.frontier)).findings == {}
    known = {name.partition(b".")[0] for name in await client.zrange(KEYS.slots, 0, -1)}
    assert known == {b"%d" % slot for slot in slots}


async def test_slot_that_was_found_without_a_turn_has_one_from_then_on(client, worker):
    await fill(worker, 3, slots=[1])
    await client.delete(KEYS.slots)
    assert (await worker.lease_one()).slot == 1
    assert await turns(client) == [1]
    await client.delete(KEYS.slots)
    await client.zadd(KEYS.slots, {"9": 1})  # one that has nothing
    assert (await worker.lease_one()).slot == 1
    assert await turns(client) == [1]
