"""Every kind of damage is found, mended, and costs no request."""

from __future__ import annotations

import asyncio
import pickle
import random
from types import SimpleNamespace

import pytest
import redis.asyncio
from scrapy import Spider
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.buckets import compact
from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.brokers.redis.layout import (
    LEASED,
    RANK,
    REQUESTS,
    SUSPECTS,
    IdsSeen,
    check_form,
    encode_score,
    order_of,
    parse,
)
from scrapy_dist.brokers.redis.tools.check import check
from scrapy_dist.codec import messagepack
from scrapy_dist.codec.policy import POLICY
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.commands.check import _lines
from scrapy_dist.core.frontier import Commit, NewRequest, Outcome, Settlement
from scrapy_dist.core.politeness import Manners, Renewal, Rules, Yield
from scrapy_dist.exceptions import BadPayload, RedisUnavailable
from scrapy_dist.redis_client.client import close_client

KEYS = Keys.from_settings(Settings(), "s")


def payload(name: str) -> bytes:
    return b"\x01" + messagepack.dumps({"url": f"http://site/{name}"})


def ranked(id_: str, name: str, score: float = -1) -> bytes:
    """A pending member; what S:leased holds behind slot, deaths and claims."""
    return encode_score(score) + id_.encode() + payload(name)


def suspect(id_: str, name: str, score: float = 0, head: str = "1 - 0 ") -> bytes:
    return encode_score(score) + (id_ + head).encode() + payload(name)


def name_of(data: bytes) -> str:
    return messagepack.loads(data[1:])["url"].rpartition("/")[2]


class Worker:
    """A worker of the frontier, simulated."""

    def __init__(self, client, *, newest_first=False, max_deliveries=3, compact=False):
        self.frontier = Frontier(
            client,
            KEYS,
            ttl=60,
            max_deliveries=max_deliveries,
            failed_limit=100,
            newest_first=newest_first,
            compact=compact,
        )
        self.commits = 0

    async def call(self, call):
        await self.frontier.exchange([call])
        return call.reply()

    async def join(self, info="host:1"):
        await self.call(self.frontier.register(info, commit=self.commits))
        return self

    async def push(self, *names, score=0.0):
        await self.commit(requests=[NewRequest(payload(n), score) for n in names])

    async def send(self, requests=(), pages=()):
        self.commits += 1
        commit = Commit(self.commits, requests=requests, settlements=pages)
        return await self.call(self.frontier.commit(commit))

    async def commit(self, requests=(), pages=()):
        assert (await self.send(requests, pages)).outcome is Outcome.STORED

    async def lease(self, want, *, suspect=False):
        return (await self.call(self.frontier.lease(want, suspects=8 * suspect))).leases

    async def die(self, client):
        """Its leases become suspects."""
        await client.zadd(KEYS.workers, {self.frontier.worker: 1})
        reaper = await Worker(client).join()
        await reaper.call(reaper.frontier.heartbeat())
        await client.hdel(KEYS.state, "grace")
        await reaper.call(reaper.frontier.reap())
        await reaper.call(reaper.frontier.leave(finished=False))


class World:
    """A healthy frontier: a to e pending, f and g leased by a living worker, h suspect."""

    def __init__(self, client):
        self.client = client

    async def build(self, *, newest_first=False):
        self.worker = await Worker(self.client, newest_first=newest_first).join()
        await self.worker.push("h", score=-2)
        doomed = await Worker(self.client).join("host:2")
        await doomed.lease(1)
        await doomed.die(self.client)
        await self.worker.push("f", "g", score=-1)
        self.leases = await self.worker.lease(2)
        self.ids = {name_of(lease.payload): lease.id for lease in self.leases}
        assert set(self.ids) == {"f", "g"}
        await self.worker.push("a", "b", "c", "d", "e")
        return self

    async def check(self, **kwargs):
        return await check(self.worker.frontier, **kwargs)

    async def member(self, key, name):
        """The member of *name* in a sorted set, and its score."""
        for member, score in await self.client.zrange(key, 0, -1, withscores=True):
            if payload(name) in member:
                return member, score
        raise AssertionError(name)

    async def dump(self):
        keys = sorted(await self.client.keys("*"))
        return {key: await self.client.dump(key) for key in keys}

    async def failed(self):
        return [fields for _, fields in await self.client.xrange(KEYS.failed)]

    async def crawl(self):
        """What an honest worker finds when the living one has given back its leases."""
        held = await self.worker.frontier.leases_held()
        await self.worker.call(self.worker.frontier.release(held))
        await self.worker.call(self.worker.frontier.leave(finished=False))
        honest = await Worker(self.client).join()
        found = []
        for _ in range(50):
            leases = await honest.lease(100, suspect=True)
            found += [name_of(lease.payload) for lease in leases]
            await honest.commit(pages=[Settlement(lease.id) for lease in leases])
        assert (await honest.call(honest.frontier.drained())).is_drained
        assert await self.client.hlen(KEYS.leased) == 0
        return sorted(found)


@pytest.fixture
async def client(redis_server):
    client = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)
    yield client
    await close_client(client)


