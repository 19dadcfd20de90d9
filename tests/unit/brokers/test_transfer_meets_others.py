"""Exports and imports while somebody else writes, and where something is already."""

from __future__ import annotations

import json

import pytest
from redis.exceptions import ResponseError

from scrapy_dist.brokers.redis.layout import RANK
from scrapy_dist.brokers.redis.tools.export import export_lines
from scrapy_dist.brokers.redis.tools.import_ import import_lines
from scrapy_dist.brokers.redis.views.snapshot import Snapshot
from scrapy_dist.codec.dump_lines import dump
from scrapy_dist.core.crawl import Exported, Imported
from scrapy_dist.core.frontier import Claim, NewRequest
from scrapy_dist.exceptions import BadPayload, ConfigurationError, RedisUnavailable
from tests.support.frontiers import (
    KEYS,
    ON_REDIS_ONLY,
    Worker,
    contents,
    dead_letters,
    suspect,
)
from tests.support.transfer import bring_in, export, kinds, request


@pytest.fixture
async def worker(client):
    return await Worker(client).join()


async def fill(client, worker, requests, seeds):
    """Requests, seeds, letters and items, of which none may come twice."""
    for at in range(0, requests, 50):
        some = [NewRequest(request(n), 0) for n in range(at, min(at + 50, requests))]
        await worker.commit(some)
    await client.rpush("s:start_urls", *(f"http://seed/{n}" for n in range(seeds)))
    await client.rpush(KEYS.items, "1", "1", "2")
    letter = {"payload": request("bad"), "reason": "r", "worker": "h:1"}
    letter |= {"deliveries": 2, "time": 3, "kind": "request"}
    await client.xadd(KEYS.failed, letter)


async def amounts(client):
    return (
        await client.zcard(KEYS.requests),
        await client.llen("s:start_urls"),
        await client.llen(KEYS.items),
        await client.xlen(KEYS.failed),
    )


@pytest.mark.parametrize(("requests", "seeds"), [(3, 3), (250, 1000)])
async def test_two_imports_of_one_file_at_once_bring_it_in_once(
    client, worker, requests, seeds
):
    await fill(client, worker, requests, seeds)
    before = await amounts(client)
    lines = await export(worker.frontier, items=True)
    await client.flushdb()
    # The second has looked at the frontier before the first began, and writes after it.
    second = Worker(client).frontier
    exchange, first = second.exchange, []

    async def overtaken(calls):
        if not first:
            first.append(await bring_in(Worker(client).frontier, lines))
        await exchange(calls)

    second.exchange = overtaken
    imported = await bring_in(second, lines)

    assert first[0].is_complete
    assert imported.is_complete
    assert await amounts(client) == before


async def test_an_import_overtaken_in_the_middle_brings_nothing_in_twice(
    client, worker
):
    await fill(client, worker, 250, 3000)
    before = await amounts(client)
    lines = await export(worker.frontier, items=True)
    await client.flushdb()
    one, other = (
        import_lines(Worker(client).frontier, lines, Imported()) for _ in range(2)
    )
    # Step by step, one after the other.
    done = [await anext(one), await anext(other)]
    async for _ in one:
        done.append(await anext(other, None))
    assert len(done) > 2
    assert await amounts(client) == before


async def test_a_file_that_was_imported_is_not_imported_again(client, worker):
    await fill(client, worker, 3, 3)
    lines = await export(worker.frontier, items=True)
    await client.flushdb()
    await bring_in(worker.frontier, lines)
    before = await contents(client)
    for options in ({}, {"merge": True}):
        with pytest.raises(ConfigurationError, match="imported already"):
            await bring_in(worker.frontier, lines, **options)
    assert await contents(client) == before


