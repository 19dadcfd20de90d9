"""A frontier of an older format: the first worker that joins converts it."""

from __future__ import annotations

import asyncio
import pickle
import random

import pytest
from scrapy.http import Request

from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.layout import (
    LEASED,
    RANK,
    REQUESTS,
    SUSPECTS,
    decode_score,
    parse,
)
from scrapy_dist.brokers.redis.session import RedisFrontier
from scrapy_dist.brokers.redis.tools import dead_letters as letters
from scrapy_dist.brokers.redis.tools.check import check
from scrapy_dist.brokers.redis.tools.dead_letters import retry
from scrapy_dist.brokers.redis.upgrade import upgrade
from scrapy_dist.brokers.redis.version import FORMAT, check_format
from scrapy_dist.codec import compact
from scrapy_dist.codec.seal import NO_SEAL, Seal
from scrapy_dist.core.frontier import JoinOutcome
from scrapy_dist.core.slots import NO_SLOT, Slots, host_of, slot_number
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable
from tests.support.frontiers import (
    KEYS,
    ON_REDIS_ONLY,
    SEED_KEYS,
    TTL,
    Worker,
    contents,
    dead_letters,
    dump,
    pass_time,
    restore,
)

BY_HOST = Slots(host_of)
HOSTS = 7
CLAIMS = "-0123456789abcdef"


def payload(name, seal=NO_SEAL, **fields):
    """A request for *name* of one of some hosts."""
    host = sum(map(ord, name)) % HOSTS
    url = f"http://host{host}/{name}"
    return seal.sign(b"\x01" + compact.dumps({"url": url, **fields}))


def id_of(number):
    return f"{60_000_000_000_000 + number:016x}"


class Older:
    """A frontier of an older format as its last worker has left it, which was killed."""

    def __init__(self, client, *, pending=250, seal=NO_SEAL):
        self.client = client
        self.pending = pending
        self.seal = seal
        self.worker = "4242"
        #: Payloads that somebody has to work on, by the order ids.
        self.left = {}

    def entry(self, number, name):
        """Order id and payload of a new request."""
        data = name if isinstance(name, bytes) else payload(name, self.seal)
        self.left[id_of(number)] = data
        return id_of(number).encode() + data

    async def build(self, number="3"):
        c, entry = self.client, self.entry
        state = {
            "order": 60_000_000_010_000,
            "active": 1,
            "crawl": "1-4242",
            "ttl": 60000,
        }
        state |= {f"worker:{self.worker}": "old:1", f"commit:{self.worker}": 7}
        state[f"handed:{self.worker}"] = 9
        if number:
            state |= {"format": number, f"format:{self.worker}": number}
        await c.hset(KEYS.state, mapping=state)
        await c.zadd(KEYS.workers, {self.worker: 1})
        await c.sadd(KEYS.dupefilter, *(f"fp{n}" for n in range(9)))
        for n in range(self.pending):
            score = (0, -7, 2.5, -1e30)[n % 4]
            await c.zadd(KEYS.requests, {entry(n, f"p{n}"): score})
        suspects = {
            entry(1000, "s0")[:16] + b"1 - " + self.left[id_of(1000)]: -7,
            entry(1001, "s1")[:16]
            + f"2 {CLAIMS} ".encode()
            + self.left[id_of(1001)]: 0,
        }
        waiting = entry(1002, "s2")[:16] + b"3 - " + self.left[id_of(1002)]
        await c.zadd(KEYS.suspects, suspects | {waiting: "+inf"})
        leased = {
            id_of(2000): entry(2000, "l0"),
            id_of(2001): b" -7 0 - " + entry(2001, "l1"),
            id_of(2002): b" 1.5e+3 1 " + CLAIMS.encode() + b" " + entry(2002, "l2"),
            id_of(2003): entry(2003, b"\0http://seed/"),
            id_of(2004): b" -inf 0 - " + entry(2004, "l4"),
        }
        await c.hset(KEYS.leased, mapping=leased)
        # Of the last one nobody has the lease; of one lease the work is done.
        held = [*leased][:-1]
        await c.zadd(KEYS.leases, dict.fromkeys([*held, id_of(2005)], self.worker))
        return self


def session(client, slots=BY_HOST, **options):
    limits = {"ttl": TTL, "max_deliveries": 3, "failed_limit": 100} | options
    frontier = Frontier(client, KEYS, seed_keys=SEED_KEYS, **limits)
    return RedisFrontier(frontier, None, slots=slots)


