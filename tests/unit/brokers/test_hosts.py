"""How hosts stand: how much of each waits, who has it, when it is next, and its name."""

from __future__ import annotations

import pytest
from scrapy import Request, Spider

from scrapy_dist.brokers.redis.views.hosts import read_hosts
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.core.frontier import NewRequest, Reject
from scrapy_dist.core.politeness import Manners, Rules
from scrapy_dist.core.slots import Slots, host_of, slot_number
from tests.support.frontiers import KEYS, SEED_KEYS, Worker

CODEC = PayloadCodec(Spider("s"))
SLOTS = Slots(host_of)
MANNERS = Manners(Rules(2.0, 8))


def new(host, n=0, **meta):
    request = Request(f"http://{host}/{n}", meta=meta)
    return NewRequest(CODEC.encode(request), 0.0, slot=SLOTS.number(request))


@pytest.fixture
async def worker(client):
    return await Worker(client).join("web:1")


async def hosts(worker, count=10, slots=SLOTS, **options):
    given = {"sort": "pending", "look": 2000, "letters": 1000}
    given |= {"delay_of": lambda slot: None} | options
    return await read_hosts(worker.frontier, slots, count, **given)


async def lease_politely(worker, want):
    call = worker.frontier.lease_politely(want, MANNERS, suspects=8)
    reply, granted = await worker.call(call)
    return reply.leases, granted


async def test_hosts_are_named_and_sorted_by_what_waits(worker):
    few = [new("few.example", n) for n in range(2)]
    await worker.commit([new("many.example", n) for n in range(5)] + few)
    found = await hosts(worker)
    assert [(h.name, h.pending, h.leased) for h in found.hosts] == [
        ("many.example", 5, 0),
        ("few.example", 2, 0),
    ]
    assert (found.slots, found.looked_at, found.pending) == (2, 2, 7)
    assert not found.polite
    assert {(h.owners, h.wait, h.delay) for h in found.hosts} == {((), 0.0, None)}
    one = await hosts(worker, 1)
    assert [h.name for h in one.hosts] == ["many.example"]
    assert (one.looked_at, one.rest) == (2, 2)


async def test_a_host_whose_last_request_is_in_flight_is_still_named(worker):
    await worker.commit([new("a.example"), new("b.example"), new("b.example", 1)])
    await worker.lease(2)
    found = {h.name: (h.pending, h.leased) for h in (await hosts(worker)).hosts}
    assert found == {"b.example": (1, 1), "a.example": (0, 1)}


async def test_seeds_in_flight_are_of_no_host(client, worker):
    await client.rpush(SEED_KEYS[0], "http://a.example/")
    assert len(await worker.seeds()) == 1
    assert (await hosts(worker)).hosts == ()


async def test_errors_are_those_of_the_newest_dead_letters(worker):
    await worker.commit([new("bad.example", n) for n in range(3)] + [new("ok.example")])
    bad = [lease for lease in await worker.lease(4) if b"bad" in lease.payload]
    rejects = [Reject(lease.id, "request", "x") for lease in bad]
    await worker.call(worker.frontier.reject(rejects, max_size=999))
    found = await hosts(worker, sort="errors")
    assert [(h.name, h.errors, h.leased) for h in found.hosts] == [
        ("bad.example", 3, 0),
        ("ok.example", 0, 1),
    ]
    assert (await hosts(worker, sort="errors", letters=2)).hosts[0].errors == 2
    assert [h.name for h in (await hosts(worker, letters=0)).hosts] == ["ok.example"]


async def test_a_polite_crawl_tells_owners_delays_and_times(client, worker):
    await worker.commit([new(f"{n}.example", k) for n in "ab" for k in range(3)])
    await client.hset(KEYS.politeness, slot_number("b.example"), "5000 8")
    [lease], granted = await lease_politely(worker, 1)
    [mine] = granted.grants
    owned = "a.example" if mine.slot == slot_number("a.example") else "b.example"
    found = await hosts(worker, sort="delay", delay_of=lambda slot: 2.0)
    assert [(h.name, h.delay) for h in found.hosts] == [
        ("b.example", 5.0),
        ("a.example", 2.0),
    ]
    assert found.polite
    assert (found.owned, found.waiting) == (1, 0)
    one = {h.name: h for h in found.hosts}
    assert (one[owned].owners, one[owned].wait) == (("web:1",), None)
    [other] = one.keys() - {owned}
    assert (one[other].owners, one[other].wait) == ((), 0.0)
    # When it is given back it rests.
    await worker.ack(lease)
    await worker.frontier.run("yield", seats=[mine.name, 900_000, ""])
    found = await hosts(worker)
    assert (found.owned, found.waiting) == (0, 1)
    [rests] = [h for h in found.hosts if h.name == owned]
    assert rests.owners == ()
    assert 0 < rests.wait <= 900


async def test_marks_of_an_earlier_polite_crawl_are_no_owners(client, worker):
    await worker.commit([new("a.example")])
    await client.zadd(KEYS.slots, {str(slot_number("a.example")): 2**52 + 7})
    [host] = (await hosts(worker)).hosts
    assert (host.owners, host.wait) == ((), 0.0)
    # Also where one has left its clock behind, and others work.
    await client.hset(KEYS.state, "slots:seen", 1000)
    assert not (await hosts(worker)).polite


