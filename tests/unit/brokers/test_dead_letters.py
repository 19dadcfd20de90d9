"""Dead letters: listed in steps, put back by one script, deleted."""

from __future__ import annotations

import json
from itertools import count

import pytest
from scrapy import Request, Spider

from scrapy_dist.brokers.redis.layout import RANK, decode_score
from scrapy_dist.brokers.redis.tools import dead_letters
from scrapy_dist.brokers.redis.tools.check import check
from scrapy_dist.brokers.redis.tools.dead_letters import forget, retry
from scrapy_dist.brokers.redis.views.dead_letters import list_failed
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.frontier import BATCH, Claim, End, Reject, Settlement
from scrapy_dist.core.slots import NO_SLOT, Slots, host_of, slot_number
from scrapy_dist.exceptions import BadPayload, ConfigurationError, RedisUnavailable
from scrapy_dist.queue import FifoQueue, LifoQueue
from tests.support.frontiers import KEYS, ON_REDIS_ONLY, SEED_KEYS, Worker

URL = "http://site.example/"
CODEC = PayloadCodec(Spider("s"))


def payload(number=1, priority=0):
    return CODEC.encode(Request(f"{URL}{number}", priority=priority))


async def write(client, body, *, reason="HTTP 500", kind="request", **fields):
    """A letter as the scripts write it; its id."""
    fields = {"worker": "host:1", "deliveries": 1, "time": 1700000000123} | fields
    letter = {"payload": body, "reason": reason, "kind": kind, **fields}
    return (await client.xadd(KEYS.failed, letter)).decode()


async def listed(client, **options):
    frontier = Worker(client).frontier
    return [letter async for letter in list_failed(frontier, **options)]


async def left(client):
    return [letter.id for letter in await listed(client, newest_first=False)]


# Listing


async def test_letters_come_newest_first(client):
    ids = [await write(client, payload(i)) for i in range(250)]
    found = await listed(client)
    assert [letter.id for letter in found] == ids[::-1]
    assert found[0].url == f"{URL}249"


async def test_a_page_goes_on_behind_a_letter_that_may_have_gone(client):
    ids = [await write(client, payload(i)) for i in range(5)]
    await client.xdel(KEYS.failed, ids[2])
    found = await listed(client, before=ids[2])
    assert [letter.id for letter in found] == [ids[1], ids[0]]
    assert await listed(client, before=ids[0]) == []


async def test_letters_that_come_meanwhile_are_left_out(client):
    for i in range(30):
        await write(client, payload(i))
    seen = []
    async for letter in list_failed(Worker(client).frontier, newest_first=False):
        seen.append(letter.url)
        await write(client, payload("new"))
    assert seen == [f"{URL}{i}" for i in range(30)]


async def test_letter_tells_all_that_is_known(client):
    id_ = await write(client, payload(1, priority=7), deliveries=3, worker="shop:12")
    [letter] = await listed(client)
    assert letter == dead_letters.DeadLetter(
        id=id_,
        kind="request",
        time_ms=1700000000123,
        deliveries=3,
        worker="shop:12",
        reason="HTTP 500",
        payload=payload(1, priority=7),
    )
    assert (letter.url, letter.priority) == (f"{URL}1", 7)


async def test_reason_is_searched_in_any_case(client):
    await write(client, payload(1), reason="the download failed: TimeoutError")
    await write(client, payload(2), reason="HTTP 500 is not handled")
    [letter] = await listed(client, reason="timeout")
    assert letter.url == f"{URL}1"
    assert await listed(client, reason="no such thing") == []


async def test_large_letters_are_read_few_at_a_time(client, monkeypatch):
    for i in range(30):
        await write(client, b"\x01" + b"x" * 400_000 + str(i).encode())
    asked = []
    client_class = type(client)
    xrevrange = client_class.xrevrange

    def spy(self, name, max="+", min="-", count=None):  # noqa: A002
        asked.append(count)
        return xrevrange(self, name, max, min, count)

    monkeypatch.setattr(client_class, "xrevrange", spy)
    assert len(await listed(client)) == 30
    assert max(asked[2:]) == 2
    assert sum(asked[1:]) < 45