@pytest.fixture
async def world(client):
    return await World(client).build()


async def test_a_healthy_frontier_has_no_findings(world):
    before = await world.dump()
    report = await world.check()
    assert report.ok
    assert report.findings == {}
    assert report.notes == []
    assert await world.dump() == before
    counts = report.counts
    assert (counts.pending, counts.suspect, counts.leased) == (5, 1, 2)
    assert (counts.alive, counts.silent) == (1, 0)


async def test_an_empty_frontier_has_no_findings(client):
    world = World(client)
    world.worker = Worker(client)
    report = await world.check(repair=True)
    assert report.ok
    assert not report.exists
    assert report.findings == {}
    assert report.notes == []


# Damages: each breaks the world, and returns the names that are left to crawl


async def ack_cut_in_half(world):
    await world.client.hdel(KEYS.leased, world.ids["f"])
    return "abcdegh"


async def payload_has_lost_its_lease(world):
    await world.client.zrem(KEYS.leases, world.ids["f"])
    return "abcdefgh"


async def payload_with_deaths_has_lost_its_lease(world):
    id_ = world.ids["f"]
    await world.client.hset(KEYS.leased, id_, b"0 2 - " + ranked(id_, "f"))
    await world.client.zrem(KEYS.leases, id_)
    return "abcdefgh"


async def payload_with_claims_has_lost_its_lease(world):
    id_ = world.ids["f"]
    entry = b"0 0 -0123456789abcdef " + ranked(id_, "f")
    await world.client.hset(KEYS.leased, id_, entry)
    await world.client.zrem(KEYS.leases, id_)
    # Of a lease cut in half the request is still there.
    await world.client.zadd(KEYS.requests, {ranked(id_, "f"): 0})
    return "abcdefgh"


async def lease_cut_in_half(world):
    member, _ = await world.member(KEYS.requests, "a")
    await world.client.hset(KEYS.leased, member[8:RANK], b"0 0 - " + member)
    return "abcdefgh"


async def lease_of_a_suspect_cut_in_half(world):
    member, _ = await world.member(KEYS.suspects, "h")
    entry = b"0 1 - " + ranked(member[8:RANK].decode(), "h", -2)
    await world.client.hset(KEYS.leased, member[8:RANK], entry)
    return "abcdefgh"


async def worker_is_forgotten(world):
    doomed = await Worker(world.client).join("host:3")
    await doomed.lease(2)
    await world.client.zrem(KEYS.workers, doomed.frontier.worker)
    return "abcdefgh"


async def pending_copy_of_a_lease(world):
    await world.client.zadd(KEYS.requests, {ranked(world.ids["f"], "f"): 0})
    return "abcdefgh"


async def suspect_copy_of_a_lease(world):
    await world.client.zadd(KEYS.suspects, {suspect(world.ids["f"], "f", -1): 0})
    return "abcdefgh"


async def pending_copy_of_a_suspect(world):
    member, _ = await world.member(KEYS.suspects, "h")
    await world.client.zadd(KEYS.requests, {member[:RANK] + payload("h"): 0})
    return "abcdefgh"


async def garbage_is_pending(world):
    await world.client.zadd(KEYS.requests, {b"garbage \x00\xff": -5})
    return "abcdefgh"


async def garbage_is_suspect(world):
    await world.client.zadd(
        KEYS.suspects, {b"\x80" + bytes(7) + b"0000000000000003garbage": 0}
    )
    return "abcdefgh"


async def garbage_is_leased(world):
    await world.client.hset(KEYS.leased, world.ids["f"], b"garbage")
    return "abcdegh"


async def garbage_is_leased_by_an_unknown_worker(world):
    entry = b"nan 0 - " + ranked("00000000000000ff", "x")
    await world.client.hset(KEYS.leased, "00000000000000ff", entry)
    await world.client.zadd(KEYS.leases, {"00000000000000ff": 5})
    return "abcdefgh"


async def garbage_is_leased_under_no_order_id(world):
    await world.client.hset(KEYS.leased, "an id", b"0 0 - " + ranked("an id", "x"))
    return "abcdefgh"


async def lease_of_a_slot_that_has_no_number_of_ours(world):
    id_ = world.ids["f"]
    await world.client.hset(KEYS.leased, id_, b"-1500 0 - " + ranked(id_, "f"))
    await world.client.zrem(KEYS.leases, id_)
    return "abcdefgh"


async def an_unknown_worker_holds_what_has_no_order_id(world):
    entry = b"0 0 - " + payload("x")
    await world.client.hset(KEYS.leased, "00000000000000ff", entry)
    await world.client.zadd(KEYS.leases, {"00000000000000ff": 5})
    return "abcdefgh"


async def payload_cannot_be_decoded(world):
    await world.client.zadd(
        KEYS.requests, {encode_score(-5) + b"%016x" % 0 + b"\x01garbage": 0}
    )
    return "abcdefgh"


