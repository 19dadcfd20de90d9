"""What comes next, where the requests of URLs are, and to queue them once more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scrapy import Request, Spider

from scrapy_dist.brokers.redis.buckets import compact
from scrapy_dist.brokers.redis.tools.clear import recrawl
from scrapy_dist.brokers.redis.views.browse import explain, find, next_requests
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.frontier import NewRequest, Reject
from scrapy_dist.core.slots import slot_number
from tests.support.frontiers import KEYS, Worker, pass_time

SITE = "http://site.example/"
CODEC = PayloadCodec(Spider("s"))


def fingerprint(request):
    """As some that care for the path only in small letters."""
    return request.url.lower()


def new(path, score=0.0):
    request = Request(SITE + path)
    return NewRequest(CODEC.encode(request), score, fingerprint(request))


async def explained(worker, *paths, exact=True):
    return await explain(
        worker.frontier,
        [SITE + path for path in paths],
        fingerprint,
        exact=exact,
        progress=lambda done, total: None,
    )


@pytest.fixture
async def worker(client):
    return await Worker(client).join()


async def paths(worker, count):
    found = [
        each async for some in next_requests(worker.frontier, count) for each in some
    ]
    return [shown.fields["url"].removeprefix(SITE) for shown in found]


async def test_what_waits_for_room_does_not_come_next(client, worker):
    await worker.commit([new("a"), new("b"), new("c")])
    a, _ = await worker.lease(2)
    full = Worker(client, failed_limit=0)
    full.frontier.worker = worker.number
    rejects = [Reject(a.id, "request", "x")]
    await full.call(full.frontier.reject(rejects, max_size=999))
    other = await Worker(client).join()
    await worker.dies(other)
    assert await client.zcard(KEYS.suspects) == 2
    assert await paths(other, 5) == ["b", "c"]
    assert await paths(other, 1) == ["b"]
    [a] = await explained(other, "a")
    assert a.place == "suspect"


async def test_progress_tells_of_all_places(client, worker):
    await worker.commit([new(str(n)) for n in range(5)])
    await worker.lease(2)
    other = await Worker(client).join()
    await worker.dies(other)
    await other.lease(1, suspect=False)
    told = []
    nothing = find(
        other.frontier,
        [f"{SITE}x"],
        fingerprint,
        exact=True,
        progress=lambda done, total: told.append((done, total)),
    )
    assert [found async for found in nothing] == []
    assert told[-1] == (5, 5)


async def test_request_whose_path_is_escaped_is_found(worker):
    await worker.commit([new("%61b/c"), new("z")])
    [found] = await explained(worker, "%61b/c")
    assert found.place == "pending"
    assert found.found.rank == 0


async def test_rank_is_how_many_are_before_it(worker):
    await worker.commit([new("a", 2.0), new("b", 1.0), new("c", 3.0)])
    found = await explained(worker, "a", "b", "c")
    assert [each.found.rank for each in found] == [1, 0, 2]


@pytest.mark.parametrize("path", ["page", "page%20"])
@pytest.mark.parametrize("exact", [True, False])
async def test_others_are_told_apart_by_their_paths_only_if_names_say_so(
    worker, path, exact
):
    """A project's own fingerprint may call requests of two paths the same."""
    await worker.commit([new(path.upper())])
    [found] = await explained(worker, path, exact=exact)
    assert (found.found is None) is exact


async def test_few_of_many_dead_letters_are_told_the_newest_first(client, worker):
    ids = []
    for n in range(7):
        fields = {
            "payload": new("a").payload,
            "reason": f"the {n}th",
            "kind": "request",
        }
        ids.append((await client.xadd(KEYS.failed, fields)).decode())
    [found] = await explained(worker, "a")
    assert [letter.id for letter in found.failed] == ids[:1:-1]
    assert found.place == "failed"


async def test_seed_that_is_a_dead_letter_is_told_of(client, worker):
    fields = {"payload": f"{SITE}seed", "reason": "no", "kind": "seed"}
    await client.xadd(KEYS.failed, fields)
    [found] = await explained(worker, "seed")
    assert [letter.reason for letter in found.failed] == ["no"]