@pytest.mark.parametrize(
    ("kind", "body", "url"),
    [
        ("request", payload(5), f"{URL}5"),
        ("request", json.dumps({"url": URL}).encode(), URL),
        ("request", b"\x80\x04\x95 a pickle", ""),
        ("request", b"\x02 another serializer", ""),
        ("request", b"\x01 not MessagePack", ""),
        ("request", b"{" * 100_000, ""),
        ("request", b"", ""),
        ("request", b'["list"]', ""),
        ("request", json.dumps({"url": 7}).encode(), ""),
        ("seed", URL.encode(), URL),
        ("seed", json.dumps({"url": URL, "priority": 3}).encode(), URL),
        ("seed", b'{"no": "url"}', ""),
        ("seed", b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
async def test_url_is_read_without_a_project_and_without_pickle(
    client, kind, body, url
):
    await write(client, body, kind=kind)
    [letter] = await listed(client)
    assert letter.url == url


async def test_letter_that_somebody_wrote_by_hand_is_listed(client):
    await client.xadd(KEYS.failed, {"time": "yesterday", b"\xff": b"\xff"})
    [letter] = await listed(client)
    assert (letter.kind, letter.time_ms, letter.deliveries) == ("request", 0, 0)
    assert (letter.worker, letter.reason, letter.payload) == ("", "", b"")


async def test_key_of_another_type_is_named(client):
    await client.set(KEYS.failed, "x")
    for operation in (listed(client), retry_all(client), forget_all(client)):
        with pytest.raises(
            ConfigurationError, match=f"{KEYS.failed} holds something else"
        ):
            await operation


# Putting back


async def retry_all(client, **options):
    return await retry(Worker(client).frontier, **options)


async def forget_all(client, **options):
    return await forget(Worker(client).frontier, **options)


async def test_request_is_pending_again_with_its_priority(client):
    worker = await Worker(client).join()
    await worker.push(payload("pending"))
    await worker.push(payload("first"), score=-9)
    for i, priority in enumerate((0, 9, 0)):
        await write(client, payload(i, priority))
    done = await retry_all(client, decode=CODEC.decode)
    assert (done.requests, done.seeds, done.unreadable, done.missing) == (3, 0, 0, 0)
    assert await left(client) == []
    assert [CODEC.decode(lease.payload).url for lease in await worker.lease()] == [
        f"{URL}{name}" for name in ("first", 1, "pending", 0, 2)
    ]


async def test_request_may_be_retried_as_often_as_a_new_one(client):
    meta = {"retry_times": 2, "depth": 3}
    request = Request(f"{URL}1", priority=5, meta=meta)
    await write(client, CODEC.encode(request))
    await write(client, json.dumps({"url": URL, "meta": meta}).encode())
    done = await retry(Worker(client).frontier)
    assert done.requests == 2
    found = await client.zrange(KEYS.requests, 0, -1)
    assert [decode_score(member[:8]) for member in found] == [-7, -2]
    fresh = CODEC.decode(found[0][RANK:])
    assert (fresh.priority, fresh.meta) == (7, {"depth": 3})
    assert json.loads(found[1][RANK:])["meta"] == {"depth": 3}


@pytest.mark.parametrize("decode", [None, CODEC.decode])
async def test_what_is_put_back_has_its_slot(client, decode):
    claims = "-0123456789abcdef"
    await write(client, payload(1))
    await write(client, payload(2), claims=claims)
    await write(client, CODEC.encode(Request(f"{URL}3", meta={"download_slot": "x"})))
    await write(client, json.dumps({"url": "http://other/"}).encode())
    await write(client, b"\x80a pickle")
    known = {"http://other/": CODEC.encode(Request("http://other/"))}

    def read(data):
        return decode(known["http://other/"] if data[:1] == b"{" else data)

    worker = await Worker(client).join()
    slots = Slots(host_of)
    done = await retry(worker.frontier, decode=decode and read, slots=slots)
    assert (done.requests, done.unreadable) == (5, 0)
    pending = await client.zrange(KEYS.requests, 0, -1, withscores=True)
    host = slot_number("site.example")
    found = {member[RANK:]: int(slot) for member, slot in pending}
    assert found[payload(1)] == host
    assert found[b"\x80a pickle"] == NO_SLOT
    assert sorted(found.values()) == sorted(
        [host, slot_number("x"), slot_number("other"), NO_SLOT]
    )
    assert {int(slot) for slot in await client.zrange(KEYS.slots, 0, -1)} == {
        *found.values()
    }
    [suspect] = await client.zrange(KEYS.suspects, 0, -1)
    assert suspect[RANK:].startswith(f"0 {claims} {host} ".encode())
    assert len(await worker.lease()) == 5


async def test_slots_of_a_discipline_without_them_are_one(client):
    for i in range(2):
        await write(client, CODEC.encode(Request(f"http://host{i}/")))
    await retry_all(client, discipline=FifoQueue, slots=Slots(None))
    assert await client.zrange(KEYS.slots, 0, -1) == [b"0"]


async def test_letter_with_claims_becomes_a_suspect_that_keeps_them(client):
    claims = "-0123456789abcdef"
    await write(client, payload(1, priority=2), claims=claims)
    await write(client, payload(2))
    worker = await Worker(client).join()
    assert (await retry(worker.frontier)).requests == 2
    [(suspect, score)] = await client.zrange(KEYS.suspects, 0, -1, withscores=True)
    ranked = b"0 " + claims.encode() + b" 0 " + payload(1, priority=2)
    assert suspect[RANK:] == ranked
    assert (decode_score(suspect[:8]), score) == (-2, 0)
    assert len(await worker.lease()) == 2


async def test_seed_with_claims_becomes_a_suspect_that_keeps_them(client):
    """What its page has followed in one worker is seen, and would not be followed."""
    claims = "-0123456789abcdef"
    await write(client, URL.encode(), kind="seed", claims=claims)
    worker = await Worker(client).join()
    assert (await retry(worker.frontier)).seeds == 1
    [(suspect, score)] = await client.zrange(KEYS.suspects, 0, -1, withscores=True)
    assert suspect[RANK:] == b"0 " + claims.encode() + b" 0 \0" + URL.encode()
    assert (decode_score(suspect[:8]), score) == (0, 0)
    assert not await client.exists(*SEED_KEYS)
    lease = await worker.lease_one()
    assert (lease.payload, lease.is_seed) == (URL.encode(), True)


@ON_REDIS_ONLY
async def test_claims_of_a_lease_are_kept_in_its_letter(client):
    worker = await Worker(client).join()
    await worker.push("page")
    page = await worker.lease_one()
    claim = worker.frontier.claim([Claim("fp-target", [page.id])])
    assert await worker.call(claim) == [True]
    await worker.commit(pages=[Settlement(page.id, end=End.FAILED, reason="HTTP 503")])
    [(_, letter)] = await client.xrange(KEYS.failed)
    assert len(letter[b"claims"]) == 17
    assert (await retry(worker.frontier)).requests == 0  # "page" is no request
    await client.xadd(KEYS.failed, letter | {b"payload": payload(1)})
    assert (await retry(worker.frontier)).requests == 1
    again = await worker.lease_one()
    claim = worker.frontier.claim([Claim("fp-target", [again.id])])
    assert await worker.call(claim) == [True]


async def unknown_to_the_code(worker, lease):
    rejects = [Reject(lease.id, "request", "no callback")]
    await worker.call(worker.frontier.reject(rejects, max_size=1 << 20))


async def failed_for_good(worker, lease):
    await worker.commit(pages=[Settlement(lease.id, end=End.FAILED, reason="HTTP 503")])


async def died_too_often(worker, lease):
    reaper = await Worker(worker.frontier.client, max_deliveries=2).join()
    await worker.dies(reaper)
    await worker.frontier.client.hdel(KEYS.state, "grace")
    await reaper.reap()


async def held_by_nobody_known(worker, lease):
    client = worker.frontier.client
    await client.delete(KEYS.workers)
    worker.frontier.max_deliveries = 1
    await check(worker.frontier, repair=True)


async def found_by_check_where_it_is_leased(worker, lease):
    def decode(payload):
        raise BadPayload("no callback")

    await check(worker.frontier, repair=True, decode=decode)


async def found_by_check_among_the_suspects(worker, lease):
    await worker.release(lease)
    assert await worker.frontier.client.zcard(KEYS.suspects) == 1
    await found_by_check_where_it_is_leased(worker, lease)


@ON_REDIS_ONLY
@pytest.mark.parametrize(
    "set_aside",
    [
        unknown_to_the_code,
        failed_for_good,
        died_too_often,
        held_by_nobody_known,
        found_by_check_where_it_is_leased,
        found_by_check_among_the_suspects,
    ],
)
async def test_what_a_page_has_kept_may_be_followed_once_more(client, set_aside):
    """Whoever writes the letter: else what it had kept counts as seen, and is lost."""
    # given a page that followed a target in its worker, whose worker died
    doomed, worker = await Worker(client).join(), await Worker(client).join()
    await doomed.push(payload())
    page = await doomed.lease_one()
    claim = doomed.frontier.claim([Claim("fp-target", [page.id])])
    assert await doomed.call(claim) == [True]
    await doomed.dies(worker)
    # when it is set aside, and put back
    await set_aside(worker, await worker.lease_one())
    assert len(await listed(client)) == 1
    again = await Worker(client).join()
    assert (await retry(again.frontier)).requests == 1
    # then it may follow the target again
    found = await again.lease_one()
    assert found.payload == payload()
    claim = again.frontier.claim([Claim("fp-target", [found.id])])
    assert await again.call(claim) == [True]


async def test_script_gives_what_a_whole_life_of_a_request_needs(client):
    # given a request that a worker set aside
    worker = await Worker(client).join()
    await worker.push(payload())
    lease = await worker.lease_one()
    await worker.call(
        worker.frontier.reject([Reject(lease.id, "request", "bad")], max_size=1 << 20)
    )
    # when it is put back, twice by two people
    [id_] = await left(client)
    done = [await retry_all(client, ids=[id_]) for _ in range(2)]
    # then it is pending once, under a new order id, and can be acknowledged
    assert [(d.requests, d.missing) for d in done] == [(1, 0), (0, 1)]
    again = await worker.lease_one()
    assert again.payload == lease.payload
    assert again.id > lease.id
    assert not again.suspect
    assert (await worker.ack(again)).not_owned == 0


async def test_order_ids_are_never_those_of_others(client):
    worker = await Worker(client).join()
    for i in range(5):
        await write(client, payload(i))
    await retry_all(client)
    await worker.push(*(payload(i) for i in range(5, 10)))
    members = await client.zrange(KEYS.requests, 0, -1)
    assert len({member[8:RANK] for member in members}) == 10
    assert [CODEC.decode(lease.payload).url for lease in await worker.lease()] == [
        f"{URL}{i}" for i in range(10)
    ]


async def test_newest_goes_first_where_that_is_the_discipline(client):
    worker = await Worker(client, newest_first=True).join()
    await worker.push(payload("old"))
    for i in range(2):
        await write(client, payload(i, priority=5))
    await retry(worker.frontier, decode=CODEC.decode, discipline=LifoQueue)
    assert [CODEC.decode(lease.payload).url for lease in await worker.lease()] == [
        f"{URL}1",
        f"{URL}0",
        f"{URL}old",
    ]


async def test_discipline_without_priorities_gives_none(client):
    await write(client, payload(1, priority=5))
    await retry_all(client, discipline=FifoQueue)
    [member] = await client.zrange(KEYS.requests, 0, -1)
    assert decode_score(member[:8]) == 0


async def test_priority_is_found_without_a_project(client):
    await write(client, payload(1, priority=5))
    await write(client, json.dumps({"url": URL, "priority": -3}).encode())
    await write(client, b"\x80a pickle")
    assert (await retry_all(client)).requests == 3
    members = await client.zrange(KEYS.requests, 0, -1)
    assert [decode_score(member[:8]) for member in members] == [-5, 0, 3]


async def test_activity_is_noted_so_that_a_drained_crawl_goes_on(client):
    worker = await Worker(client).join()
    await client.hset(KEYS.state, mapping={"active": 1, "finished": "1"})
    await write(client, payload())
    assert (await worker.call(worker.frontier.drained())).is_drained
    await retry_all(client)
    drained = await worker.call(worker.frontier.drained())
    assert not drained.is_drained
    assert drained.idle < 5
    assert await client.hget(KEYS.state, "finished") is None


async def test_without_a_frontier_one_is_made(client):
    await write(client, payload())
    await retry_all(client)
    worker = await Worker(client).join()
    assert len(await worker.lease()) == 1


async def test_what_no_worker_could_read_stays(client):
    ids = [
        await write(client, b"garbage"),
        await write(client, b"\x01garbage"),
        await write(client, b""),
    ]
    good = await write(client, payload())
    done = await retry_all(client, ids=[*ids, good])
    assert (done.requests, done.unreadable) == (1, 3)
    assert [id_ for id_, _ in done.examples] == ids
    assert "garbage" in done.examples[0][1]
    assert await left(client) == ids


async def test_what_the_spider_refuses_stays(client):
    def refuse(data):
        raise BadPayload("no such callback")

    await write(client, payload())
    done = await retry_all(client, decode=refuse)
    assert (done.requests, done.unreadable) == (0, 1)
    assert done.examples[0][1] == "no such callback"
    assert await client.exists(KEYS.requests, KEYS.state) == 0


async def test_pickle_is_put_back_unread(client):
    def unpickle(data):
        raise AssertionError("a pickle was loaded")

    await write(client, b"\x80 a pickle")
    assert (await retry_all(client, decode=unpickle)).requests == 1
    [member] = await client.zrange(KEYS.requests, 0, -1)
    assert member[RANK:] == b"\x80 a pickle"


@pytest.mark.parametrize("kind", ["list", "set", "zset"])
async def test_seed_goes_back_to_the_seeds(client, kind):
    worker = await Worker(client).join()
    seeds = [URL.encode(), json.dumps({"url": URL, "priority": 7}).encode()]
    for seed in seeds:
        await write(client, seed, kind="seed")
    done = await retry_all(client, seeds_as=kind)
    assert (done.requests, done.seeds, done.unreadable) == (0, 2, 0)
    assert (await client.type(SEED_KEYS[0])).decode() == kind
    assert await left(client) == []
    leases = await worker.seeds()
    assert sorted(lease.payload for lease in leases) == sorted(seeds)
    if kind == "zset":
        assert leases[0].payload == seeds[1]


async def test_type_of_the_key_of_seeds_decides(client):
    await client.zadd(SEED_KEYS[0], {"x": 1})
    await write(client, URL.encode(), kind="seed")
    assert (await retry_all(client, seeds_as="list")).seeds == 1
    assert await client.zcard(SEED_KEYS[0]) == 2


async def test_wrong_key_of_seeds_changes_nothing(client):
    await client.set(SEED_KEYS[0], "x")
    ids = [await write(client, payload()), await write(client, b"u", kind="seed")]
    with pytest.raises(ConfigurationError, match="s:start_urls is a string"):
        await retry_all(client)
    assert await left(client) == ids
    assert await client.exists(KEYS.requests) == 0


async def test_seed_of_a_spider_that_reads_none_stays(client):
    id_ = await write(client, URL.encode(), kind="seed")
    frontier = Worker(client).frontier
    frontier.seed_keys = ()
    await write(client, payload())
    done = await retry(frontier)
    assert (done.requests, done.unreadable) == (1, 1)
    assert "reads none" in done.examples[0][1]
    assert await left(client) == [id_]


async def test_only_letters_of_the_reason_are_put_back(client):
    await write(client, payload(1), reason="TimeoutError")
    other = await write(client, payload(2), reason="HTTP 404")
    assert (await retry_all(client, reason="timeout")).requests == 1
    assert await left(client) == [other]
    assert (await retry_all(client, ids=[other], reason="timeout")).requests == 0
    assert await left(client) == [other]


async def test_letter_that_fails_again_meanwhile_is_not_put_back_again(client):
    for i in range(3):
        await write(client, payload(i))
    numbers = count()

    def decode(data):
        # A worker that sets aside whatever comes.
        assert next(numbers) < 10
        return CODEC.decode(data)

    frontier = Worker(client).frontier
    put_back = frontier.exchange

    async def exchange(calls):
        await put_back(calls)
        await write(client, payload("again"))

    frontier.exchange = exchange
    assert (await retry(frontier, decode=decode)).requests == 3
    [letter] = await listed(client)
    assert letter.url == f"{URL}again"


async def test_thousand_letters_are_put_back_in_their_order(client):
    total = 5 * BATCH + 1
    for i in range(total):
        await write(client, payload(i))
    assert (await retry_all(client)).requests == total
    members = await client.zrange(KEYS.requests, 0, -1)
    urls = [CODEC.decode(member[RANK:]).url for member in members]
    assert urls == [f"{URL}{i}" for i in range(total)]


@ON_REDIS_ONLY
async def test_full_redis_changes_nothing(client):
    worker = await Worker(client).join()
    ids = [await write(client, payload(i)) for i in range(3)]
    await client.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisUnavailable, match=r"OOM|maxmemory"):
            await retry_all(client)
        assert await left(client) == ids
        assert await worker.lease() == []
    finally:
        await client.config_set("maxmemory", 0)


# Deleting


async def test_all_are_deleted_and_nothing_else(client):
    for i in range(1234):
        await write(client, payload(i))
    assert (await forget_all(client)).deleted == 1234
    assert await left(client) == []
    assert (await forget_all(client)).deleted == 0


async def test_large_letters_are_deleted_too(client):
    for _ in range(20):
        await write(client, b"x" * 10_000)
    assert (await forget_all(client)).deleted == 20


async def test_named_letters_are_deleted(client):
    ids = [await write(client, payload(i)) for i in range(4)]
    done = await forget_all(client, ids=[ids[0], ids[2], ids[0], "1-1"])
    assert (done.deleted, done.missing) == (2, 1)
    assert await left(client) == [ids[1], ids[3]]


async def test_letters_of_a_reason_are_deleted(client):
    kept = await write(client, payload(1), reason="HTTP 500")
    gone = await write(client, payload(2), reason="HTTP 404")
    assert (await forget_all(client, reason="404")).deleted == 1
    assert await left(client) == [kept]
    done = await forget_all(client, ids=[kept, gone], reason="404")
    assert (done.deleted, done.missing) == (0, 1)


@pytest.mark.parametrize(
    "id_",
    ["", "7", "+", "-", "1-2-3", "(1-1", "abc", "1-1\n", "18446744073709551616-0"],
)
async def test_id_that_is_none_is_refused_before_anything_is_done(client, id_):
    good = await write(client, payload())
    for operation in (retry_all, forget_all):
        with pytest.raises(ConfigurationError, match="is no ID of a dead letter"):
            await operation(client, ids=[good, id_])
    assert await left(client) == [good]