async def payload_of_a_suspect_cannot_be_decoded(world):
    await world.client.zadd(
        KEYS.suspects, {encode_score(-5) + b"%016x" % 0 + b"1 - 0 \x01garbage": 0}
    )
    return "abcdefgh"


async def payload_of_a_lease_cannot_be_decoded(world):
    id_ = world.ids["f"]
    entry = b"0 0 - " + encode_score(-1) + id_.encode() + b"\x01garbage"
    await world.client.hset(KEYS.leased, id_, entry)
    return "abcdegh"


async def order_counter_is_lost(world):
    await world.client.hdel(KEYS.state, "order")
    return "abcdefgh"


async def order_counter_is_nonsense(world):
    await world.client.hset(KEYS.state, "order", "many")
    return "abcdefgh"


async def state_is_lost(world):
    await world.client.delete(KEYS.state)
    return "abcdefgh"


async def pending_request_under_the_id_of_another(world):
    member, _ = await world.member(KEYS.requests, "a")
    await world.client.zadd(KEYS.requests, {member[:RANK] + payload("x"): 0})
    return "abcdefghx"


async def pending_request_under_the_id_of_a_lease(world):
    await world.client.zadd(KEYS.requests, {ranked(world.ids["f"], "x"): 0})
    return "abcdefghx"


async def suspect_under_the_id_of_a_pending_request(world):
    member, _ = await world.member(KEYS.requests, "a")
    member = suspect(member[8:RANK].decode(), "x")
    await world.client.zadd(KEYS.suspects, {member: 0})
    return "abcdefghx"


async def traces_of_a_worker(world):
    await world.client.hset(KEYS.state, mapping={"worker:77": "x:1", "commit:77": 3})
    return "abcdefgh"


async def slot_without_a_turn(world):
    await world.worker.commit([NewRequest(payload("x"), 0, slot=77)])
    await world.client.zrem(KEYS.slots, 77)
    return "abcdefghx"


async def no_slot_has_a_turn(world):
    slots = (*range(1, 250), 2**52 - 1)
    requests = [NewRequest(payload("x"), 0, slot=slot) for slot in slots]
    await world.worker.commit(requests)
    await world.client.delete(KEYS.slots)
    return "abcdefgh" + 250 * "x"


async def slots_of_workers_that_nobody_knows(world):
    await world.worker.commit([NewRequest(payload("x"), 0, slot=77)])
    await world.client.hset(KEYS.state, "slots:seen", 1)
    owners = {"0": 2**52 + 7, "77": 2**52 + 7, "77.3": 2**52 + 2**51}
    await world.client.zadd(KEYS.slots, owners)
    return "abcdefghx"


async def seats_of_a_worker_that_nobody_knows(world):
    """Nothing waits in them, and what comes would not be handed out."""
    owners = {f"{slot}.1": 2**52 + 7 for slot in range(250)}
    known = {
        str(slot): 2**52 + int(world.worker.frontier.worker) for slot in range(20, 150)
    }
    await world.client.zadd(KEYS.slots, owners | known)
    return "abcdefgh"


async def mark_of_a_worker_whose_leases_were_not_its_own(world):
    await world.client.hset(KEYS.state, "strange:77", 3)
    return "abcdefgh"


async def a_worker_with_a_name(world):
    await world.client.zadd(KEYS.workers, {"somebody": 5})
    return "abcdefgh"


DAMAGES = [
    (ack_cut_in_half, {"lease_without_payload": 1}),
    (payload_has_lost_its_lease, {"payload_without_lease": 1}),
    (payload_with_deaths_has_lost_its_lease, {"payload_without_lease": 1}),
    (lease_of_a_slot_that_has_no_number_of_ours, {"payload_without_lease": 1}),
    (payload_with_claims_has_lost_its_lease, {"payload_without_lease": 1}),
    (lease_cut_in_half, {"payload_without_lease": 1}),
    (lease_of_a_suspect_cut_in_half, {"payload_without_lease": 1}),
    (worker_is_forgotten, {"lease_of_unknown_worker": 2, "unknown_worker": 1}),
    (pending_copy_of_a_lease, {"in_two_places": 1}),
    (suspect_copy_of_a_lease, {"in_two_places": 1}),
    (pending_copy_of_a_suspect, {"in_two_places": 1}),
    (garbage_is_pending, {"unreadable_member": 1}),
    (garbage_is_suspect, {"unreadable_member": 1}),
    (garbage_is_leased, {"unreadable_member": 1}),
    (garbage_is_leased_by_an_unknown_worker, {"unreadable_member": 1}),
    (garbage_is_leased_under_no_order_id, {"unreadable_member": 1}),
    (an_unknown_worker_holds_what_has_no_order_id, {"unreadable_member": 1}),
    (payload_cannot_be_decoded, {"unreadable_payload": 1}),
    (payload_of_a_suspect_cannot_be_decoded, {"unreadable_payload": 1}),
    (payload_of_a_lease_cannot_be_decoded, {"unreadable_payload": 1}),
    (order_counter_is_lost, {"order_behind": 1}),
    (order_counter_is_nonsense, {"order_behind": 1}),
    (state_is_lost, {"order_behind": 1}),
    (pending_request_under_the_id_of_another, {"order_id_twice": 1}),
    (pending_request_under_the_id_of_a_lease, {"order_id_twice": 1}),
    (suspect_under_the_id_of_a_pending_request, {"order_id_twice": 1}),
    (traces_of_a_worker, {"unknown_worker": 1}),
    (slot_without_a_turn, {"slot_without_turn": 1}),
    (no_slot_has_a_turn, {"slot_without_turn": 251}),
    (slots_of_workers_that_nobody_knows, {"slot_of_unknown_worker": 3}),
    (seats_of_a_worker_that_nobody_knows, {"slot_of_unknown_worker": 250}),
    (mark_of_a_worker_whose_leases_were_not_its_own, {"unknown_worker": 1}),
    (a_worker_with_a_name, {"unknown_worker": 1}),
]