async def join(worker, *, flush=False):
    return await worker.join("new:1", commit=0, flush=flush, persist=True, age=0.0)


async def joins(client, slots=BY_HOST, **options):
    joined = await join(session(client, slots, **options))
    assert joined.outcome is JoinOutcome.JOINED, joined
    return joined


async def found(client, key, place):
    entries = [
        parse(place, member, score=score)
        for member, score in await client.zrange(key, 0, -1, withscores=True)
    ]
    assert not [entry.flaw for entry in entries if entry.flaw]
    return entries


async def structures(client):
    """What requests are in."""
    held = await contents(client)
    keys = (KEYS.requests, KEYS.suspects, KEYS.leased, KEYS.leases)
    return {key: held.get(key) for key in keys}


async def crawl(client):
    """The payloads that a worker finds, each as often as it is handed out."""
    worker = await Worker(client, failed_limit=1).join()
    given = []
    for _ in range(50):
        leases = await worker.lease()
        if not leases:
            # What nobody holds the lease of.
            ids = [id_.decode() for id_ in await client.hkeys(KEYS.leased)]
            await worker.call(
                worker.frontier.call("check_leased", list, mend=1, ids=ids)
            )
        given += [b"\0" * lease.is_seed + lease.payload for lease in leases]
        await worker.ack(*leases)
    return sorted(given)


async def assert_converted(client, older, log=None):
    state = await client.hgetall(KEYS.state)
    assert state[b"format"] == str(FORMAT).encode()
    assert b"upgrade" not in state
    assert not [field for field in state if field.endswith(older.worker.encode())]
    pending = await found(client, KEYS.requests, REQUESTS)
    await found(client, KEYS.suspects, SUSPECTS)
    for id_, value in (await client.hgetall(KEYS.leased)).items():
        assert not parse(LEASED, id_, value).flaw
    # Exact order inside a slot.
    assert {int(slot) for slot in await client.zrange(KEYS.slots, 0, -1)} == {
        entry.slot for entry in pending
    }
    for slot in {entry.slot for entry in pending}:
        mine = [entry for entry in pending if entry.slot == slot]
        assert mine == sorted(mine, key=lambda entry: (entry.score, entry.id))
    waits = [data for data in older.left.values() if data.endswith(b"/s2")]
    # With claims and two deaths it has failed now.
    left = sorted(data for data in older.left.values() if data not in waits)
    assert await crawl(client) == left
    assert await client.zcard(KEYS.suspects) == len(waits)


async def test_every_request_is_converted_and_handed_out_once(client, caplog):
    older = await Older(client).build()
    caplog.set_level("INFO")
    joined = await joins(client)
    assert joined.pending == older.pending
    pending = await found(client, KEYS.requests, REQUESTS)
    for entry in pending:
        name = entry.payload.rpartition(b"/")[2].decode()
        assert entry.slot == slot_number(f"host{sum(map(ord, name)) % HOSTS}")
        assert entry.score == (0, -7, 2.5, -1e30)[int(name[1:]) % 4]
        assert entry.id.decode() == id_of(int(name[1:]))
    suspects = await found(client, KEYS.suspects, SUSPECTS)
    facts = {
        entry.payload.rpartition(b"/")[2].decode(): (
            entry.deaths,
            entry.claims,
            decode_score(entry.rank[:8]),
            await client.zscore(KEYS.suspects, entry.member),
        )
        for entry in suspects
    }
    assert facts == {
        "s0": (1, "-", -7, 0),
        "s1": (2, CLAIMS, 0, 0),
        "s2": (3, "-", 0, float("inf")),
        # As of a worker that has died.
        "l0": (1, "-", 0, 0),
        "l1": (1, "-", -7, 0),
        "l2": (2, CLAIMS, 1500, 0),
        "": (1, "-", 0, 0),
    }
    [log] = [r.getMessage() for r in caplog.records if "converted" in r.getMessage()]
    assert (
        f"(format 3): {older.pending + 8} requests are converted to format {FORMAT}."
        in log
    )
    await assert_converted(client, older)


async def test_flat_disciplines_keep_all_in_one_order(client):
    await Older(client).build()
    await joins(client, Slots(None))
    pending = await found(client, KEYS.requests, REQUESTS)
    assert {entry.slot for entry in pending} == {NO_SLOT}
    assert pending == sorted(pending, key=lambda entry: (entry.score, entry.id))