async def test_a_merge_leaves_the_numbers_of_this_crawl_alone(client, worker):
    await client.hset(KEYS.stats, mapping={"pages": "7", "theirs": "1"})
    lines = await export(worker.frontier)
    await client.delete(KEYS.stats)
    await client.hset(KEYS.stats, mapping={"pages": "900", "ours": "2"})
    await bring_in(worker.frontier, lines, merge=True)
    assert await client.hgetall(KEYS.stats) == {
        b"pages": b"900",
        b"ours": b"2",
        b"theirs": b"1",
    }


@pytest.mark.parametrize(
    "place", ["requests", "suspects", "leases", "started", "dupefilter"]
)
async def test_whatever_is_in_the_frontier_an_import_asks_for_merge(
    client, worker, place
):
    head, *_, end = await export(worker.frontier)
    key = getattr(KEYS, place)
    if place in ("started", "dupefilter"):
        await client.sadd(key, "x")
    else:
        await client.zadd(key, {"x": 1})
    with pytest.raises(ConfigurationError, match="not empty"):
        await bring_in(worker.frontier, [head, end])
    assert (await bring_in(worker.frontier, [head, end], merge=True)).is_complete


async def test_a_key_of_another_type_is_said_to_be_that(client, worker):
    lines = await export(worker.frontier)
    await client.set(KEYS.failed, "mine")
    with pytest.raises(ConfigurationError, match="holds something else"):
        await bring_in(worker.frontier, lines)


class Away:
    """A frontier whose Redis goes away after *calls* round trips."""

    def __init__(self, client, calls):
        self.frontier = Worker(client).frontier
        exchange = self.frontier.exchange
        left = iter(range(calls))

        async def failing(calls):
            if next(left, None) is None:
                raise ConnectionError("gone")
            await exchange(calls)

        self.frontier.exchange = failing


@pytest.mark.parametrize("calls", [0, 1])
async def test_a_redis_that_goes_away_ends_an_import_that_can_be_repeated(
    client, worker, calls
):
    await fill(client, worker, 250, 3000)
    before = await amounts(client)
    lines = await export(worker.frontier, items=True)
    await client.flushdb()
    with pytest.raises(RedisUnavailable, match="Import the same file again"):
        await bring_in(Away(client, calls).frontier, lines)
    imported = await bring_in(worker.frontier, lines)
    assert imported.is_complete
    assert bool(imported.skipped) == bool(calls)
    assert await amounts(client) == before


@pytest.mark.parametrize("where", ["head", "requests"])
async def test_a_redis_that_goes_away_ends_an_export_with_one_error(
    client, worker, where, monkeypatch
):
    await worker.push("a")

    async def gone(*args, **options):
        raise ConnectionError("gone")

    frontier = Worker(client).frontier
    if where == "head":
        monkeypatch.setattr(client, "zcard", gone)
    else:
        frontier.exchange = gone
    with pytest.raises(RedisUnavailable, match="not complete: gone"):
        await export(frontier)


@pytest.mark.parametrize("by", [1, 70, 1500])
@pytest.mark.parametrize("how", ["lpush", "rpush", "lpop", "rpop", "rpush lpop"])
async def test_a_list_that_others_write_to_comes_whole_and_once(
    client, worker, how, by, monkeypatch
):
    """Items and seeds: projects push and take them at either end."""
    if "rpop" in how and by > 100:
        pytest.skip("what was taken before it was read is gone")
    names = [f"{n:05}" for n in range(2500)]
    await client.rpush(KEYS.items, *names)
    pipeline, looks, gone = client.pipeline, [], set()

    async def write():
        # Before each of the first looks.
        looks.append(1)
        if len(looks) > 5:
            return
        for name in how.split():
            if "push" in name:
                new = [f"late{len(looks)}-{n}" for n in range(by)]
                await getattr(client, name)(KEYS.items, *new)
            else:
                taken = await getattr(client, name)(KEYS.items, min(by, 100))
                gone.update(item.decode() for item in taken)

    def writing(*args, **options):
        return Writing(pipeline(*args, **options), write)

    monkeypatch.setattr(client, "pipeline", writing)
    lines = [json.loads(line) for line in await export(worker.frontier, items=True)]
    found = [line["data"] for line in lines if line["type"] == "item"]
    assert len(looks) > 5
    ours = [name for name in found if name.isdigit()]
    assert len(found) == len(set(found))
    # From the right end, each once; those that were taken may be there or not.
    assert [n for n in ours if n not in gone] == [
        n for n in reversed(names) if n not in gone
    ]