@pytest.mark.parametrize(
    ("damage", "expected"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES]
)
async def test_damage_is_found_and_mended_and_no_request_is_lost(
    world, damage, expected
):
    left = await damage(world)
    before = await world.dump()

    found = await world.check()
    assert not found.ok
    assert {kind: f.count for kind, f in found.findings.items()} == expected
    assert all(f.examples and not f.mended for f in found.findings.values())
    assert await world.dump() == before

    mended = await world.check(repair=True)
    assert mended.ok, mended
    assert {kind: f.mended for kind, f in mended.findings.items()} == expected

    again = await world.check()
    assert again.ok
    assert again.findings == {}
    if "unreadable" in next(iter(expected)):
        [letter] = await world.failed()
        assert letter[b"worker"] == b"scrapy frontier check"
        assert letter[b"kind"] == b"request"
        assert letter[b"reason"]
        assert int(letter[b"time"]) > 0
    else:
        assert await world.failed() == []
    assert "".join(await world.crawl()) == left


async def test_a_seed_that_lost_its_lease_is_leased_again(world):
    await world.client.lpush("s:start_urls", "http://site/seed")
    frontier = world.worker.frontier
    frontier.seed_keys = ("s:start_urls",)
    [lease] = (await world.worker.call(frontier.take_seeds(1))).leases
    await world.client.zrem(KEYS.leases, lease.id)
    report = await world.check(repair=True)
    assert report.findings["payload_without_lease"].mended == 1
    seeds = [x.payload for x in await world.worker.lease(100) if x.is_seed]
    assert seeds == [b"http://site/seed"]


async def test_what_is_set_aside_is_kept_whole(world):
    await garbage_is_pending(world)
    await world.check(repair=True)
    [letter] = await world.failed()
    assert letter[b"payload"] == b"garbage \x00\xff"
    assert letter[b"reason"] == b"no rank in front"
    assert letter[b"deliveries"] == b"0"


async def test_a_decoded_payload_is_set_aside_without_what_is_in_front(world):
    await payload_of_a_suspect_cannot_be_decoded(world)
    await world.check(repair=True)
    [letter] = await world.failed()
    assert letter[b"payload"] == b"\x01garbage"
    assert letter[b"deliveries"] == b"1"


async def test_a_request_that_lost_too_many_workers_has_failed(client):
    world = await World(client).build()
    id_ = world.ids["f"]
    await client.hset(KEYS.leased, id_, b"0 2 - " + ranked(id_, "f"))
    await client.zrem(KEYS.workers, world.worker.frontier.worker)
    report = await world.check(repair=True)
    assert report.ok
    assert report.findings["lease_of_unknown_worker"].mended == 2
    [letter] = await world.failed()
    assert letter[b"payload"] == payload("f")
    assert letter[b"worker"] == b"host:1"
    assert letter[b"deliveries"] == b"3"
    member, _ = await world.member(KEYS.suspects, "g")
    assert member[RANK:].startswith(b"1 - 0 ")


async def test_new_ids_count_on_in_either_direction(client):
    world = await World(client).build(newest_first=True)
    before = await client.hget(KEYS.state, "order")
    await client.hdel(KEYS.state, "order")
    [finding] = (await world.check(repair=True)).findings.values()
    assert finding.kind == "order_behind"
    assert await client.hget(KEYS.state, "order") == before
    # The newest goes first.
    await world.worker.push("z")
    members = await client.zrange(KEYS.requests, 0, -1)
    assert "".join(name_of(member[RANK:]) for member in members) == "zedcba"


async def test_requests_that_got_ids_in_use_after_a_lost_counter_get_others(world):
    # f is leased. Only a clock that was set back gives ids once more.
    ids = [world.ids["f"]]
    for name in "abcde":
        member, _ = await world.member(KEYS.requests, name)
        ids.append(member[8:RANK].decode())
    for id_, name in zip([*ids, ids[1]], "tuvwxyz", strict=True):
        await world.client.zadd(KEYS.requests, {ranked(id_, name, 0): 0})
    assert (await world.check()).findings.keys() == {"order_id_twice"}
    report = await world.check(repair=True)
    assert report.ok
    assert report.findings["order_id_twice"].count == 7
    assert (await world.check()).findings == {}
    assert "".join(await world.crawl()) == "abcdefghtuvwxyz"


