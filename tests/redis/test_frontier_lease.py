"""Handing out: lease, release, reject, seeds, claim, drained; and push and count."""

from __future__ import annotations

import os
from hashlib import sha1

import pytest

from scrapy_dist.brokers.redis.layout import RANK, decode_score
from scrapy_dist.brokers.redis.replies import LeaseReply, SeedsReply
from scrapy_dist.codec.envelope import SEED
from scrapy_dist.core.frontier import BATCH, Claim, Left, NewRequest, Reject, Settlement
from tests.support.frontiers import (
    KEYS,
    ON_REDIS_ONLY,
    SEED_KEYS,
    Worker,
    contents,
    dead_letters,
    names,
    pass_time,
    places,
)

MEGABYTE = 1 << 20
PAYLOADS = [
    b"",
    b" ",
    b"  0 0 - x",
    b"\n\r\n",
    b"\0",
    b"\0\0seed",
    b"\xff\x00\xfe 1 - ",
    b"0123456789abcdef",
    b"3 - payload",
    bytes(range(256)),
    os.urandom(1000),
    b"%s %d %%" * 100,
    b"1 MB \0\n" * (MEGABYTE // 7),
]


def stored(lease):
    """The payload as Redis holds it."""
    return SEED + lease.payload if lease.is_seed else lease.payload


def ids(leases):
    return [lease.id for lease in leases]


# lease


async def test_requests_are_leased_by_score_and_then_as_they_came(client):
    worker = await Worker(client).join()
    scores = [0.0, 5, -7, 1.5, 0.0, -1e300, 1e300, float("inf"), -0.25, 0.0, 2**53]
    await worker.commit([NewRequest(f"{n}".encode(), s) for n, s in enumerate(scores)])
    await worker.push("late", score=-7)
    leases = await worker.lease()
    expected = sorted(range(len(scores)), key=lambda n: (scores[n], n))
    order = [str(n) for n in expected]
    order.insert(order.index("2") + 1, "late")
    assert names(leases) == order
    assert len(set(ids(leases))) == len(leases)


async def test_newest_first_among_equal_scores(client):
    worker = await Worker(client, newest_first=True).join()
    await worker.push("a", "b", "c")
    await worker.push("first", score=-1)
    await worker.push("d", "e")
    assert names(await worker.lease(4)) == ["first", "e", "d", "c"]
    await worker.push("f")
    assert names(await worker.lease()) == ["f", "b", "a"]


@pytest.mark.parametrize("score", [0.0, -3.0, 1e22, -1e300, 0.1, 1 / 3, float("-inf")])
async def test_score_is_kept_exactly(client, score):
    worker = await Worker(client).join()
    await worker.push("a", score=score)
    await worker.release(await worker.lease_one())
    [kept] = await client.zrange(KEYS.requests, 0, -1)
    assert decode_score(kept[:8]) == score
    await worker.lease_one()
    other = await Worker(client).join()
    assert await worker.dies(other) == [1, 0, 1]
    [kept] = await client.zrange(KEYS.suspects, 0, -1)
    assert decode_score(kept[:8]) == score


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
async def test_payload_is_the_same_bytes_everywhere(client, payload):
    worker = await Worker(client).join()
    other = await Worker(client, max_deliveries=2).join()
    await worker.push(payload)
    lease = await worker.lease_one()
    assert (stored(lease), lease.suspect) == (payload, False)
    assert await worker.release(lease) == 1
    assert await worker.lease_one() == lease
    await worker.dies(other)
    lease = await other.lease_one()
    assert (stored(lease), lease.suspect) == (payload, True)
    await other.release(lease)
    assert await other.lease_one() == lease
    third = await Worker(client, max_deliveries=2).join()
    assert await other.dies(third) == [0, 1, 1]
    [letter] = await dead_letters(client)
    seed = payload.startswith(SEED)
    assert letter["payload"] == payload[seed:]
    assert letter["kind"] == (b"seed" if seed else b"request")


async def test_lease_moves_a_request_from_pending_to_leased(client):
    worker = await Worker(client).join()
    await worker.push("a", "b", "c")
    reply = await worker.call(worker.frontier.lease(2, suspects=0))
    assert (reply.known, reply.left.pending, reply.left.suspects) == (True, 1, 0)
    assert names(reply.leases) == ["a", "b"]
    assert await places(client) == {
        "pending": ["c"],
        "suspects": [],
        "leased": ["a", "b"],
    }
    owners = await client.zrange(KEYS.leases, 0, -1, withscores=True)
    assert owners == [(id_.encode(), int(worker.number)) for id_ in ids(reply.leases)]
    assert await worker.frontier.leases_held() == ids(reply.leases)


async def test_nothing_is_leased_where_nothing_is_pending(client):
    worker = await Worker(client).join()
    before = await contents(client)
    assert await worker.call(worker.frontier.lease(10, suspects=8)) == LeaseReply(
        True, [], Left(0, 0)
    )
    assert await contents(client) == before


async def test_who_wants_none_is_given_none(client):
    worker = await Worker(client).join()
    doomed = await Worker(client).join()
    await doomed.push("suspect")
    await doomed.lease_one()
    await doomed.dies(worker)
    await worker.push("a")
    before = await contents(client)
    reply = await worker.call(worker.frontier.lease(0, suspects=8))
    assert reply == LeaseReply(True, [], Left(1, 1))
    assert await contents(client) == before


async def test_one_call_leases_a_batch_at_the_most(client):
    worker = await Worker(client).join()
    for _ in range(3):
        await worker.push(*(str(n) for n in range(BATCH)))
    assert len(await worker.lease(10 * BATCH)) == BATCH
    assert len(await worker.lease(BATCH - 1)) == BATCH - 1
    assert len(await worker.lease(BATCH)) == BATCH
    assert len(await worker.lease(BATCH)) == 1


async def test_unknown_worker_is_told_to_register(client):
    worker = await Worker(client).join()
    await worker.push("a", "b")
    stranger = Worker(client)
    before = await contents(client)
    reply = await stranger.call(stranger.frontier.lease(5, suspects=8))
    assert reply == LeaseReply(False, [], Left(2, 0))
    assert await stranger.call(stranger.frontier.take_seeds(5)) == SeedsReply(
        False, [], 0
    )
    assert await contents(client) == before


@pytest.mark.parametrize(
    ("workers", "requests", "shares"),
    [
        (1, 10, [10]),
        (2, 10, [5, 5]),
        (2, 11, [6, 5]),
        (3, 10, [4, 4, 2]),
        (3, 2, [1, 1, 0]),
        (3, 0, [0, 0, 0]),
    ],
)
async def test_each_worker_leases_a_fair_share(client, workers, requests, shares):
    team = [await Worker(client).join() for _ in range(workers)]
    if requests:
        await team[0].push(*(str(n) for n in range(requests)))
    assert [len(await worker.lease()) for worker in team] == shares
    # Nobody gets more until there is more, or somebody is done.
    assert [len(await worker.lease()) for worker in team] == [0] * workers


async def test_share_counts_what_the_worker_holds_already(client):
    worker, other = await Worker(client).join(), await Worker(client).join()
    await worker.push(*(str(n) for n in range(20)))
    assert len(await worker.lease(4)) == 4
    assert len(await worker.lease(100)) == 6
    assert len(await other.lease(100)) == 10


async def test_silent_workers_have_no_share(client):
    worker, silent = await Worker(client).join(), await Worker(client).join()
    await pass_time(client, 61)
    await worker.heartbeat()
    await worker.push("a", "b", "c", "d")
    assert len(await worker.lease()) == 4
    assert await silent.lease() == []


async def test_suspects_come_when_they_are_asked_for(client):
    doomed = await Worker(client).join()
    await doomed.push("s1", "s2", "s3")
    await doomed.lease()
    worker = await Worker(client).join()
    assert await doomed.dies(worker) == [3, 0, 1]
    await worker.push("a", "b", "c")

    reply = await worker.call(worker.frontier.lease(10, suspects=0))
    assert names(reply.leases) == ["a", "b", "c"]
    assert (reply.left.pending, reply.left.suspects) == (0, 3)
    reply = await worker.call(worker.frontier.lease(10, suspects=2))
    assert [lease.suspect for lease in reply.leases] == [True, True]
    assert (reply.left.pending, reply.left.suspects) == (0, 1)


async def test_a_suspect_is_one_of_those_that_are_wanted(client):
    worker = await Worker(client).join()
    doomed = await Worker(client).join()
    await doomed.push("s")
    await doomed.lease_one()
    await doomed.dies(worker)
    await worker.push("a", "b", "c")
    assert names(await worker.lease(1)) == ["s"]
    assert names(await worker.lease(2)) == ["a", "b"]


async def test_suspects_go_out_by_score_and_then_as_they_came(client):
    doomed = await Worker(client).join()
    for score in (3, -2, -2, 7):
        await doomed.push(f"{score}", score=score)
    await doomed.lease()
    worker = await Worker(client).join()
    await doomed.dies(worker)
    found = [await worker.lease_one() for _ in range(4)]
    assert names(found) == ["-2", "-2", "3", "7"]
    assert found[0].id < found[1].id


@ON_REDIS_ONLY
@pytest.mark.parametrize("key", [KEYS.requests, KEYS.suspects])
async def test_what_somebody_else_put_there_is_handed_out_to_be_set_aside(client, key):
    worker = await Worker(client).join()
    junk = [b"garbage", b"http://x", b"", b"0123456789abcde", b"\x00\xff 1 - \n" * 9]
    await client.zadd(key, {member: n for n, member in enumerate(junk)})
    leases = []
    for _ in junk:
        leases += await worker.lease(1)
    assert [stored(lease) for lease in leases] == junk
    assert len(set(ids(leases))) == len(junk)
    rejects = [Reject(lease.id, "request", "not ours") for lease in leases]
    assert await worker.call(worker.frontier.reject(rejects, max_size=99)) == len(junk)
    assert [letter["payload"] for letter in await dead_letters(client)] == junk
    assert (await worker.call(worker.frontier.drained())).is_drained


#: What stands where an order id does, and is none: though a part of it, as a number, is.
ALMOST_IDS = [
    b"00400000000000\x00\x00",
    b"004000000000000\x00",
    b"004000000000000 ",
    b"00400000000000 0",
    b"0040000000000\t\t\t",
    b" 040000000000000",
    b"+040000000000000",
    b"-040000000000000",
    b"0x40000000000000",
    b"00x4000000000000",
    b"00400000000000g0",
    b"004000000000000g",
    b"00-4000000000000",
]


@ON_REDIS_ONLY
@pytest.mark.parametrize("id_", ALMOST_IDS)
async def test_what_is_almost_an_order_id_is_none(client, id_):
    worker = await Worker(client).join()
    member = b"12345678" + id_ + b"payload"
    await client.zadd(KEYS.requests, {member: 0})
    lease = await worker.lease_one()
    assert stored(lease) == member
    assert lease.id == sha1(member).hexdigest()[:16]
    await worker.release(lease)
    assert stored(await worker.lease_one()) == member


@ON_REDIS_ONLY
@pytest.mark.parametrize(
    "id_",
    ["0000000000000001", "000FFFFFFFFFFFFF", "001fffffffffffff", "ffffffffffffffff"],
)
async def test_any_sixteen_hex_digits_are_an_order_id(client, id_):
    worker = await Worker(client).join()
    await client.zadd(KEYS.requests, {b"12345678" + id_.encode() + b"payload": 0})
    lease = await worker.lease_one()
    assert (lease.id, stored(lease)) == (id_, b"payload")


# release


async def test_released_request_is_as_it_was(client):
    worker = await Worker(client).join()
    await worker.push("a", "b", "c", score=2.5)
    before = await client.zrange(KEYS.requests, 0, -1, withscores=True)
    leases = await worker.lease()
    assert await worker.release(*leases) == 3
    assert await client.zrange(KEYS.requests, 0, -1, withscores=True) == before
    assert await worker.lease() == leases


async def test_released_suspect_stays_a_suspect_with_its_deaths(client):
    worker = await Worker(client, max_deliveries=9).join()
    await worker.push("a")
    for deaths in (1, 2, 3):
        await worker.release(*(await worker.lease()))
        await worker.lease_one()
        after = await Worker(client, max_deliveries=9).join()
        await worker.dies(after)
        worker = after
        [member] = await client.zrange(KEYS.suspects, 0, -1)
        assert member[RANK:] == b"%d - 0 a" % deaths


async def test_only_the_owner_releases(client):
    worker, other = await Worker(client).join(), await Worker(client).join()
    await worker.push("a", "b")
    mine, theirs = await worker.lease_one(), await other.lease_one()
    before = await contents(client)
    assert await worker.release(theirs) == 0
    assert await Worker(client).release(mine, theirs) == 0
    unknown = worker.frontier.release(["00000000000000ff", "", "nonsense"])
    assert await worker.call(unknown) == 0
    assert await contents(client) == before
    assert await worker.release(theirs, mine) == 1
    assert (await places(client))["leased"] == ["b"]


async def test_release_of_nothing_changes_nothing(client):
    worker = await Worker(client).join()
    before = await contents(client)
    assert await worker.release() == 0
    assert await contents(client) == before


async def test_a_batch_is_released_at_once_and_only_once(client):
    worker = await Worker(client).join()
    await worker.push(*(str(n) for n in range(BATCH)))
    leases = await worker.lease()
    assert await worker.release(*leases) == BATCH
    pending = await client.zrange(KEYS.requests, 0, -1, withscores=True)
    before = await contents(client)
    assert await worker.release(*leases) == 0
    assert await contents(client) == before
    assert len(pending) == BATCH


async def test_releasing_an_ack_that_was_cut_in_half_ends_it(client):
    worker = await Worker(client).join()
    await worker.push("a")
    lease = await worker.lease_one()
    await client.hdel(KEYS.leased, lease.id)
    assert await worker.release(lease) == 1
    assert (await worker.call(worker.frontier.drained())).is_drained


# reject


async def test_rejected_request_is_a_dead_letter_that_says_why(client):
    worker = await Worker(client).join("host:7")
    await worker.push("a", "b")
    a, b = await worker.lease()
    reason = "naïve\n reason \0 %s"
    rejects = [Reject(a.id, "request", reason), Reject(b.id, "request", "x")]
    assert await worker.call(worker.frontier.reject(rejects, max_size=9)) == 2
    letter, _ = await dead_letters(client)
    assert abs(int(letter.pop("time")) / 1000 - (await client.time())[0]) < 60
    assert letter == {
        "payload": b"a",
        "reason": reason.encode(),
        "worker": b"host:7",
        "deliveries": b"1",
        "kind": b"request",
    }
    assert (await places(client))["leased"] == []
    assert (await worker.call(worker.frontier.drained())).is_drained


async def test_rejected_seed_is_the_seed_as_it_was_pushed(client):
    worker = await Worker(client).join()
    await client.rpush(SEED_KEYS[0], b"not a URL")
    [lease] = await worker.seeds()
    await worker.call(
        worker.frontier.reject([Reject(lease.id, "seed", "bad")], max_size=99)
    )
    [letter] = await dead_letters(client)
    assert (letter["payload"], letter["kind"]) == (b"not a URL", b"seed")


@pytest.mark.parametrize("size", [0, 1, 10, 99])
async def test_dead_letter_holds_the_beginning_of_a_long_payload(client, size):
    worker = await Worker(client).join()
    payload = bytes(range(20))
    await worker.push(payload)
    lease = await worker.lease_one()
    reject = worker.frontier.reject(
        [Reject(lease.id, "request", "long")], max_size=size
    )
    assert await worker.call(reject) == 1
    assert (await dead_letters(client))[0]["payload"] == payload[:size]


async def test_deliveries_of_a_rejected_suspect_count_the_deaths(client):
    worker = await Worker(client, max_deliveries=9).join()
    await worker.push("a")
    for _ in range(2):
        await worker.lease_one()
        after = await Worker(client, max_deliveries=9).join()
        await worker.dies(after)
        worker = after
    lease = await worker.lease_one()
    await worker.call(
        worker.frontier.reject([Reject(lease.id, "request", "x")], max_size=9)
    )
    assert (await dead_letters(client))[0]["deliveries"] == b"3"


async def test_only_the_owner_rejects_and_only_once(client):
    worker, other = await Worker(client).join(), await Worker(client).join()
    await worker.push("a", "b")
    mine, theirs = await worker.lease_one(), await other.lease_one()
    rejects = [Reject(i, "request", "x") for i in (theirs.id, "00000000000000ff", "")]
    assert await worker.call(worker.frontier.reject(rejects, max_size=9)) == 0
    assert await worker.call(worker.frontier.reject([], max_size=9)) == 0
    assert await dead_letters(client) == []
    assert (await places(client))["leased"] == ["a", "b"]
    rejects.append(Reject(mine.id, "request", "x"))
    assert await worker.call(worker.frontier.reject(rejects, max_size=9)) == 1
    assert await worker.call(worker.frontier.reject(rejects, max_size=9)) == 0
    assert len(await dead_letters(client)) == 1


@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_rejects_that_find_no_room_among_the_dead_letters_stay(client, limit):
    worker = await Worker(client, failed_limit=limit).join()
    await worker.push(*"abcde")
    rejects = [Reject(lease.id, "request", "x") for lease in await worker.lease()]
    assert await worker.call(worker.frontier.reject(rejects, max_size=9)) == 5
    kept = [letter["payload"] for letter in await dead_letters(client)]
    assert kept == [b"a", b"b", b"c", b"d", b"e"][:limit]
    # nobody is given the others, and the crawl does not end
    stay = list("abcde"[limit:])
    assert await places(client) == {"pending": [], "suspects": stay, "leased": []}
    reply = await worker.call(worker.frontier.lease(9, suspects=8))
    assert (reply.leases, reply.left.suspects, reply.left.waiting) == ([], 0, len(stay))
    state = await worker.call(worker.frontier.drained())
    assert not state.is_drained
    assert (state.is_stuck, state.waiting) == (True, len(stay))
    assert not await worker.leave(finished=True)
    assert (await places(client))["suspects"] == stay


async def test_what_waits_for_room_goes_on_with_each_letter_that_is_deleted(client):
    worker = await Worker(client, failed_limit=2).join()
    await worker.push(*"abcde", score=-3)
    rejects = [Reject(lease.id, "request", "x") for lease in await worker.lease()]
    await worker.call(worker.frontier.reject(rejects, max_size=9))
    await worker.push("new")
    assert not (await worker.call(worker.frontier.drained())).is_stuck
    assert names(await worker.lease()) == ["new"]  # the others do not stand before it
    [first, _] = await client.xrange(KEYS.failed)
    await client.xdel(KEYS.failed, first[0])
    assert not (await worker.call(worker.frontier.drained())).is_stuck
    assert await worker.call(worker.frontier.readmit()) == [1, 2]
    [again] = await worker.lease()
    assert (again.payload, again.suspect) == (b"c", True)
    # It fails once more: there is room, then none.
    rejects = [Reject(again.id, "request", "x")]
    assert await worker.call(worker.frontier.reject(rejects, max_size=9)) == 1
    assert await worker.call(worker.frontier.readmit()) == [0, 2]
    # A worker with a higher limit takes up the rest.
    generous = await Worker(client, failed_limit=9).join()
    assert await generous.call(generous.frontier.readmit()) == [2, 0]
    assert names(await generous.lease(1) + await worker.lease(1)) == ["d", "e"]


async def test_seed_that_finds_no_room_is_still_a_seed(client):
    worker = await Worker(client, failed_limit=1).join()
    await client.rpush(SEED_KEYS[0], "bad", "worse")
    rejects = [Reject(lease.id, "seed", "no URL") for lease in await worker.seeds()]
    await worker.call(worker.frontier.reject(rejects, max_size=99))
    assert [x["payload"] for x in await dead_letters(client)] == [b"bad"]
    await client.delete(KEYS.failed)
    await worker.call(worker.frontier.readmit())
    assert stored(await worker.lease_one()) == SEED + b"worse"


# seeds


async def test_seeds_are_leased_from_the_left_of_a_list(client):
    worker = await Worker(client).join()
    await client.rpush(SEED_KEYS[0], "a", "b", "a", "c")
    reply = await worker.call(worker.frontier.take_seeds(3))
    assert (reply.known, reply.left) == (True, 1)
    assert names(reply.leases) == ["a", "b", "a"]
    assert all(lease.is_seed for lease in reply.leases)
    assert await client.lrange(SEED_KEYS[0], 0, -1) == [b"c"]
    assert await worker.frontier.leases_held() == ids(reply.leases)


async def test_seeds_are_leased_by_score_from_a_sorted_set(client):
    worker = await Worker(client).join()
    await client.zadd(SEED_KEYS[0], {"low": -5, "mid": 0.5, "high": 7})
    leases = await worker.seeds(2)
    assert [lease.payload for lease in leases] == [b"high", b"mid"]
    assert await client.zrange(SEED_KEYS[0], 0, -1) == [b"low"]


async def test_any_seeds_are_leased_from_a_set(client):
    worker = await Worker(client).join()
    seeds = {str(n).encode() for n in range(10)}
    await client.sadd(SEED_KEYS[0], *seeds)
    leases = await worker.seeds(4)
    taken = {lease.payload for lease in leases}
    assert len(taken) == 4
    assert await client.smembers(SEED_KEYS[0]) == seeds - taken


async def test_seed_keys_are_emptied_in_their_order(client):
    worker = await Worker(client).join()
    await client.sadd(SEED_KEYS[1], "later")
    await client.rpush(SEED_KEYS[0], "a", "b")
    reply = await worker.call(worker.frontier.take_seeds(1))
    assert ([s.payload for s in reply.leases], reply.left) == ([b"a"], 2)
    reply = await worker.call(worker.frontier.take_seeds(5))
    assert [s.payload for s in reply.leases] == [b"b", b"later"]
    assert reply.left == 0
    assert len({*ids(reply.leases)}) == 2


async def test_seeds_are_counted_when_none_are_wanted(client):
    worker = await Worker(client).join()
    await client.rpush(SEED_KEYS[0], *range(5))
    before = await contents(client)
    assert await worker.call(worker.frontier.take_seeds(0)) == SeedsReply(True, [], 5)
    assert await contents(client) == before


async def test_one_call_leases_a_batch_of_seeds_at_the_most(client):
    worker = await Worker(client).join()
    await client.rpush(SEED_KEYS[0], *range(2 * BATCH + 1))
    assert len(await worker.seeds(10 * BATCH)) == BATCH
    assert len(await worker.seeds(10 * BATCH)) == BATCH
    assert len(await worker.seeds(10 * BATCH)) == 1


@pytest.mark.parametrize(
    ("workers", "seeds", "shares"),
    [(1, 10, [10]), (2, 11, [6, 5]), (3, 10, [4, 4, 2]), (3, 2, [1, 1, 0])],
)
async def test_each_worker_leases_a_fair_share_of_the_seeds(
    client, workers, seeds, shares
):
    team = [await Worker(client).join() for _ in range(workers)]
    await client.rpush(SEED_KEYS[0], *range(seeds // 2))
    await client.sadd(SEED_KEYS[1], *range(seeds - seeds // 2))
    assert [len(await worker.seeds()) for worker in team] == shares
    assert [len(await worker.seeds()) for worker in team] == [0] * workers


async def test_share_of_the_seeds_counts_leases_and_the_living(client):
    worker, other = await Worker(client).join(), await Worker(client).join()
    await worker.push(*(str(n) for n in range(8)))
    assert len(await worker.lease(4)) == 4
    await client.rpush(SEED_KEYS[0], *range(4))
    reply = await worker.call(worker.frontier.take_seeds(100))
    assert (len(reply.leases), reply.left) == (0, 4)
    assert len(await other.seeds(3)) == 3
    await client.zadd(KEYS.workers, {other.number: 1})  # silent for long
    assert len(await worker.seeds()) == 1


@pytest.mark.parametrize("seed", PAYLOADS, ids=range(len(PAYLOADS)))
async def test_seed_is_the_same_bytes_everywhere(client, seed):
    worker = await Worker(client, max_seed=MEGABYTE).join()
    await client.rpush(SEED_KEYS[0], seed)
    [lease] = await worker.seeds()
    assert (lease.payload, lease.is_seed) == (seed, True)
    await worker.release(lease)
    assert stored(await worker.lease_one()) == SEED + seed
    other = await Worker(client).join()
    await worker.dies(other)
    assert stored(await other.lease_one()) == SEED + seed


async def test_acknowledged_seed_is_done(client):
    worker = await Worker(client).join()
    await client.rpush(SEED_KEYS[0], "a")
    [lease] = await worker.seeds()
    child = NewRequest(b"child", 0.0)
    await worker.commit(pages=[Settlement(lease.id, requests=[child])])
    assert await places(client) == {"pending": ["child"], "suspects": [], "leased": []}
    assert await client.exists(*SEED_KEYS) == 0


# claim


@ON_REDIS_ONLY
async def test_claim_is_true_once(client):
    worker = await Worker(client).join()
    await worker.push("page", "other")
    page, other = await worker.lease()

    async def claim(*claims):
        return await worker.call(worker.frontier.claim(claims))

    assert await claim(Claim("fp", [page.id])) == [True]
    assert await client.smembers(KEYS.dupefilter) == {b"fp"}
    assert await claim(Claim("fp", [other.id]), Claim("fp", []), Claim("new", [])) == [
        False,
        False,
        True,
    ]
    # Its own lease may follow it again: the reply may have been lost.
    assert await claim(Claim("fp", [page.id]), Claim("fp", [other.id, page.id])) == [
        True,
        True,
    ]
    assert await claim() == []


@ON_REDIS_ONLY
async def test_claim_is_kept_with_the_lease_through_release_and_death(client):
    worker = await Worker(client).join()
    await worker.push("page", "other")
    page, other = await worker.lease()
    claim = [Claim("fp", [page.id]), Claim("start", [page.id], 1)]
    assert await worker.call(worker.frontier.claim(claim)) == [True, True]
    await worker.release(page, other)
    assert await places(client) == {
        "pending": ["other"],
        "suspects": ["page"],
        "leased": [],
    }
    after = await Worker(client).join()
    await worker.leave()
    page = await after.lease_one()
    assert await after.call(after.frontier.claim(claim)) == [True, True]
    third = await Worker(client).join()
    await after.dies(third)
    assert (await third.lease_one()).id == page.id
    other = (await third.lease())[0]
    claims = [Claim("fp", [other.id]), *claim]
    assert await third.call(third.frontier.claim(claims)) == [False, True, True]
    await third.ack(page)
    claims = [Claim("fp", [other.id]), Claim("fp", []), Claim("start", [], 1)]
    assert await third.call(third.frontier.claim(claims)) == [False] * 3


@ON_REDIS_ONLY
async def test_claim_for_several_leases_is_kept_with_each(client):
    worker = await Worker(client).join()
    await worker.push("a", "b", "c")
    a, b, c = await worker.lease()

    async def claim(*leases):
        claims = [Claim("fp", [lease.id for lease in leases])]
        return await worker.call(worker.frontier.claim(claims))

    assert await claim(a, b) == [True]
    await worker.ack(a)
    assert await claim(c) == [False]
    assert await claim(c, b) == [True]
    await worker.ack(b)
    assert await claim(c) == [False]


@ON_REDIS_ONLY
async def test_start_request_is_claimed_once_per_crawl_though_it_was_seen(client):
    worker = await Worker(client).join()
    await client.sadd(KEYS.dupefilter, "fp")
    claims = [Claim("fp", [], 1), Claim("fp", [], 1), Claim("fp", [])]
    assert await worker.call(worker.frontier.claim(claims)) == [True, False, False]
    assert await client.smembers(KEYS.started) == {b"fp"}


@ON_REDIS_ONLY
@pytest.mark.parametrize("lost_to", ["nobody", "another worker", "the acknowledgement"])
async def test_claim_for_a_lease_of_another_marks_nothing_as_seen(client, lost_to):
    """Else nobody would crawl it: the results of this worker are not taken any more."""
    worker, zombie = await Worker(client).join(), await Worker(client).join()
    await zombie.push("page")
    page = await zombie.lease_one()
    await zombie.dies(worker)
    if lost_to != "nobody":
        assert (await worker.lease_one()).id == page.id
    if lost_to == "the acknowledgement":
        await worker.ack(page)
    await zombie.register()
    await zombie.push("own")
    own = await zombie.lease_one(suspect=False)
    before = await contents(client)
    claims = [
        Claim("fp", [page.id]),
        Claim("start", [page.id], 1),
        Claim("fp", [own.id, page.id]),
    ]
    assert await zombie.call(zombie.frontier.claim(claims)) == [True] * 3
    assert await contents(client) == before


# drained


async def test_a_frontier_that_does_not_exist_is_drained(client):
    worker = Worker(client)
    drained = await worker.call(worker.frontier.drained())
    assert drained
    assert drained.idle == 0
    assert await contents(client) == {}


async def test_drained_counts_everything_that_is_left(client):
    worker, doomed = await Worker(client).join(), await Worker(client).join()

    async def drained():
        return await worker.call(worker.frontier.drained())

    assert await drained()
    await doomed.push("a")
    assert not (found := await drained()).is_drained
    assert (found.pending, found.suspects, found.leased, found.seeds) == (1, 0, 0, 0)
    await doomed.lease_one()
    assert not (found := await drained()).is_drained
    assert (found.pending, found.suspects, found.leased, found.seeds) == (0, 0, 1, 0)
    await doomed.dies(worker)
    assert not (found := await drained()).is_drained
    assert (found.pending, found.suspects, found.leased, found.seeds) == (0, 1, 0, 0)
    await worker.ack(await worker.lease_one())
    assert await drained()
    await client.rpush(SEED_KEYS[0], "x", "y")
    await client.zadd(SEED_KEYS[1], {"z": 1})
    assert not (found := await drained()).is_drained
    assert (found.pending, found.suspects, found.leased, found.seeds) == (0, 0, 0, 3)


async def test_idle_is_the_time_since_anybody_did_anything(client):
    worker = await Worker(client).join()

    async def idle():
        return (await worker.call(worker.frontier.drained())).idle

    await pass_time(client, 30)
    assert 30 <= await idle() < 40
    await worker.heartbeat()
    assert await idle() >= 30  # who only beats does nothing
    await worker.push("a")
    assert await idle() < 10
    await pass_time(client, 30)
    lease = await worker.lease_one()
    assert await idle() < 10
    await pass_time(client, 30)
    await worker.release(lease)
    assert await idle() < 10


# push


@pytest.mark.keeps("i:*", reason="lists of items")
async def test_items_are_appended_in_their_order(client):
    worker = Worker(client)
    items = [("i:1", b"a"), ("i:2", b"\0\n"), ("i:1", b"c" * MEGABYTE), ("i:1", b"")]
    assert await worker.call(worker.frontier.push(items)) == 4
    assert await worker.call(worker.frontier.push([("i:2", b"b")])) == 1
    assert await worker.call(worker.frontier.push([])) == 0
    assert await contents(client) == {
        "i:1": [b"a", b"c" * MEGABYTE, b""],
        "i:2": [b"\0\n", b"b"],
    }


# count


async def test_stats_of_all_workers_come_together(client):
    first, second = Worker(client), Worker(client)
    one = [("inc", "n", "2"), ("set", "s", "x"), ("max", "m", "5"), ("min", "l", "5")]
    assert await first.call(first.frontier.count(one)) == 4
    two = [
        ("inc", "n", "0.5"),
        ("inc", "n", "-1"),
        ("set", "s", "y\n"),
        ("max", "m", "4"),
        ("min", "l", "-4.5"),
    ]
    assert await second.call(second.frontier.count(two)) == 5
    assert await second.call(second.frontier.count([])) == 0
    assert await client.hgetall(KEYS.stats) == {
        b"n": b"1.5",
        b"s": b"y\n",
        b"m": b"5",
        b"l": b"-4.5",
    }
    await first.call(first.frontier.count([("max", "m", "6"), ("inc", "s", "3")]))
    assert await client.hmget(KEYS.stats, "m", "s") == [b"6", b"3"]


async def test_stats_of_a_worker_that_left_need_a_frontier(client):
    worker = Worker(client)
    last = worker.frontier.count([("inc", "n", "1")], if_exists=True)
    assert await worker.call(last) == 0
    assert await contents(client) == {}
    await worker.join()
    assert await worker.call(last) == 1
    assert await client.hgetall(KEYS.stats) == {b"n": b"1"}


# What belongs to nobody


async def test_crawl_is_not_drained_while_payloads_lie_about_without_a_lease(client):
    worker = await Worker(client).join()
    await worker.push("a", "b")
    await worker.lease()
    await client.delete(KEYS.leases)
    state = await worker.call(worker.frontier.drained())
    assert not state.is_drained
    assert (state.leased, state.orphans, state.unknown) == (0, 2, 0)
    assert not await worker.leave(finished=True)
    assert len(await client.hgetall(KEYS.leased)) == 2


async def test_leases_of_workers_that_nobody_knows_are_counted(client):
    worker, other = await Worker(client).join(), await Worker(client).join()
    await worker.push(*"abcd")
    await worker.lease(1)
    await other.lease(1)
    await client.zrem(KEYS.workers, other.number)
    state = await worker.call(worker.frontier.drained())
    assert (state.leased, state.orphans, state.unknown) == (2, 0, 1)


async def test_of_equal_seeds_each_is_taken_by_itself(client):
    """And from the left: the others keep their places."""
    worker = await Worker(client).join()
    await client.rpush(SEED_KEYS[0], "a", "b", "a", "b")
    assert [lease.payload for lease in await worker.seeds(1)] == [b"a"]
    assert await client.lrange(SEED_KEYS[0], 0, -1) == [b"b", b"a", b"b"]
    assert len(await worker.seeds(2)) == 2
    assert await client.lrange(SEED_KEYS[0], 0, -1) == [b"b"]