async def test_equal_items_are_as_many_in_the_copy(client, worker):
    await client.rpush(KEYS.items, *["1"] * 2500)
    lines = await export(worker.frontier, items=True)
    assert kinds(lines).count("item") == 2500


class Writing:
    """A pipeline that awaits *before* it is executed."""

    def __init__(self, pipeline, before):
        self._pipeline, self._before = pipeline, before

    async def __aenter__(self):
        self._entered = await self._pipeline.__aenter__()
        return self

    async def __aexit__(self, *exc):
        await self._pipeline.__aexit__(*exc)

    def __getattr__(self, name):
        return getattr(self._entered, name)

    async def execute(self, *args, **options):
        await self._before()
        return await self._entered.execute(*args, **options)


async def test_items_taken_during_an_export_do_not_hide_others(client, worker):
    """Whoever takes from the left takes none of those that are still to be read."""
    await client.rpush(KEYS.items, *(f"{n:05}" for n in range(2500)))
    exported = Exported()
    found = []
    async for some in export_lines(worker.frontier, exported, spider="s", items=True):
        if some and some[0]["type"] == "item":
            if not found:
                await client.lpop(KEYS.items, 500)
            found += [line["data"] for line in some]
    assert found == [f"{n:05}" for n in range(2499, 499, -1)]


async def test_the_end_says_how_many_lines_of_each_type_there_are(client, worker):
    await fill(client, worker, 250, 30)
    lines = await export(worker.frontier, items=True)
    counts = json.loads(lines[-1])["counts"]
    of_lines = kinds(lines)[1:-1]
    assert counts == {kind: of_lines.count(kind) for kind in of_lines}
    assert json.loads(lines[0])["requests"] == 250


async def test_seeds_of_each_kind_of_key_come_back_into_their_own(client, worker):
    await client.sadd("s:start_urls", "http://a/", "http://b/")
    await client.zadd("s:more_urls", {f"http://s/{n}": n / 2 for n in range(300)})
    before = await contents(client)
    lines = await export(worker.frontier)
    await client.flushdb()
    await bring_in(worker.frontier, lines)
    after = await contents(client)
    for key in ("s:start_urls", "s:more_urls"):
        assert after[key] == before[key]


async def test_seeds_go_into_the_key_of_the_type_that_is_there(client, worker):
    """This spider's keys may be of other types than those of the file."""
    await client.rpush("s:start_urls", "http://a/")
    await client.sadd("s:more_urls", "http://b/")
    lines = await export(worker.frontier)
    await client.flushdb()
    await client.sadd("s:start_urls", "http://here/")
    await client.zadd("s:more_urls", {"http://there/": 5})
    await bring_in(worker.frontier, lines)
    assert await client.smembers("s:start_urls") == {b"http://here/", b"http://a/"}
    found = await client.zrange("s:more_urls", 0, -1, withscores=True)
    assert found == [(b"http://b/", 0.0), (b"http://there/", 5.0)]


@pytest.mark.keeps("s:only", reason="another key of seeds")
async def test_seeds_of_a_key_that_this_spider_has_not_go_into_its_first(
    client, worker
):
    await client.zadd("s:more_urls", {"http://b/": 5})
    lines = await export(worker.frontier)
    await client.flushdb()
    frontier = Worker(client).frontier
    frontier.seed_keys = ("s:only",)
    imported = await bring_in(frontier, lines)
    assert imported.homeless == 0
    assert await client.zrange("s:only", 0, -1, withscores=True) == [(b"http://b/", 5)]