async def test_a_new_id_keeps_its_place_where_the_newest_goes_first(client):
    world = await World(client).build(newest_first=True)
    member, _ = await world.member(KEYS.requests, "e")
    await client.zadd(KEYS.requests, {member[:RANK] + payload("x"): 0})
    report = await world.check(repair=True)
    assert report.findings["order_id_twice"].mended == 1
    await world.worker.push("z")
    members = await client.zrange(KEYS.requests, 0, -1)
    assert name_of(members[0][RANK:]) == "z"


@pytest.mark.parametrize(
    ("script", "values", "reply"),
    [
        # The one has gone; the other alone is no clash.
        ("check_twice", {"twins": [1, "{e}x", 1, "{e}"]}, []),
        ("check_twice", {"twins": [1, "{e}", 1, "{e}x"]}, []),
        # The member has gone; the entry of a lease has changed.
        (
            "check_unreadable",
            {
                "max_payload": 99,
                "entries": [1, "gone", "", 1, 0, "w", 4, "{f}", "0" * 40, 1, 0, "w"],
            },
            [0, 0],
        ),
        # The order id is not in use any more.
        ("check_order", {"least": 2**51, "proofs": [1, "gone"]}, [0, "{order}"]),
    ],
)
async def test_a_suspicion_that_is_not_so_any_more_changes_nothing(
    world, script, values, reply
):
    member, _ = await world.member(KEYS.requests, "e")
    names = {"{e}": member, "{e}x": member + b"x", "{f}": world.ids["f"].encode()}
    values = {
        name: [names.get(arg, arg) for arg in value] if type(value) is list else value
        for name, value in values.items()
    }
    order = await world.client.hget(KEYS.state, "order")
    reply = [order if part == "{order}" else part for part in reply]
    before = await world.dump()
    call = world.worker.frontier.call(script, list, mend=1, **values)
    assert await world.worker.call(call) == reply
    assert await world.dump() == before


@pytest.mark.parametrize("key", [KEYS.requests, KEYS.leased, KEYS.state, KEYS.failed])
async def test_a_key_of_a_wrong_type_is_named_and_left_alone(world, key):
    await world.client.delete(key)
    await world.client.set(key, "x")
    report = await world.check(repair=True)
    assert not report.ok
    [finding] = report.findings.values()
    assert finding.kind == "wrong_type"
    assert finding.examples[0].startswith(f"{key} is a string and must be a ")
    assert report.counts is None
    assert await world.client.get(key) == b"x"


async def test_a_dupefilter_of_a_wrong_type_does_not_hide_other_damage(world):
    await world.client.delete(KEYS.dupefilter)
    await world.client.set(KEYS.dupefilter, "x")
    await world.client.set("s:start_urls", "x")
    await ack_cut_in_half(world)
    world.worker.frontier.seed_keys = ("s:start_urls",)
    report = await world.check(repair=True)
    assert not report.ok
    assert report.findings["wrong_type"].count == 2
    assert report.findings["lease_without_payload"].mended == 1


async def test_dead_letters_are_not_pushed_out_by_what_is_set_aside(world):
    world.worker.frontier.failed_limit = 2
    for i in range(3):
        await world.client.zadd(KEYS.requests, {f"garbage {i}": 0})
    report = await world.check(repair=True)
    assert not report.ok
    finding = report.findings["unreadable_member"]
    assert (finding.count, finding.mended) == (3, 2)
    assert "FRONTIER_FAILED_LIMIT" in " ".join(report.notes)
    assert len(await world.failed()) == 2
    assert await world.client.zcard(KEYS.requests) == 6


async def test_wrong_settings_do_not_set_a_frontier_aside(world):
    def decode(data):
        raise BadPayload("SCHEDULER_SERIALIZER says something else")

    for i in range(20):
        await world.worker.push(*(f"more-{i}-{j}" for j in range(10)))
    report = await world.check(repair=True, decode=decode)
    assert not report.ok
    finding = report.findings["unreadable_payload"]
    assert (finding.count, finding.mended) == (208, 0)
    assert len(finding.examples) == 3
    assert report.code_is_wrong
    assert "SCHEDULER_SERIALIZER" in " ".join(report.notes)
    assert await world.failed() == []


async def test_silent_workers_are_no_damage(world):
    other = await Worker(world.client).join("host:9")
    await world.client.zadd(KEYS.workers, {other.frontier.worker: 1})
    report = await world.check()
    assert report.ok
    assert (report.counts.alive, report.counts.silent) == (1, 1)
    assert "silent" in " ".join(report.notes)
    await world.client.zadd(KEYS.workers, {world.worker.frontier.worker: 1})
    report = await world.check()
    assert report.ok
    assert "start one" in " ".join(report.notes)


async def test_a_redis_that_goes_away_is_one_clear_error(own_redis):
    client = redis.asyncio.Redis.from_url(own_redis.url, protocol=2)
    world = await World(client).build()
    own_redis.kill()
    with pytest.raises(RedisUnavailable):
        await world.check()
    await close_client(client)