async def test_several_seats_are_one_host(client, worker):
    slot = slot_number("a.example")
    await worker.commit([new("a.example", n) for n in range(3)])
    await lease_politely(worker, 0)  # a polite crawl
    other = await Worker(client).join("web:2")
    mark = 2**52
    seats = {
        f"{slot}": mark + int(worker.number),
        f"{slot}.1": mark + int(other.number),
    }
    await client.zadd(KEYS.slots, {**seats, f"{slot}.2": 5})
    found = await hosts(worker)
    [host] = found.hosts
    assert (host.owners, host.wait) == (("web:1", "web:2"), 0.0)
    assert (found.slots, found.owned) == (1, 1)


async def test_of_very_many_hosts_the_largest_are_found(worker):
    await worker.commit([new(f"{n}.example") for n in range(300)])
    await worker.commit([new("large.example", n) for n in range(300)])
    await worker.commit([new(f"{n}.example", 1) for n in range(300, 500)])
    found = await hosts(worker, 1, look=200)
    assert [(h.name, h.pending) for h in found.hosts] == [("large.example", 300)]
    assert found.slots == 501
    assert found.looked_at < 400
    assert found.rest == 500


async def test_what_cannot_be_named_has_a_number(worker):
    slot = slot_number("a.example")
    await worker.commit([NewRequest(b"\x80pickle", 0.0, slot=slot)])
    assert [h.name for h in (await hosts(worker)).hosts] == [f"#{slot}"]
    # A request that is in another slot than its URL says gives that no false name.
    await worker.commit([NewRequest(new("b.example").payload, -9.0, slot=slot)])
    assert [h.name for h in (await hosts(worker)).hosts] == [f"#{slot}"]


async def test_names_are_those_of_frontier_slot_whoever_knows_it(worker):
    domains = Slots(lambda request: "example.org")
    request = new("www.example.org")
    await worker.commit(
        [NewRequest(request.payload, 0.0, slot=slot_number("example.org"))]
    )
    await worker.commit([new("x.example", download_slot="mine")])
    for slots in (domains, SLOTS, Slots(None)):
        names = {h.name for h in (await hosts(worker, slots=slots)).hosts}
        assert names == {"example.org", "mine"}


async def test_a_rule_that_fails_costs_only_the_name(worker):
    def fails(request):
        raise ZeroDivisionError

    await worker.commit([new("a.example")])
    [host] = (await hosts(worker, slots=Slots(fails))).hosts
    assert host.name == f"#{slot_number('a.example')}"


async def test_what_is_none_of_ours_is_told_too(client, worker):
    scores = {b"x": 1.5, b"y": float("inf"), b"z": -3, b"q": 1e20}
    await client.zadd(KEYS.requests, scores)
    names = {"abc": 1, "": 2, "9" * 100: 4, "-1": 5, "inf": 6, "1e20": 7}
    await client.zadd(KEYS.slots, names)
    await client.hset(KEYS.politeness, "-1", "nonsense")
    for field in ("slots:seen", "slots:shift"):
        await client.hset(KEYS.state, field, "nonsense")
    found = await hosts(worker, delay_of=lambda slot: 1.0)
    assert all(h.name.startswith("#") for h in found.hosts)
    assert {"#inf", "#100000000000000000000"} <= {h.name for h in found.hosts}
    await hosts(worker, look=200, sort="delay")


async def test_nothing_is_written(client, worker):
    await worker.commit([new("a.example"), new("b.example")])
    await lease_politely(worker, 1)
    before = {key: await client.dump(key) for key in await client.keys("*")}
    await hosts(worker)
    assert {key: await client.dump(key) for key in await client.keys("*")} == before


async def test_a_host_that_rests_without_requests_is_told_with_its_errors(
    client, worker
):
    slot = str(slot_number("a.example"))
    await worker.commit([new("a.example")])
    [lease], _ = await lease_politely(worker, 1)
    await worker.call(
        worker.frontier.reject([Reject(lease.id, "request", "x")], max_size=999)
    )
    seconds, _ = await client.time()
    await client.zrem(KEYS.slots, slot)
    await client.zadd(KEYS.resting, {slot: (seconds + 900) * 1000})
    [host] = (await hosts(worker)).hosts
    assert (host.name, host.pending, host.errors) == ("a.example", 0, 1)
    assert 0 < host.wait <= 900


async def test_each_order_has_its_own_first(client, worker):
    requests = [new("large.example", n) for n in range(3)] + [new("slow.example")]
    await worker.commit([*requests, new("bad.example"), new("bad.example", 1)])
    await client.hset(KEYS.politeness, slot_number("slow.example"), "9000 8")
    leases = await worker.lease(6)
    [bad, _] = [lease for lease in leases if b"bad" in lease.payload]
    await worker.call(
        worker.frontier.reject([Reject(bad.id, "request", "x")], max_size=999)
    )
    await worker.release(*(lease for lease in leases if lease is not bad))
    for sort, name in (("pending", "large"), ("delay", "slow"), ("errors", "bad")):
        found = await hosts(worker, sort=sort, delay_of=lambda slot: 2.0)
        assert found.hosts[0].name == f"{name}.example", sort