async def test_holder_and_its_silence_are_told(client, worker):
    await worker.commit([new("a")])
    await worker.lease_one()
    await pass_time(client, 40)
    [found] = await explained(worker, "a")
    assert found.holder.number == worker.number
    assert found.holder.worker == "host:1"
    assert 40 <= found.holder.silent_for < 100


# Slots


def of_hosts(hosts, each):
    """*each* requests of so many hosts, host after host, and the first ones last."""
    return [
        replace(new(f"{host}/{n}", -n), slot=slot_number(f"host{host}"))
        for host in range(hosts)
        for n in range(each)
    ]


@pytest.mark.parametrize(("hosts", "each"), [(3, 40), (130, 3), (1, 250)])
async def test_slots_are_shown_in_turn_as_they_are_handed_out(
    client, worker, hosts, each
):
    requests = of_hosts(hosts, each)
    for at in range(0, len(requests), 50):
        await worker.commit(requests[at : at + 50])
    shown = await paths(worker, 999)
    assert len(shown) == len({*shown}) == len(requests)
    for count in (1, 2, hosts, hosts + 1):
        assert await paths(worker, count) == shown[:count]
    leases = [await worker.lease_one() for _ in requests]
    urls = [CODEC.decode(lease.payload).url for lease in leases]
    assert [url.removeprefix(SITE) for url in urls] == shown


async def test_slots_that_some_hold_and_some_wait_for_are_shown_once(client, worker):
    await worker.commit(of_hosts(2, 3))
    first, second = (slot_number(f"host{n}") for n in range(2))
    # As in a polite crawl: one has an owner and a second seat, the other a delay.
    await client.zadd(
        KEYS.slots, {str(first): 2**52 + 7, f"{first}.1": 5, str(second): 9}
    )
    assert await paths(worker, 9) == ["0/2", "1/2", "0/1", "1/1", "0/0", "1/0"]


async def test_what_has_no_turn_comes_last_and_slots_without_requests_are_left_out(
    client, worker
):
    await worker.commit(of_hosts(2, 2))
    await client.zrem(KEYS.slots, str(slot_number("host1")))
    await client.zadd(KEYS.slots, {str(n): -n for n in range(1, 300)} | {"no slot": 1})
    assert await paths(worker, 2) == ["0/1", "0/0"]
    assert await paths(worker, 3) == ["0/1", "0/0", "1/1"]
    await client.delete(KEYS.slots)
    assert {*await paths(worker, 9)} == {"0/0", "0/1", "1/0", "1/1"}


async def test_rank_is_how_many_of_its_slot_are_before_it(worker):
    await worker.commit(of_hosts(3, 4))
    for found in await explained(worker, "0/3", "1/3", "2/3"):
        assert (found.found.rank, found.found.among) == (0, 4)
    [found] = await explained(worker, "1/1")
    assert found.as_json()["before"] == 2
    assert found.as_json()["among"] == 4


# Once more


@pytest.mark.parametrize("newest_first", [False, True])
async def test_many_are_queued_once_more_in_their_order(client, newest_first):
    worker = await Worker(client, newest_first=newest_first).join()
    again = [new(f"{n:03}") for n in range(250)]
    await worker.commit(again[:1])
    await recrawl(worker.frontier, again)
    wanted = [f"{n:03}" for n in [0, *range(250)]]
    assert await paths(worker, 300) == (wanted[::-1] if newest_first else wanted)
    seen = {name.decode() for name in await client.smembers(KEYS.dupefilter)}
    assert seen == {request.fingerprint for request in again}


async def test_what_was_queued_once_more_is_seen_where_names_are_compact(
    client, worker
):
    workers = await Worker(client, compact=True).join()
    first = NewRequest(new("a").payload, 0, compact("a"))
    while not await client.zcard(KEYS.requests):
        workers.commits = max(0, workers.commits - 1)
        await workers.commit([first], number=1)
    b = NewRequest(new("b").payload, 0, compact("b"))
    await recrawl(workers.frontier, [b])
    reply = await workers.commit([b], number=2)
    assert list(reply.duplicates) == [0]
    assert await client.zcard(KEYS.requests) == 2