async def test_workers_at_work_cause_no_findings(world):
    """Every move that workers make, under a check that runs again and again."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    choose = random.Random(seed)
    stop = False

    async def work(number):
        worker = await Worker(world.client).join(f"host:{number}")
        count = 0
        while not stop:
            leases = await worker.lease(20, suspect=True)
            kept = [lease for lease in leases if choose.random() < 0.8]
            back = [lease.id for lease in leases if lease not in kept]
            count += 1
            names = [f"{number}-{count}-{i}" for i in range(len(kept) or 20)]
            requests = [
                NewRequest(payload(name), choose.randrange(3), slot=choose.randrange(5))
                for name in names
            ]
            await worker.commit(requests, [Settlement(lease.id) for lease in kept])
            if back:
                await worker.call(worker.frontier.release(back))
            if choose.random() < 0.1:
                await worker.lease(5)
                await worker.die(world.client)
                worker = await Worker(world.client).join(f"host:{number}")

    for i in range(10):
        await world.worker.push(*(f"first-{i}-{j}" for j in range(100)))
    tasks = [asyncio.create_task(work(number)) for number in range(3)]
    try:
        for i in range(30):
            report = await world.check(repair=bool(i % 2))
            assert report.ok, report
            assert report.findings == {}, report
    finally:
        stop = True
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("delay", [0.0, 0.002])
async def test_polite_workers_at_work_cause_no_findings(world, delay):
    """Seats are taken, shared, given back and lost, and slots emptied and filled."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    choose = random.Random(seed)
    stop = False

    async def work(number):
        worker = await Worker(world.client).join(f"host:{number}")
        count = 0
        while not stop:
            mine = [
                Renewal(name, 5, choose.randrange(8))
                for name in await worker.call(worker.frontier.held_seats())
            ]
            manners = Manners(Rules(delay, 6), portion=3, seats=3, renewals=mine[:2])
            reply, _ = await worker.call(
                worker.frontier.lease_politely(20, manners, suspects=8)
            )
            count += 1
            names = [f"{number}-{count}-{i}" for i in range(choose.randrange(8))]
            slots = [choose.randrange(9) for _ in names]
            await worker.commit(
                [
                    NewRequest(payload(n), 0, slot=s)
                    for n, s in zip(names, slots, strict=True)
                ],
                [Settlement(lease.id) for lease in reply.leases],
            )
            back = [Yield(name, choose.choice((0, delay))) for name, *_ in mine[1:]]
            await worker.call(worker.frontier.give_seats_back(back))
            if choose.random() < 0.1:
                await worker.die(world.client)
                worker = await Worker(world.client).join(f"host:{number}")

    tasks = [asyncio.create_task(work(number)) for number in range(3)]
    try:
        for i in range(40):
            report = await world.check(repair=bool(i % 2))
            assert report.findings == {}, report
    finally:
        stop = True
        await asyncio.gather(*tasks)


# How requests look in Redis


RANK_OF_255 = encode_score(-2.5) + b"00000000000000ff"


def test_members_are_taken_apart():
    id_ = b"00000000000000ff"
    entry = parse(REQUESTS, RANK_OF_255 + b"\x01abc", score=7.0)
    assert (entry.id, entry.payload, entry.flaw) == (id_, b"\x01abc", "")
    assert (entry.rank, entry.score, entry.slot) == (RANK_OF_255, -2.5, 7)
    entry = parse(SUSPECTS, RANK_OF_255 + b"12 -0123 9 \x01a b")
    assert (entry.id, entry.payload, entry.deliveries) == (id_, b"\x01a b", 12)
    assert (entry.rank, entry.slot, entry.claims) == (RANK_OF_255, 9, "-0123")
    entry = parse(LEASED, id_, b"8 0 - " + RANK_OF_255 + b"\x00seed\n")
    assert (entry.id, entry.payload, entry.deliveries) == (id_, b"\x00seed\n", 1)
    assert (entry.rank, entry.slot) == (RANK_OF_255, 8)
    # What is none of ours has any slot, and bytes of a score may be anything.
    entry = parse(LEASED, id_, b"-1.5e+20 3 - " + b" \n 1 - \x00" + id_ + b"\x01 1 - a")
    assert (entry.payload, entry.deaths, entry.slot) == (b"\x01 1 - a", 3, -1.5e20)