async def test_seeds_without_a_key_are_counted(client, worker):
    await client.rpush("s:start_urls", "http://a/", "http://b/")
    lines = await export(worker.frontier)
    await client.flushdb()
    frontier = Worker(client).frontier
    frontier.seed_keys = ()
    imported = await bring_in(frontier, lines)
    assert imported.homeless == 2
    assert imported.is_complete


async def test_a_refusal_of_redis_is_not_called_a_wrong_type(client, worker):
    lines = await export(worker.frontier)

    async def refused(calls):
        raise ResponseError("NOPERM this user has no permissions")

    worker.frontier.exchange = refused
    with pytest.raises(RedisUnavailable, match="NOPERM"):
        await bring_in(worker.frontier, lines)


async def test_what_a_letter_claimed_comes_back_with_it(client, worker):
    letter = {"payload": request("bad"), "reason": "r", "worker": "h:1"}
    letter |= {"deliveries": 2, "time": 3, "kind": "request"}
    await client.xadd(KEYS.failed, letter | {"claims": "abc"})
    await client.xadd(KEYS.failed, letter)
    before = await dead_letters(client)
    lines = await export(worker.frontier)
    await client.flushdb()
    await bring_in(worker.frontier, lines)
    assert await dead_letters(client) == before


@ON_REDIS_ONLY
@pytest.mark.parametrize("held", [False, True])
async def test_what_a_request_claimed_is_followed_again_after_an_import(
    client, worker, held
):
    await worker.push("page")
    page = await worker.lease_one()
    claim = [Claim("login", [page.id])]
    assert await worker.call(worker.frontier.claim(claim)) == [True]
    if not held:
        await worker.release(page)
    lines = await export(worker.frontier)
    await client.flushdb()
    await bring_in(worker.frontier, lines)
    other = await Worker(client).join()
    again = await other.lease_one()
    claim = [Claim("login", [again.id])]
    assert await other.call(other.frontier.claim(claim)) == [True]
    assert await other.call(other.frontier.claim([Claim("login", [])])) == [False]


async def test_suspect_that_waits_for_room_still_waits_after_an_import(client, worker):
    waiting = suspect(request("a"), 9, 1, slot=7)
    await client.zadd(KEYS.suspects, {waiting: "+inf"})
    lines = await export(worker.frontier)
    await client.flushdb()
    await bring_in(worker.frontier, lines)
    [(_, score)] = await client.zrange(KEYS.suspects, 0, -1, withscores=True)
    assert score == float("inf")


HEAD = {"type": "frontier", "version": 1, "fingerprints": "hex", "id": "x"}


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ({"id": None}, "its first line is another one"),
        ({"type": "seen"}, "its first line is another one"),
        ({"requests": -1}, "its requests is no number"),
        ({"requests": 10**12 + 1}, "its requests is no number"),
        ({"requests": "7"}, "its requests is no number"),
        ({"version": 0}, "version 0"),
    ],
)
async def test_a_head_that_cannot_be_is_refused(client, worker, head, problem):
    before = await contents(client)
    with pytest.raises(ConfigurationError, match=problem):
        await bring_in(worker.frontier, [dump(HEAD | head).encode()])
    assert await contents(client) == before


PENDING = {"type": "pending", "score": 1, "request": {"url": "http://a/"}}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (PENDING | {"deaths": -1}, "its deaths is no number up to 1000000: -1"),
        (PENDING | {"deaths": 10**6 + 1}, "its deaths is no number"),
        (PENDING | {"deaths": True}, "its deaths is no number"),
        ({"type": "seed", "key": -1, "kind": "list", "data": "x"}, "its key is no"),
        ({"type": "seen", "fingerprint": ""}, "it has no fingerprint"),
        ({"type": "seen", "fingerprint": "\u00e9"}, "it has no fingerprint"),
        ({"type": "seen", "fingerprint": "x" * 1001}, "has 1,001 characters"),
        ({"type": "started", "fingerprint": ""}, "it has no fingerprint"),
        ({"type": "seed", "key": 0, "data": "x"}, "it has no kind"),
    ],
)
async def test_numbers_and_names_have_bounds(client, worker, line, problem):
    lines = [dump(HEAD).encode(), dump(line).encode()]
    with pytest.raises(BadPayload, match=f"^Line 2 of the file: .*{problem}"):
        await bring_in(worker.frontier, lines)


