"""A frontier goes into lines of JSON and comes out again."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
import redis.asyncio

from scrapy_dist.brokers.redis.layout import LEASES, RANK, REQUESTS, SUSPECTS, parse
from scrapy_dist.brokers.redis.tools.export import export_lines
from scrapy_dist.brokers.redis.tools.import_ import import_lines
from scrapy_dist.brokers.redis.views import snapshot
from scrapy_dist.codec import compact
from scrapy_dist.codec.dump_lines import dump, load, payload_of, show_payload
from scrapy_dist.core.crawl import Exported, Imported
from scrapy_dist.core.frontier import NewRequest, Settlement
from scrapy_dist.core.slots import Slots, host_of, slot_number
from scrapy_dist.exceptions import BadPayload, ConfigurationError
from scrapy_dist.redis_client.client import close_client
from tests.support.frontiers import KEYS, ON_REDIS_ONLY, Worker, contents, member
from tests.support.transfer import bring_in, export, kinds, request


@pytest.fixture
async def worker(client):
    return await Worker(client).join()


@pytest.fixture
async def fill(client, worker):
    """Pending, leased and suspect requests, seeds, letters, items and stats."""
    other = await Worker(client).join()
    await client.sadd(KEYS.started, "!2 fpstart")  # of two equal start requests
    await worker.commit(
        [NewRequest(request(n), 1.5, f"fp{n}") for n in range(3)]
        + [NewRequest(request("start"), -1, "fpstart", 1)]
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
    found = [(parse(REQUESTS, m).score, m[RANK:], s) for m, s in pending]
    assert found == [(1.5, request(n), 0) for n in range(3)]
    [(suspect, score)] = await client.zrange(KEYS.suspects, 0, -1, withscores=True)
    assert (suspect[RANK:], score) == (b"1 - 0 " + request("start"), 0)
    assert parse(SUSPECTS, suspect).score == -1
    assert after[KEYS.slots][0][0] == b"0"
    assert {b"order", b"active", b"imported", b"format"} == set(after[KEYS.state])


async def test_without_items_they_are_not_in_the_file(worker, fill):
    lines = await export(worker.frontier)
    assert "item" not in kinds(lines)
    assert kinds(lines)[0] == "frontier"
    assert kinds(lines)[-1] == "end"


@pytest.mark.parametrize("newest_first", [False, True])
async def test_equal_priorities_keep_their_order(client, newest_first):
    worker = await Worker(client, newest_first=newest_first).join()
    for at in range(0, 350, 50):
        some = [NewRequest(request(n), n % 2) for n in range(at, at + 50)]
        await worker.commit(some)
    order = [m[RANK:] for m in await client.zrange(KEYS.requests, 0, -1)]
    lines = await export(worker.frontier)
    await client.flushdb()
    await bring_in(worker.frontier, lines)
    found = [m[RANK:] for m in await client.zrange(KEYS.requests, 0, -1)]
    assert found == order


async def test_requests_larger_than_a_page_are_all_read(client, worker):
    big = [request(n, body=b"x" * 300_000) for n in range(20)]
    for payload in big:
        await worker.commit([NewRequest(payload, 0)])
    lines = await export(worker.frontier)
    await client.flushdb()
    await bring_in(worker.frontier, lines)
    assert [m[RANK:] for m in await client.zrange(KEYS.requests, 0, -1)] == big


async def test_what_is_no_request_of_ours_is_kept_as_it_is(client, worker):
    not_owned = [b"garbage", b"\x80\x04pickle", b"\x02\xffother", b"\x00seed", b"{]"]
    not_owned += [b"\x01\xc1", b"\x01\x01", b"[1]", b"", b"\x00\xff\xfe"]
    for payload in not_owned:
        await worker.commit([NewRequest(payload, 0)])
    await client.zadd(KEYS.requests, {"no id": 1})
    await client.zadd(KEYS.suspects, {member(b"no head", 1): 0})
    await client.hset(KEYS.leased, "0000000000000002", "no head")
    await client.hset(KEYS.leased, "0000000000000003", "0 0 - no rank behind")
    await client.zadd(KEYS.leases, {"0000000000000002": 1, "0000000000000003": 1})
    lines = await export(worker.frontier)
    await client.flushdb()
    await bring_in(worker.frontier, lines)
    pending = {m[RANK:] for m in await client.zrange(KEYS.requests, 0, -1)}
    assert pending == {*not_owned, b"no id", b"no head", b"0 0 - no rank behind"}
    [suspect] = await client.zrange(KEYS.suspects, 0, -1)
    assert suspect[RANK:] == b"0 - 0 no head"


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "http://a/é", "meta": {"t": (1, {2}), 3: b"\xff", "$x": None}},
        {"url": "http://a/", "priority": 2**70, "cb_kwargs": {"nan": 1e300}},
        {"url": "http://a/", "headers": {b"A": [b"1", b"2"]}, "body": b"\x00"},
    ],
)
def test_a_request_is_the_same_after_it_was_text(fields):
    payload = b"\x01" + compact.dumps(fields)
    line = load(dump({"type": "pending", **show_payload(payload)}).encode())
    assert "request" in line
    assert payload_of(line) == payload


def test_a_request_of_the_json_serializer_stays_one():
    payload = b'{"url": "http://a/", "body": {"$bytes": "AA=="}}'
    line = load(dump({"type": "pending", **show_payload(payload)}).encode())
    assert json.loads(payload_of(line)) == json.loads(payload)


async def test_a_frontier_that_is_not_empty_is_refused(client, worker, fill):
    lines = await export(worker.frontier)
    before = await contents(client)
    with pytest.raises(ConfigurationError, match=r"not empty: 1 pending.*--merge"):
        await bring_in(worker.frontier, lines)
    assert await contents(client) == before


async def test_a_merge_adds_behind_what_is_there(client, worker):
    await worker.push("old")
    lines = await export(worker.frontier)
    imported = await bring_in(worker.frontier, lines, merge=True)
    assert imported.is_complete
    first, second = await client.zrange(KEYS.requests, 0, -1)
    assert first[RANK:] == second[RANK:] == b"old"
    assert first[:RANK] < second[:RANK]


async def test_a_file_that_is_cut_off_is_noticed_and_can_be_completed(client, worker):
    for at in range(0, 1500, 50):
        some = [NewRequest(request(n), 0, f"fp{n}") for n in range(at, at + 50)]
        await worker.commit(some)
    await client.rpush("s:start_urls", *map(str, range(500)))
    before = await contents(client)
    lines = await export(worker.frontier)
    for cut in (1, 1500, len(lines) - 1):
        await client.flushdb()
        imported = await bring_in(worker.frontier, lines[:cut])
        assert not imported.is_complete, cut
        imported = await bring_in(worker.frontier, lines)
        assert imported.is_complete, cut
        assert imported.skipped == cut - 1
        after = await contents(client)
        for key in ("s:dupefilter", "s:start_urls"):
            assert after[key] == before[key], cut
        found, order = (
            [m[RANK:] for m, _ in kept[KEYS.requests]] for kept in (after, before)
        )
        assert found == order, cut


async def test_lines_that_are_missing_are_noticed(client, worker, fill):
    lines = await export(worker.frontier)
    await client.flushdb()
    with pytest.raises(BadPayload, match="lines are missing"):
        await bring_in(worker.frontier, [*lines[:3], *lines[4:]])


async def test_lines_that_come_twice_are_noticed(client, worker, fill):
    lines = await export(worker.frontier)
    await client.flushdb()
    with pytest.raises(BadPayload, match="lines are missing"):
        await bring_in(worker.frontier, [*lines[:2], *lines[1:]])


async def test_another_file_does_not_complete_an_interrupted_import(client, worker):
    await worker.push("a", "b")
    lines, other = [await export(worker.frontier) for _ in range(2)]
    await client.flushdb()
    await bring_in(worker.frontier, lines[:2])
    with pytest.raises(ConfigurationError, match="another file was interrupted"):
        await bring_in(worker.frontier, other)


async def test_a_frontier_cleared_during_the_import_ends_it(client, worker):
    for at in range(0, 3000, 50):
        await worker.commit([NewRequest(request(n), 0) for n in range(at, at + 50)])
    lines = await export(worker.frontier)
    await client.flushdb()
    coming = import_lines(worker.frontier, lines, Imported())
    await anext(coming)
    await client.flushdb()
    with pytest.raises(ConfigurationError, match="Somebody has changed"):
        await anext(coming)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "no JSON"),
        ([b"hello"], "no JSON"),
        ([b"[]"], "no line of an export"),
        ([b'{"type": "seen"}'], "its first line is another one"),
        ([b'{"type": "frontier", "id": "x", "version": 9}'], "version 9"),
        (
            [b'{"type": "frontier", "id": "x", "version": 1, "fingerprints": "z"}'],
            "fingerprints of the kind 'z'",
        ),
    ],
)
async def test_what_is_no_export_is_refused(client, worker, lines, problem):
    before = await contents(client)
    with pytest.raises(ConfigurationError, match=problem):
        await bring_in(worker.frontier, lines)
    assert await contents(client) == before


@pytest.mark.parametrize(
    "line",
    [
        {"type": "what"},
        {"type": "seen"},
        {"type": "seen", "fingerprint": 7},
        {"type": "pending", "score": 1},
        {"type": "pending", "seed": "x"},
        {"type": "pending", "score": "nan", "seed": "x"},
        {"type": "pending", "score": [], "seed": "x"},
        {"type": "pending", "score": 1, "payload": "*"},
        {"type": "pending", "score": 1, "request": {"$dict": 7}},
        {"type": "pending", "score": 1, "request": [], "deaths": "x"},
        {"type": "result", "task": "x", "n": 1, "data": "x"},
        {"type": "result", "task": "0" * 16, "n": 0, "data": "x"},
        {"type": "result", "task": "0" * 16, "n": 1},
        {"type": "seed", "key": 0, "kind": "list"},
        {"type": "seed", "key": "x", "kind": "list", "data": "x"},
        {"type": "failed", "payload": ""},
        {"type": "stat", "name": "x"},
        {"type": "item"},
        {"type": "end", "counts": {"x": "y"}},
        {"type": "end"},
    ],
)
async def test_a_line_that_cannot_be_read_is_named(client, worker, line):
    head = (await export(worker.frontier))[0]
    with pytest.raises(BadPayload, match=r"^Line 2 of the file: "):
        await bring_in(worker.frontier, [head, dump(line).encode()])


# Slots


HOSTS = Slots(host_of)


def of_host(host, n, **fields):
    return b"\x01" + compact.dumps({"url": f"http://{host}/{n}", **fields})


async def in_slots(client):
    """The payloads of each slot that has some, in their order; all slots have turns."""
    slots = {int(name) for name in await client.zrange(KEYS.slots, 0, -1)}
    found = {}
    for ranked, slot in await client.zrange(KEYS.requests, 0, -1, withscores=True):
        found.setdefault(int(slot), []).append(ranked[RANK:])
    assert slots == set(found)
    return found


@pytest.mark.parametrize("newest_first", [False, True])
async def test_order_inside_each_slot_is_kept(client, newest_first):
    worker = await Worker(client, newest_first=newest_first).join()
    hosts = [f"host{n}" for n in range(7)]
    new = [
        NewRequest(of_host(host, n), n % 3, slot=slot_number(host))
        for n in range(40)
        for host in hosts
    ]
    for at in range(0, len(new), 50):
        await worker.commit(new[at : at + 50])
    before = await in_slots(client)
    assert set(before) == {slot_number(host) for host in hosts}
    # What is leased is in the file, too, and comes in front of its own slot.
    assert len(await worker.lease(10)) == 10
    lines = await export(worker.frontier)
    await client.flushdb()
    await bring_in(worker.frontier, lines, slots=HOSTS)
    assert await in_slots(client) == before


async def test_requests_of_an_older_file_come_into_their_slots(client, worker):
    """Its lines say nothing of slots, and a project with one order says nothing else."""
    payloads = {
        of_host("a.example", 1): slot_number("a.example"),
        of_host("A.example", 2, meta={"download_slot": "b"}): slot_number("b"),
        of_host("c.example", 3, meta={"download_slot": 7}): slot_number("c.example"),
        of_host("d.example", 4, meta={7: 8}): slot_number("d.example"),
        b'{"url": "http://e.example/", "meta": {"download_slot": "b"}}': slot_number(
            "b"
        ),
        b"\x00http://seed.example/": 0,
        b"\x80\x04pickle": 0,
        b"\x02of its spider": 0,
        b"\x01\xc1": 0,
        of_host("e.example", 1, meta=[3]): slot_number("e.example"),
        b"\x01" + compact.dumps({"url": 7}): 0,
        b"\x01" + compact.dumps({"url": "http://["}): 0,
    }
    await worker.commit([NewRequest(payload, 0) for payload in payloads])
    lines = await export(worker.frontier)
    assert all("slot" not in json.loads(line) for line in lines)
    await client.flushdb()
    await bring_in(worker.frontier, lines, slots=HOSTS)
    found = {
        payload: slot
        for slot, payloads in (await in_slots(client)).items()
        for payload in payloads
    }
    assert found == payloads
    await client.flushdb()
    await bring_in(worker.frontier, lines)
    assert set(await in_slots(client)) == {0}


async def test_suspects_of_a_file_keep_their_slots(client, worker):
    line = {"type": "suspect", "score": -2, "deaths": 1, "claims": "abc"}
    line |= show_payload(of_host("a.example", 1))
    head, *_ = await export(worker.frontier)
    await bring_in(worker.frontier, [head, dump(line).encode()], slots=HOSTS)
    [stored] = await client.zrange(KEYS.suspects, 0, -1)
    found = parse(SUSPECTS, stored)
    assert (found.slot, found.score) == (slot_number("a.example"), -2)
    assert (found.deaths, found.claims) == (1, "abc")
    lease = await worker.lease_one()
    assert lease.slot == slot_number("a.example")


class Crawler:
    """Crawls a tree of pages on one frontier: page n links to 3n+1, 3n+2 and 3n+3.

    *slots*: of how many hosts they are.
    """

    PAGES = 800

    def __init__(self, client, rng, *, slots=1):
        self.client = client
        self.rng = rng
        self.slots = slots
        self.done = set()

    def page(self, n):
        score, slot = self.rng.choice([-1, 0, 0, 1]), n % self.slots
        return NewRequest(request(n), score, f"fp{n}", slot=slot)

    async def work(self, *, delay):
        """As one worker, until nothing is left."""
        worker = await Worker(self.client).join()
        if not self.done:
            await worker.commit([self.page(0)])
        while True:
            leases = await worker.lease(8)
            if not leases:
                state = await worker.call(worker.frontier.drained())
                if state.is_drained:
                    break
                await asyncio.sleep(0.005)
            for lease in leases:
                if self.rng.random() < 0.1:
                    await worker.release(lease)
                    continue
                await asyncio.sleep(delay * self.rng.random())
                n = int(compact.loads(lease.payload[1:])["url"][12:])
                links = [m for m in (3 * n + 1, 3 * n + 2, 3 * n + 3) if m < self.PAGES]
                children = [self.page(m) for m in links]
                # Before it is in Redis: the reply may be later than that of an export.
                self.done.add(n)
                await worker.commit(children, [Settlement(lease.id)])


#: Entries in a page, of leases and of others: as they are, and so few that each export of
#: the small frontiers here needs many.
LIMITS = [(200, 100), (5, 7)]


@pytest.mark.parametrize("slots", [1, 60])
@pytest.mark.parametrize("limits", LIMITS, ids=["usual", "tiny"])
async def test_a_copy_made_while_workers_work_loses_no_page(
    redis_server, slots, limits, monkeypatch
):
    monkeypatch.setattr(snapshot, "_LEASES_PAGE", limits[0])
    monkeypatch.setattr(snapshot, "BATCH", limits[1])
    rng = random.Random(slots)
    client = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)
    other = redis.asyncio.Redis.from_url(f"{redis_server.url}/1", protocol=2)
    try:
        crawler = Crawler(client, rng, slots=slots)
        tasks = [asyncio.create_task(crawler.work(delay=0.02)) for _ in range(6)]
        exports = []
        while not all(task.done() for task in tasks):
            exports.append(await export_noting_done(client, crawler))
        await asyncio.gather(*tasks)
        assert crawler.done == set(range(Crawler.PAGES))
        # Some of the many, spread over the crawl.
        exports = [e for e in exports if e[1] and len(e[1]) < Crawler.PAGES]
        assert exports, "no export was made in the middle of the crawl"
        for lines, done in exports[:: max(1, len(exports) // 6)]:
            await other.flushdb()
            await bring_in(Worker(other).frontier, lines)
            copy = Crawler(other, rng, slots=slots)
            copy.done.add(-1)  # so that it does not begin by itself
            await copy.work(delay=0)
            missing = set(range(Crawler.PAGES)) - done - copy.done
            assert not missing, (len(done), sorted(missing)[:10])
    finally:
        await close_client(client)
        await close_client(other)


async def export_noting_done(client, crawler):
    """Lines of an export, and the pages that were done at its moment.

    Each step takes some milliseconds longer, so that workers come between.
    """
    frontier = Worker(client).frontier
    exchange = frontier.exchange
    done = set()

    async def noting(calls):
        await exchange(calls)
        if is_moment(calls[0]):
            done.clear()
            done.update(crawler.done)
        await asyncio.sleep(0.003)

    frontier.exchange = noting
    return await export(frontier), done


def is_moment(call):
    """Whether *call* is the moment that a copy is of, unless there is a later one."""
    return call.values.get("place") == SUSPECTS and not call.values["score"]


class Between:
    """A frontier to export; *do*(at) is awaited before each step of it, as others work."""

    def __init__(self, client, do):
        self.frontier = Worker(client).frontier
        self._do, self._exchange = do, self.frontier.exchange
        self.frontier.exchange = self._step
        self.calls = []

    async def _step(self, calls):
        await self._do(len(self.calls))
        await self._exchange(calls)
        self.calls += calls

    def pages(self, place):
        """What was read of *place*: members of each page."""
        return [c.raw[3][::2] for c in self.calls if c.values.get("place") == place]

    def moments(self):
        return sum(map(is_moment, self.calls))


def urls(lines):
    """The names of the requests in *lines*, sorted."""
    lines = [json.loads(line) for line in lines]
    found = [line["request"]["url"] for line in lines if "request" in line]
    return sorted(url.removeprefix("http://site/") for url in found)


async def push(worker, names, *, slots=1):
    """Requests, one after the other in so many slots."""
    requests = [
        NewRequest(request(n), 0, slot=at % slots) for at, n in enumerate(names)
    ]
    for at in range(0, len(requests), 50):
        await worker.commit(requests[at : at + 50])


@pytest.mark.parametrize("slots", [1, 30])
async def test_what_is_handed_out_while_leases_are_read_is_in_the_copy(
    client, worker, monkeypatch, slots
):
    monkeypatch.setattr(snapshot, "_LEASES_PAGE", 2)
    others = [await Worker(client).join() for _ in range(4)]
    names = [f"{n:03}" for n in range(300)]
    await push(worker, names, slots=slots)
    held = [await other.lease(3) for other in others]
    passed = []

    async def work(at):
        # The holder of the first page's leases gives some back, and others, whose leases
        # were read, too or not, take them; later nobody does anything.
        if not 0 < at < 6:
            return
        giver, taker = others[at % 4], others[(at + 1) % 4]
        if held[at % 4]:
            await giver.release(held[at % 4].pop())
        got = await taker.lease(2)
        held[(at + 1) % 4] += got
        passed.extend(got)

    between = Between(client, work)
    lines = await export(between.frontier)

    assert passed
    assert urls(lines) == names
    assert between.moments() == 1


async def test_leases_that_end_while_they_are_read_leave_the_copy_whole(
    client, worker, monkeypatch
):
    """What they led to is pending then, or was handed out and done as well."""
    monkeypatch.setattr(snapshot, "_LEASES_PAGE", 2)
    await push(worker, ["a", "b", "c", "d", "e", "f"])
    held = sorted(await worker.lease(6), key=lambda lease: lease.id)

    async def work(at):
        if at != 2:  # The first page of leases was read.
            return
        ended = [Settlement(lease.id) for lease in held]
        children = [NewRequest(request(f"child{n}"), 0, slot=n) for n in range(3)]
        await worker.commit(children, ended)
        [first, _] = await worker.lease(2)
        await worker.commit(
            [NewRequest(request("grandchild"), 0)], [Settlement(first.id)]
        )

    lines = await export(Between(client, work).frontier)
    children = ["child0", "child1", "child2", "grandchild"]
    assert urls(lines) == ["a", "b", *children]


async def test_seeds_taken_while_leases_are_read_are_in_the_copy(client, worker):
    await worker.push("a", "b")
    await worker.lease(2)

    async def work(at):
        if at == 1:  # Seeds have been read.
            await client.rpush("s:start_urls", "http://late/", "http://later/")
            late, _ = await worker.seeds(2)
            assert late.payload == b"http://late/"
            await worker.ack(late)

    lines = await export(Between(client, work).frontier)
    seeds = {json.loads(line).get("seed") for line in lines}
    assert seeds == {None, "http://late/", "http://later/"}


async def test_leases_that_nobody_touches_are_read_once_and_in_pages(client, worker):
    await push(worker, range(450))
    for _ in range(5):
        await worker.lease(100)

    async def nothing(at):
        pass

    between = Between(client, nothing)
    lines = await export(between.frontier)
    assert kinds(lines).count("leased") == 450
    assert [len(page) for page in between.pages(LEASES)] == [200, 200, 50]
    assert between.pages(SUSPECTS) == between.pages(REQUESTS) == [[]]


async def test_a_lease_without_its_request_does_not_hold_the_copy_up(client, worker):
    await worker.push("a", "b")
    [lease, _] = await worker.lease(2)
    await client.hdel(KEYS.leased, lease.id)
    lines = await export(worker.frontier)  # which says that it is whole
    assert kinds(lines).count("leased") == 1


@pytest.mark.parametrize("slots", [1, 25])
async def test_what_is_crawled_before_its_page_is_read_is_in_the_copy(
    client, worker, slots, monkeypatch
):
    """Workers take from the front of every slot, and all that is left, and are faster."""
    monkeypatch.setattr(snapshot, "BATCH", 50)
    names = [f"{n:03}" for n in range(250)]
    await push(worker, names, slots=slots)
    done = []

    async def work(at):
        # Behind the first page of pending requests.
        if len(between.pages(REQUESTS)) != 1 or done:
            return
        while leases := await worker.lease(70):
            done.extend(leases)
            # What they lead to goes to the front of a slot that has been read.
            new = [
                NewRequest(request(f"child-{x.id}"), -1)
                for x in leases
                if len(done) < 80
            ]
            await worker.commit(new, [Settlement(lease.id) for lease in leases])

    between = Between(client, work)
    lines = await export(between.frontier)

    assert len(done) > 250
    found = urls(lines)
    assert [name for name in found if name.isdigit()] == names
    assert between.moments() == 1


async def test_suspects_handed_out_before_their_page_is_read_are_in_the_copy(
    client, worker, monkeypatch
):
    monkeypatch.setattr(snapshot, "BATCH", 5)
    other = await Worker(client).join()
    names = [f"{n:03}" for n in range(40)]
    await push(worker, names, slots=3)
    await other.lease(20)
    await other.dies(worker)
    assert await client.zcard(KEYS.suspects) == 20
    done = []

    async def work(at):
        if len(between.pages(SUSPECTS)) == 1:
            while leases := await worker.lease(20):
                done.extend(leases)
                await worker.ack(*leases)

    between = Between(client, work)
    lines = await export(between.frontier)
    assert len(done) == 40
    assert urls(lines) == names


@ON_REDIS_ONLY
async def test_what_somebody_else_put_there_is_in_the_copy_though_it_is_taken(
    client, worker
):
    strange = {b"not ours": 1.5, b"\x80\x04neither": -3}
    await client.zadd(KEYS.requests, strange)

    async def work(at):
        if at == 1:
            leases = [await worker.lease_one(), await worker.lease_one()]
            await worker.ack(*leases)

    lines = await export(Between(client, work).frontier)
    assert {payload_of(json.loads(line)) for line in lines[1:-1]} == {*strange}


async def copies(client):
    """What S:state has on account of copies."""
    return [f for f in await client.hkeys(KEYS.state) if f.startswith(b"cop")]


@pytest.mark.parametrize("late", [0, 1])
async def test_copies_at_the_same_time_are_both_whole_and_leave_nothing(
    client, worker, late
):
    names = [f"{n:03}" for n in range(30)]
    await push(worker, names, slots=5)
    found = []

    async def other(at):
        if at == 1:
            await worker.ack(*await worker.lease(20))

    async def work(at):
        if at == late:
            found.append(await export(Between(client, other).frontier))
        if at == 2:
            await worker.ack(*await worker.lease(20))

    found.append(await export(Between(client, work).frontier))
    assert urls(found[0]) == names
    assert urls(found[1]) == (names[20:] if late == 0 else names)
    assert await copies(client) == []


async def test_copy_that_somebody_ends_early_leaves_nothing(client, worker):
    await push(worker, range(300))
    reading = snapshot.Snapshot(worker.frontier).read()
    await anext(reading)
    assert await copies(client) == [b"copies"]
    await worker.lease(3)
    assert len(await copies(client)) == 2
    await reading.aclose()
    assert await copies(client) == []


@pytest.mark.parametrize("full", ["4000:9", "9:8000000", "late"])
async def test_notes_that_nobody_collects_are_given_up_and_all_is_read_again(
    client, worker, full
):
    names = [f"{n:03}" for n in range(30)]
    await push(worker, names, slots=5)

    async def work(at):
        if at != 1:
            return
        await worker.ack(*await worker.lease(3))
        name, till, *_ = (await client.hget(KEYS.state, "copies")).decode().split(":")
        left = f"{name}:{till}:{full} " if full != "late" else f"{name}:1:1:1 "
        await client.hset(KEYS.state, "copies", left)
        await worker.ack(*await worker.lease(2))
        assert await copies(client) == []

    between = Between(client, work)
    # They were done by the moment that the copy is of.
    assert urls(await export(between.frontier)) == names[5:]
    assert between.moments() == 2
    assert await copies(client) == []


async def test_notes_of_whoever_died_while_copying_go(client, worker):
    await push(worker, range(30))
    reading = snapshot.Snapshot(worker.frontier).read()
    await anext(reading)
    await worker.lease(1)
    assert len(await copies(client)) == 2
    # It is killed, and a minute later somebody else makes a copy.
    name, _, *rest = (await client.hget(KEYS.state, "copies")).decode().split(":")
    await client.hset(KEYS.state, "copies", ":".join((name, "1", *rest)))
    await export(worker.frontier)
    assert await copies(client) == []


async def test_copy_of_nothing_makes_no_frontier(client):
    lines = await export(Worker(client).frontier)
    assert kinds(lines) == ["frontier", "end"]
    assert await contents(client) == {}


@ON_REDIS_ONLY
@pytest.mark.parametrize("works", [False, True])
async def test_where_redis_lets_nobody_write_a_copy_of_what_rests_is_whole(
    client, worker, works, monkeypatch
):
    monkeypatch.setattr(snapshot, "_ROUNDS", 3)
    names = [f"{n:03}" for n in range(30)]
    await push(worker, names, slots=5)
    await client.config_set("min-replicas-to-write", 1)

    async def work(at):
        if works and at % 4 == 2:
            await client.config_set("min-replicas-to-write", 0)
            await worker.lease(1)
            await client.config_set("min-replicas-to-write", 1)

    try:
        exported = Exported()
        frontier = Between(client, work).frontier
        found = export_lines(frontier, exported, spider="s")
        lines = [dump(line).encode() async for some in found for line in some]
    finally:
        await client.config_set("min-replicas-to-write", 0)
    assert exported.is_whole is not works
    assert works or urls(lines) == names