@pytest.mark.parametrize(
    ("place", "member", "value"),
    [
        (REQUESTS, b"", b""),
        (REQUESTS, b"00000000000000ff\x01abc", b""),
        (REQUESTS, RANK_OF_255[:-1], b""),
        (REQUESTS, RANK_OF_255[:-1] + b"g\x01", b""),
        (SUSPECTS, RANK_OF_255 + b"\x01abc", b""),
        (SUSPECTS, RANK_OF_255 + b"1 - 0", b""),
        (SUSPECTS, RANK_OF_255 + b"1 - abc", b""),
        (SUSPECTS, RANK_OF_255 + b"1 - nan abc", b""),
        (SUSPECTS, RANK_OF_255 + b"x - 0 abc", b""),
        (LEASED, b"00000000000000ff", b"0 - " + RANK_OF_255 + b"abc"),
        (LEASED, b"00000000000000ff", b"nan 0 - " + RANK_OF_255 + b"abc"),
        (LEASED, b"00000000000000ff", b"0x1 0 - " + RANK_OF_255 + b"abc"),
        (LEASED, b"00000000000000ff", b"0 x - " + RANK_OF_255 + b"abc"),
        (LEASED, b"00000000000000fe", b"0 0 - " + RANK_OF_255 + b"abc"),
        (LEASED, b"00000000000000ff0", b"0 0 - " + RANK_OF_255 + b"0abc"),
        (LEASED, b"00000000000000ff", b"00000000000000ffabc"),
        (LEASED, b"00000000000000ff", b" 0 0 - " + RANK_OF_255 + b"abc"),
    ],
)
def test_what_has_another_form_has_a_flaw(place, member, value):
    assert parse(place, member, value).flaw


def test_order_ids_tell_how_far_the_counter_was():
    assert order_of(b"000000000000002a") == 42
    assert order_of(f"{2**53 - 1 - 42:016x}".encode()) == 42
    assert order_of(b"ffffffffffffffff") == 0
    assert order_of(b"garbage") == 0


def test_ids_seen_are_remembered():
    seen = IdsSeen()
    ids = [f"{number:016x}".encode() for number in (0, 1, 7, 8, 4095, 4096, 2**64 - 1)]
    assert all(seen.add(id_) for id_ in ids)
    assert not any(seen.add(id_) for id_ in ids)


@pytest.mark.parametrize(
    "data", [payload("a"), b'{"url": "http://site/a"}', b"\x80\x04N.", b"\x02anything"]
)
def test_a_payload_that_may_be_a_request_is_left_alone(data):
    check_form(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"http://site/a",
        b"\x01",
        b"\x01" + messagepack.dumps([1]),
        b"\x01" + messagepack.dumps({"url": 1}),
        b"{",
        b'{"a": 1}',
        b"{\xff",
        b'{"a":' * 100_000,
    ],
)
def test_a_payload_that_is_no_request_is_found_without_the_spider(data):
    with pytest.raises(BadPayload):
        check_form(data)


# Advice


def lines_of(report):
    target = SimpleNamespace(spider="shop", where="redis")
    return "\n".join(_lines(target, report, repaired=False))


async def test_renamed_callback_is_named_and_no_repair_is_advised(world):
    for n in range(12):
        fields = {"url": f"http://site/{n}", "callback": "parse_old"}
        data = b"\x01" + messagepack.dumps(fields)
        await world.worker.commit(requests=[NewRequest(data, 0)])
    codec = PayloadCodec(Spider("shop"))
    before = await world.dump()
    report = await world.check(decode=codec.decode)
    text = lines_of(report)
    assert report.findings["unreadable_payload"].count == 12
    assert "'parse_old'" in text
    assert "--repair" not in text
    assert text.endswith("Not OK")
    repaired = await world.check(decode=codec.decode, repair=True)
    assert (repaired.findings["unreadable_payload"].mended, repaired.ok) == (0, False)
    assert await world.dump() == before


async def test_pickles_of_scrapy_redis_are_to_be_imported(world):
    pickles = {pickle.dumps({"url": f"http://old/{n}"}): 0 for n in range(12)}
    await world.client.zadd(KEYS.requests, pickles)
    report = await world.check(spider="shop")
    text = lines_of(report)
    assert report.findings["unreadable_member"].count == 12
    assert "scrapy frontier import shop --from-scrapy-redis shop" in text
    assert "--repair" not in text
    await world.check(spider="shop", repair=True)
    assert await world.client.zcard(KEYS.requests) == 5 + 12
    assert not await world.client.exists(KEYS.failed)


async def test_other_damage_is_mended_beside_code_that_is_wrong(world):
    pickles = {pickle.dumps({"url": f"http://old/{n}"}): 0 for n in range(20)}
    await world.client.zadd(KEYS.requests, pickles)
    await world.client.hset(KEYS.state, "commit:77", 1)
    report = await world.check(spider="shop")
    assert "--repair" in lines_of(report)
    report = await world.check(spider="shop", repair=True)
    assert report.findings["unknown_worker"].left == 0
    assert report.findings["unreadable_member"].mended == 0


async def test_requests_that_wait_for_room_are_told_of(world):
    world.worker.frontier.failed_limit = 1
    await world.client.xadd(KEYS.failed, {"payload": b"x"})
    member = suspect(f"{9:016x}", "z")
    await world.client.zadd(KEYS.suspects, {member: "+inf"})
    report = await world.check()
    assert report.ok
    assert "1 of the suspects have failed, and s:failed is full" in report.notes[0]