@pytest.mark.parametrize("number", ["1", "2", ""])
async def test_formats_before_are_converted_too(client, number):
    older = await Older(client, pending=30).build(number)
    await joins(client)
    await assert_converted(client, older)


async def test_whatever_script_is_the_last_of_a_worker_the_next_one_goes_on(client):
    older = await Older(client).build()
    await joins(client)
    whole = await structures(client)
    calls, ended = 0, False
    while not ended:
        calls += 1
        await client.flushdb()
        older = await Older(client).build()
        doomed = session(client)
        exchange, done = doomed._frontier.exchange, 0

        async def dies(some, exchange=exchange, calls=calls):
            nonlocal done
            done += 1
            if done > calls:
                raise RedisUnavailable("killed")
            await exchange(some)

        doomed._frontier.exchange = dies
        try:
            ended = (await join(doomed)).outcome is JoinOutcome.JOINED
        except RedisUnavailable:
            await joins(client)
        assert await structures(client) == whole
    assert calls > 5
    await assert_converted(client, older)


async def test_several_workers_at_once_convert_each_request_once(client, caplog):
    caplog.set_level("INFO")
    older = await Older(client).build()
    workers = [session(client) for _ in range(3)]
    joined = await asyncio.gather(*(join(worker) for worker in workers))
    assert {each.outcome for each in joined} == {JoinOutcome.JOINED}
    told = [
        int(r.args[1].split()[0])
        for r in caplog.records
        if "converted" in r.getMessage()
    ]
    assert sum(told) == older.pending + 8
    for worker in workers:
        await worker.leave(finished=None, persist=True, reason="")
    await assert_converted(client, older)


@ON_REDIS_ONLY
async def test_redis_that_goes_back_meanwhile_leaves_nothing_old(client):
    older = await Older(client).build()
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    choose = random.Random(seed)
    worker = session(client)
    states, went = [await dump(client)], 0
    run = worker._frontier.run

    async def goes_back(script, **values):
        nonlocal went
        if went < 3 and (script == "upgrade_end" or choose.random() < 0.1):
            went += 1
            await restore(client, choose.choice(states))
        reply = await run(script, **values)
        if script == "upgrade":
            states.append(await dump(client))
        return reply

    worker._frontier.run = goes_back
    assert (await join(worker)).outcome is JoinOutcome.JOINED
    assert went
    await worker.leave(finished=None, persist=True, reason="")
    await assert_converted(client, older)


async def test_what_cannot_be_read_without_the_spider_is_in_no_slot(client):
    seal, other = Seal(b"x" * 16, KEYS.requests), Seal(b"y" * 16, KEYS.requests)
    older = Older(client, pending=0, seal=seal)
    await client.hset(
        KEYS.state, mapping={"format": 3, "signed": seal.check, "order": 1}
    )
    unread = [
        pickle.dumps({"url": "http://host1/"}),
        b"\x02anything",
        b"\x01garbage",
        seal.sign(b"\x01" + compact.dumps({"url": 7})),
        payload("forged", other),
        payload("unsigned"),
    ]
    for n, data in enumerate(unread):
        await client.zadd(KEYS.requests, {older.entry(n, data): 0})
    good = [payload("good", seal), payload("named", seal, meta={"download_slot": "x"})]
    for n, data in enumerate(good):
        await client.zadd(KEYS.requests, {older.entry(10 + n, data): 0})
    await client.zadd(KEYS.requests, {b"none of ours": 5})
    await joins(client, seal=seal)
    pending = await client.zrange(KEYS.requests, 0, -1, withscores=True)
    slots = {member[RANK:]: slot for member, slot in pending}
    assert slots.pop(good[1]) == slot_number("x")
    assert slots.pop(good[0]) == slot_number(f"host{sum(map(ord, 'good')) % HOSTS}")
    assert slots == {**dict.fromkeys(unread, NO_SLOT), b"": 5}
    assert await client.zscore(KEYS.requests, b"none of ours") == 5


async def test_what_has_lost_too_many_workers_has_failed(client):
    older = await Older(client, pending=3).build()
    await joins(client, max_deliveries=2)
    [letter] = await dead_letters(client)
    assert letter["payload"] == older.left[id_of(2002)]
    assert (letter["deliveries"], letter["worker"]) == (b"2", b"old:1")
    assert letter["claims"] == CLAIMS.encode()
    assert await client.zcard(KEYS.leases) == 0