async def test_numbers_and_names_at_their_bounds_are_taken(client, worker):
    found = [
        PENDING,
        PENDING | {"deaths": 10**6, "claims": "abc"},
        {"type": "seen", "fingerprint": "x" * 1000},
        {"type": "started", "fingerprint": "y"},
    ]
    end = {"type": "end", "counts": {"all": len(found)}, "whole": False}
    lines = [HEAD | {"requests": 10**12}, *found, end]
    imported = await bring_in(worker.frontier, [dump(x).encode() for x in lines])
    assert imported.is_complete
    assert not imported.is_whole
    assert await client.smembers(KEYS.dupefilter) == {b"x" * 1000}
    assert await client.zcard(KEYS.requests) == 1
    [found] = await client.zrange(KEYS.suspects, 0, -1)
    assert found[RANK:].startswith(b"1000000 abc 0 \x01")


@pytest.mark.parametrize("claims", ["a b", "", "\u00e9", 7, "-"])
async def test_claims_that_no_worker_made_are_left_out(client, worker, claims):
    """Else what follows them would be taken for another request."""
    line = PENDING | {"deaths": 1, "claims": claims}
    await bring_in(worker.frontier, [dump(x).encode() for x in (HEAD, line)])
    [found] = await client.zrange(KEYS.suspects, 0, -1)
    assert found[RANK:].startswith(b"1 - 0 \x01")


async def test_long_sets_sorted_sets_letters_and_stats_come_whole(client, worker):
    await client.sadd("s:start_urls", *(f"http://a/{n}" for n in range(2500)))
    await client.zadd("s:more_urls", {f"http://b/{n}": n for n in range(2500)})
    await client.hset(KEYS.stats, mapping={f"stat{n}": n for n in range(2500)})
    await client.sadd(KEYS.started, *(f"fp{n}" for n in range(2500)))
    letter = {"payload": request("bad"), "reason": "r", "worker": "h:1"}
    for n in range(250):
        await client.xadd(KEYS.failed, letter | {"deliveries": n, "time": 3})
    lines = await export(worker.frontier)
    found = [json.loads(line) for line in lines[1:-1]]
    seeds = [line["data"] for line in found if line["type"] == "seed"]
    assert set(seeds) == {f"http://{x}/{n}" for x in "ab" for n in range(2500)}
    stats = {line["name"] for line in found if line["type"] == "stat"}
    assert stats == {f"stat{n}" for n in range(2500)}
    started = {line["fingerprint"] for line in found if line["type"] == "started"}
    assert len(started) == 2500
    letters = [line["deliveries"] for line in found if line["type"] == "failed"]
    assert letters == [str(n) for n in range(250)]


async def test_the_head_counts_pending_suspect_and_leased_requests(client, worker):
    other = await Worker(client).join()
    await worker.push("a", "b", "c", "d")
    await other.lease(1)
    await other.dies(worker)
    await worker.lease(1, suspect=False)
    head, *_, end = await export(worker.frontier)
    assert json.loads(head)["requests"] == 4
    assert json.loads(end)["whole"] is True


async def test_an_export_that_is_not_whole_says_so(client, worker, monkeypatch):
    monkeypatch.setattr(Snapshot, "is_whole", False, raising=False)
    exported = Exported()

    async def nothing(self):
        self.is_whole = False
        for some in ():
            yield some

    monkeypatch.setattr(Snapshot, "read", nothing)
    lines = export_lines(worker.frontier, exported, spider="s")
    found = [line async for some in lines for line in some]
    assert found[-1]["whole"] is False
    assert not exported.is_whole
    text = [dump(line).encode() for line in found]
    assert not (await bring_in(worker.frontier, text)).is_whole