async def test_list_of_scrapy_redis_is_not_to_be_deleted(world):
    await world.client.delete(KEYS.requests)
    await world.client.rpush(KEYS.requests, pickle.dumps({}))
    report = await world.check(spider="shop")
    [example] = report.findings["wrong_type"].examples
    assert "scrapy frontier import shop --from-scrapy-redis shop" in example
    assert "delete" not in example


@pytest.mark.parametrize(("silent", "alive"), [(300, 1), (700, 0)])
async def test_silence_is_measured_by_the_workers_ttl_not_by_the_callers(
    world, silent, alive
):
    await world.client.hset(KEYS.state, "ttl", 600_000)
    seconds, _ = await world.client.time()
    beat = (seconds - silent) * 1000
    await world.client.zadd(KEYS.workers, {world.worker.frontier.worker: beat})
    report = await world.check()  # its own settings say 60 s
    assert (report.counts.alive, report.counts.silent) == (alive, 1 - alive)


# What a check says


async def test_items_of_a_wrong_type_do_not_hide_other_damage(world):
    await world.client.set(KEYS.items, "x")
    await ack_cut_in_half(world)
    report = await world.check(repair=True)
    assert report.findings["wrong_type"].count == 1
    assert report.findings["lease_without_payload"].mended == 1


@pytest.mark.parametrize(
    ("key", "exists"), [(KEYS.items, False), ("s:start_urls", False), ("s:state", True)]
)
async def test_what_outlives_a_crawl_is_no_frontier(client, key, exists):
    world = World(client)
    world.worker = Worker(client)
    if key == "s:state":
        await client.hset(key, "order", 1)
    else:
        await client.rpush(key, "x")
    assert (await world.check()).exists is exists


@pytest.mark.parametrize(
    ("bad", "good", "is_wrong"), [(9, 0, False), (10, 8, True), (10, 10, False)]
)
async def test_code_is_wrong_if_most_of_ten_or_more_cannot_be_read(
    client, bad, good, is_wrong
):
    world = World(client)
    world.worker = await Worker(client).join()
    await world.worker.push(*(f"good-{n}" for n in range(good)))
    await world.worker.push(*(f"bad-{n}" for n in range(bad)))

    def decode(data):
        if b"bad" in data:
            raise BadPayload("a callback is gone")

    report = await world.check(decode=decode, repair=True)
    assert report.code_is_wrong is is_wrong
    mended = 0 if is_wrong else bad
    assert report.findings["unreadable_payload"].mended == mended


async def test_code_is_not_wrong_about_what_a_rule_forbids(client):
    world = World(client)
    world.worker = await Worker(client).join()
    await world.worker.push(*(f"x-{n}" for n in range(20)))

    def decode(data):
        raise BadPayload("somebody else has written it", cause=POLICY)

    report = await world.check(decode=decode, repair=True)
    assert not report.code_is_wrong
    assert report.findings["unreadable_payload"].mended == 20


async def test_counter_behind_what_is_leased_is_found(client):
    """With nothing pending: only leases tell how far it was."""
    world = World(client)
    world.worker = await Worker(client).join()
    await world.worker.push("a")
    [lease] = await world.worker.lease(1)
    await client.hset(KEYS.state, "order", 5)
    report = await world.check(repair=True)
    assert report.findings["order_behind"].mended == 1
    assert int(await client.hget(KEYS.state, "order")) >= int(lease.id, 16)


@pytest.mark.parametrize("what", ["stop", "busy"])
async def test_what_is_left_of_a_worker_in_the_control_is_forgotten(world, what):
    await world.client.hset(KEYS.control, f"{what}:77", "1")
    report = await world.check(repair=True)
    assert report.findings["unknown_worker"].mended == 1
    assert not await world.client.exists(KEYS.control)


async def test_what_fails_while_there_is_room_does_not_wait(world):
    member = suspect(f"{9:016x}", "z")
    await world.client.zadd(KEYS.suspects, {member: "+inf"})
    assert not (await world.check()).notes


async def test_suspects_alone_need_a_worker_too(client):
    world = World(client)
    world.worker = Worker(client)
    member = suspect(f"{9:016x}", "z")
    await client.hset(KEYS.state, "order", 10)
    await client.zadd(KEYS.suspects, {member: 0})
    assert "start one" in " ".join((await world.check()).notes)


async def test_nobody_is_told_to_start_a_worker_that_would_find_nothing(client):
    world = World(client)
    world.worker = Worker(client)
    world.worker.frontier.failed_limit = 1
    await client.xadd(KEYS.failed, {"payload": b"x"})
    await client.hset(KEYS.state, "order", 10)
    member = suspect(f"{9:016x}", "z")
    await client.zadd(KEYS.suspects, {member: "+inf"})
    [note] = (await world.check()).notes
    assert "start one" not in note


async def test_compact_fingerprints_are_counted(client):
    world = World(client)
    world.worker = Worker(client, compact=True)
    await world.worker.join()
    new = [NewRequest(payload(str(n)), 0, compact(str(n))) for n in range(7)]
    # The first reply tells where they go.
    while (await world.worker.send(new)).outcome is Outcome.AGAIN:
        world.worker.commits -= 1
    assert (await world.check()).counts.seen == 7