async def test_worker_of_the_older_version_that_is_alive_keeps_it_as_it_is(client):
    older = await Older(client, pending=3).build()
    seconds, _ = await client.time()
    await client.zadd(KEYS.workers, {older.worker: seconds * 1000})
    before = await contents(client)
    joined = await join(session(client))
    assert joined.outcome is JoinOutcome.NOT_NOW
    assert "The worker old:1 is of a version" in joined.refusal
    assert await contents(client) == before
    # It has come after the first look.
    frontier = session(client)._frontier
    assert await frontier.run("upgrade_begin", theirs=3) == [0, b""]
    assert await contents(client) == before
    await pass_time(client, TTL)
    await joins(client)


async def test_older_worker_that_was_frozen_is_none_of_the_crawl(client):
    """From the first moment: it would write what nobody reads any more."""
    older = await Older(client).build()
    frontier = session(client)._frontier
    assert (await frontier.run("upgrade_begin", theirs=3))[0] == 1
    assert not await client.exists(KEYS.workers)
    # It may not come in again: it does not know the format.
    assert await client.hget(KEYS.state, "format") == str(FORMAT).encode()
    # Nor may commands, of either version.
    with pytest.raises(ConfigurationError, match="has format 3 "):
        await check_format(client, KEYS)
    await joins(client)
    await assert_converted(client, older)


async def test_who_comes_late_finds_it_done_and_leaves_the_mark_alone(client):
    await Older(client, pending=3).build()
    late = session(client)
    frontier = late._frontier
    await late._call(frontier.register("late:1", commit=0))
    assert frontier.older == 3
    await joins(client)
    before = await contents(client)
    assert await upgrade(frontier, BY_HOST, None, frontier.older)
    assert await contents(client) == before


async def test_another_secret_converts_nothing(client):
    await Older(client, pending=3).build()
    before = await contents(client)
    joined = await join(session(client, seal=Seal(b"x" * 16, KEYS.requests)))
    assert "FRONTIER_SECRET" in joined.refusal
    assert await contents(client) == before


async def test_crawl_that_is_to_be_deleted_is_not_converted_first(client):
    await Older(client, pending=3).build()
    worker = session(client)
    worker._frontier.run = None
    joined = await join(worker, flush=True)
    assert (joined.outcome, joined.pending) == (JoinOutcome.FLUSHED, 0)


async def test_finished_crawl_has_nothing_to_convert(client):
    await client.hset(KEYS.state, mapping={"format": 3, "finished": 5, "active": 4})
    await client.sadd(KEYS.dupefilter, "fp")
    await check_format(client, KEYS)
    worker = session(client)
    worker._frontier.run = None
    assert (await join(worker)).outcome is JoinOutcome.JOINED
    assert await client.hget(KEYS.state, "format") == str(FORMAT).encode()
    assert await client.smembers(KEYS.dupefilter) == {b"fp"}


@pytest.mark.parametrize("number", ["3", ""])
async def test_commands_leave_it_alone_and_say_what_helps(client, number):
    await Older(client, pending=3).build(number)
    await client.xadd(KEYS.failed, {"payload": b"{}", "kind": "request"})
    frontier, before = session(client)._frontier, await contents(client)
    for change in (
        lambda: letters.retry(frontier),
        lambda: letters.forget(frontier),
        lambda: check(frontier, repair=True),
    ):
        with pytest.raises(ConfigurationError, match="Start a worker of this version"):
            await change()
    assert await contents(client) == before
    # Who deletes it needs not read it.
    await check_format(client, KEYS, older=True)


async def test_what_is_put_back_into_a_finished_one_is_crawled(client):
    await client.hset(KEYS.state, mapping={"format": 3, "finished": 5, "active": 4})
    await client.xadd(KEYS.failed, {"payload": payload("a"), "kind": "request"})
    assert (await retry(session(client)._frontier, slots=BY_HOST)).requests == 1
    await joins(client)
    assert await crawl(client) == [payload("a")]


async def test_state_that_was_deleted_by_hand_says_nothing_of_the_format(client):
    older = await Older(client, pending=20).build()
    await client.delete(KEYS.state)
    await joins(client)
    await assert_converted(client, older)
    new = await Worker(client).join()
    await new.push(payload("new"))
    await client.delete(KEYS.state)
    session_ = session(client)
    session_._frontier.run = None
    assert (await join(session_)).outcome is JoinOutcome.JOINED


def test_payloads_of_requests_are_read_for_their_slots():
    assert BY_HOST.number(Request("http://host1/")) == BY_HOST.number_of_fields(
        {"url": "http://host1/"}
    )
