"""Storing what a worker produced, and acknowledging: every outcome of a commit."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ResponseError

from scrapy_dist.brokers.redis.layout import RANK, decode_score, order_of
from scrapy_dist.core.frontier import (
    BATCH,
    ChainLink,
    Claim,
    Commit,
    CommitReply,
    End,
    NewRequest,
    Outcome,
    Settlement,
)
from tests.support.frontiers import (
    KEYS,
    ON_REDIS_ONLY,
    SEED_KEYS,
    Worker,
    contents,
    dead_letters,
    dump,
    names,
    places,
    restore,
)

MEGABYTE = 1 << 20
DONE = CommitReply(Outcome.STORED, 0, [])


def requests(*names, fingerprint="fp-{}", start=0, score=0.0):
    return [
        NewRequest(name.encode(), score, fingerprint.format(name), start)
        for name in names
    ]


@pytest.fixture
async def worker(client):
    return await Worker(client).join("host:1")


@pytest.fixture
async def other(client):
    return await Worker(client).join("host:2")


async def two_leases(worker, other):
    """One of *worker*, one of *other*."""
    await worker.push("mine", "theirs")
    return await worker.lease_one(), await other.lease_one()


@pytest.mark.parametrize("step", [1, -1, 7])
@pytest.mark.parametrize("held", [9, 60])
async def test_leases_end_in_whatever_order(client, worker, other, step, held):
    """Also what is none of the oldest, and what is another's."""
    await worker.push(*map(str, range(2 * held)))
    own, theirs = await worker.lease(), await other.lease()
    ended = [*own[-7:], theirs[3]][::step]
    pages = [
        Settlement(lease.id, end=End.EMPTY if n % 2 else End.ACK)
        for n, lease in enumerate(ended)
    ]
    assert await worker.commit(pages=pages) == CommitReply(Outcome.STORED, 1, [])
    left = {lease.payload.decode() for lease in (*own, *theirs)}
    left -= {lease.payload.decode() for lease in ended if lease in own}
    assert {*(await places(client))["leased"]} == left


# Requests


async def test_each_request_keeps_its_score_behind_a_filtered_one(client, worker):
    await worker.commit(requests("known"))
    await worker.commit(
        [
            *requests("a", score=1),
            *requests("known", score=2),
            *requests("b", score=3),
            *requests("c", score=1, fingerprint=""),
        ]
    )
    pending = await client.zrange(KEYS.requests, 0, -1)
    assert {member[RANK:]: decode_score(member[:8]) for member in pending} == {
        b"known": 0,
        b"a": 1,
        b"b": 3,
        b"c": 1,
    }


@pytest.mark.keeps("i:*", reason="lists of items")
async def test_commit_stores_requests_items_and_acks(client, worker):
    await worker.push("page")
    page = await worker.lease_one()
    reply = await worker.commit(
        requests("a"),
        [Settlement(page.id, requests("b", fingerprint=""), [("i:1", b"of the page")])],
        [("i:2", b"of nobody"), ("i:1", b"first")],
    )
    assert reply == DONE
    assert await places(client) == {"pending": ["a", "b"], "suspects": [], "leased": []}
    assert await client.smembers(KEYS.dupefilter) == {b"fp-a"}
    assert await client.lrange("i:1", 0, -1) == [b"first", b"of the page"]
    assert await client.lrange("i:2", 0, -1) == [b"of nobody"]
    assert (await worker.heartbeat()).commit == worker.commits


async def test_empty_commit_is_only_numbered(client, worker):
    before = await contents(client)
    assert await worker.commit() == DONE
    after = await contents(client)
    changed = {f"commit:{worker.number}".encode(): b"1"}
    state = {**before[KEYS.state], **changed}
    state[b"active"] = after[KEYS.state][b"active"]
    assert after == {**before, KEYS.state: state}


async def test_duplicates_are_filtered_and_reported_by_their_positions(client, worker):
    await worker.commit(requests("a", "b"))
    new = requests("c", "a", "d", "c", "b") + requests("a", fingerprint="")
    reply = await worker.commit(new)
    assert reply == CommitReply(Outcome.STORED, 0, [1, 3, 4])
    assert (await places(client))["pending"] == ["a", "b", "c", "d", "a"]
    assert await client.scard(KEYS.dupefilter) == 4


async def test_unfiltered_requests_are_all_stored(client, worker):
    reply = await worker.commit(requests("a", "a", "a", fingerprint=""))
    assert reply == DONE
    assert (await places(client))["pending"] == ["a", "a", "a"]
    assert await client.exists(KEYS.dupefilter) == 0


async def test_start_requests_are_taken_once_per_crawl(client, worker, other):
    await client.sadd(KEYS.dupefilter, "fp-seen")
    start = requests("seen", "new", "new", start=1)
    assert await worker.commit(start) == CommitReply(Outcome.STORED, 0, [2])
    assert await other.commit(start) == CommitReply(Outcome.STORED, 0, [0, 1, 2])
    assert (await places(client))["pending"] == ["seen", "new"]
    assert await client.smembers(KEYS.started) == {b"fp-seen", b"fp-new"}
    # A link to the same page is a duplicate of it.
    assert (await other.commit(requests("new"))).duplicates == [0]


async def test_link_to_a_start_request_of_the_same_commit_is_a_duplicate(
    client, worker
):
    new = requests("a", start=1) + requests("a")
    assert (await worker.commit(new)).duplicates == [1]
    assert (await places(client))["pending"] == ["a"]


async def test_fingerprints_of_any_bytes(client, worker):
    odd = ["fp with spaces", "\n", "\0", "é", "0", "-1", "x" * 1000, "%d"]
    new = [NewRequest(fp.encode(), 0, fp) for fp in odd]
    assert await worker.commit(new) == DONE
    assert (await worker.commit(new)).duplicates == list(range(len(odd)))
    assert await client.smembers(KEYS.dupefilter) == {fp.encode() for fp in odd}


# Pages


async def test_what_is_part_of_a_lease_of_another_is_not_stored(client, worker, other):
    mine, theirs = await two_leases(worker, other)
    ghost = "00000000000000ff"
    before = await contents(client)
    pages = [
        Settlement(
            id_, requests("lost", fingerprint=""), [("s:items", b"lost")], end, "why"
        )
        for id_ in (theirs.id, ghost, "")
        for end in End
    ]
    assert await worker.commit(pages=pages) == CommitReply(Outcome.STORED, 12, [])
    after = await contents(client)
    assert after.pop(KEYS.state) != before.pop(KEYS.state)
    assert after == before

    pages.append(
        Settlement(mine.id, requests("child", fingerprint=""), [("s:items", b"i")])
    )
    assert await worker.commit(pages=pages) == CommitReply(Outcome.STORED, 12, [])
    assert (await places(client))["pending"] == ["child"]
    assert (await places(client))["leased"] == ["theirs"]
    assert await client.lrange("s:items", 0, -1) == [b"i"]
    assert await dead_letters(client) == []


async def test_filtered_requests_and_items_of_nobody_are_stored_whoever_has_the_lease(
    client, worker, other
):
    _, theirs = await two_leases(worker, other)
    reply = await worker.commit(
        requests("a"), [Settlement(theirs.id)], [("s:items", b"item")]
    )
    assert reply == CommitReply(Outcome.STORED, 1, [])
    assert (await places(client))["pending"] == ["a"]
    assert await client.lrange("s:items", 0, -1) == [b"item"]


async def test_part_of_a_page_leaves_its_lease(client, worker):
    await worker.push("page")
    page = await worker.lease_one()
    before = await client.hgetall(KEYS.leased)
    part = Settlement(
        page.id, requests("a", fingerprint=""), [("s:items", b"1")], End.OPEN
    )
    assert await worker.commit(pages=[part]) == DONE
    assert await client.hgetall(KEYS.leased) == before
    assert (await places(client))["pending"] == ["a"]
    rest = Settlement(page.id, requests("b", fingerprint=""), [("s:items", b"2")])
    assert await worker.commit(pages=[part, rest]) == DONE
    assert (await places(client)) == {
        "pending": ["a", "a", "b"],
        "suspects": [],
        "leased": [],
    }
    assert await client.lrange("s:items", 0, -1) == [b"1", b"1", b"2"]


@pytest.mark.parametrize("end", [End.ACK, End.EMPTY])
async def test_acks_are_of_the_leases_they_name(client, worker, end):
    await worker.push("a", "b", "c")
    a, _, c = await worker.lease()
    pages = [Settlement(lease.id, end=end) for lease in (c, a)]
    assert await worker.commit(pages=pages) == DONE
    assert await places(client) == {"pending": [], "suspects": [], "leased": ["b"]}
    # What is not there any more is not ours.
    assert await worker.commit(pages=pages) == CommitReply(Outcome.STORED, 2, [])


async def test_failed_page_is_a_dead_letter_that_says_why(client, worker):
    await worker.push("page")
    page = await worker.lease_one()
    child, items = requests("child", fingerprint=""), [("s:items", b"i")]
    reason = "ValueError: + = - \n\0 é"
    assert (
        await worker.commit(
            pages=[Settlement(page.id, child, items, End.FAILED, reason)]
        )
        == DONE
    )
    [letter] = await dead_letters(client)
    assert abs(int(letter.pop("time")) / 1000 - (await client.time())[0]) < 60
    assert letter == {
        "payload": b"page",
        "reason": reason.encode(),
        "worker": b"host:1",
        "deliveries": b"1",
        "kind": b"request",
    }
    assert await places(client) == {"pending": ["child"], "suspects": [], "leased": []}
    assert await client.lrange("s:items", 0, -1) == [b"i"]


async def test_failed_seed_that_came_back_from_a_death(client, worker, other):
    await client.rpush(SEED_KEYS[0], b"seed \0")
    await worker.seeds()
    await worker.dies(other)
    seed = await other.lease_one()
    await other.commit(pages=[Settlement(seed.id, end=End.FAILED, reason="why")])
    [letter] = await dead_letters(client)
    assert letter["payload"] == b"seed \0"
    assert (letter["kind"], letter["deliveries"]) == (b"seed", b"2")


@pytest.mark.parametrize("limit", [0, 2])
async def test_pages_that_find_no_room_among_the_dead_letters_stay(client, limit):
    worker = await Worker(client, failed_limit=limit).join()
    await worker.push("a", "b", "c")
    leases = await worker.lease()
    pages = [
        Settlement(lease.id, end=End.FAILED, reason=f"why {n}")
        for n, lease in enumerate(leases)
    ]
    assert await worker.commit(pages=pages) == DONE
    kept = [letter["payload"] for letter in await dead_letters(client)]
    assert kept == [b"a", b"b", b"c"][:limit]
    stay = ["a", "b", "c"][limit:]
    assert await places(client) == {"pending": [], "suspects": stay, "leased": []}
    assert await worker.lease() == []


@pytest.mark.parametrize("newest_first", [False, True])
async def test_hops_that_find_no_room_among_the_dead_letters_stay(client, newest_first):
    worker = await Worker(client, failed_limit=1, newest_first=newest_first).join()
    await worker.push("page")
    page = await worker.lease_one()
    chain = [ChainLink(f"fp-{n}", "HTTP 500", f"hop-{n}".encode()) for n in range(3)]
    reply = await worker.commit(
        [NewRequest(b"link", 0, "fp-link")], pages=[Settlement(page.id, chain=chain)]
    )
    assert reply == DONE
    assert [x["payload"] for x in await dead_letters(client)] == [b"hop-0"]
    assert sorted((await places(client))["suspects"]) == ["hop-1", "hop-2"]
    members = await client.zrange(KEYS.suspects, 0, -1)
    members += await client.zrange(KEYS.requests, 0, -1)
    assert len({member[8:RANK] for member in members}) == 3
    order = int(await client.hget(KEYS.state, "order"))
    assert all(order_of(member[8:RANK]) <= order for member in members)
    await client.delete(KEYS.failed)
    assert await worker.call(worker.frontier.readmit()) == [1, 1]
    assert {lease.payload[:3] for lease in await worker.lease()} == {b"hop", b"lin"}


async def test_page_whose_ack_was_cut_in_half_has_no_dead_letter(client, worker):
    await worker.push("page")
    page = await worker.lease_one()
    await client.hdel(KEYS.leased, page.id)
    assert (
        await worker.commit(pages=[Settlement(page.id, end=End.FAILED, reason="why")])
        == DONE
    )
    assert await dead_letters(client) == []
    assert (await worker.call(worker.frontier.drained())).is_drained


# Hops: what was crawled under the lease of another page

HOPS = (
    ChainLink("fp-1"),
    ChainLink(""),
    ChainLink("@1 3 #odd !"),
    ChainLink("fp-t", is_page=False),
)


async def pages_done(client):
    return int(await client.hget(KEYS.state, "pages") or 0)


async def test_hops_are_seen_and_counted_when_their_page_ends(client, worker):
    await worker.push("page", "other")
    page, other = await worker.lease()
    new = [*requests("a"), *requests("s", start=1)]
    child = requests("child", fingerprint="")
    pages = [
        Settlement(other.id, child, end=End.EMPTY),
        Settlement(page.id, child, chain=HOPS),
    ]
    assert await worker.commit([*new, *requests("a")], pages) == CommitReply(
        Outcome.STORED, 0, [2]
    )
    assert await places(client) == {
        "pending": ["a", "s", "child", "child"],
        "suspects": [],
        "leased": [],
    }
    seen = {b"fp-a", b"fp-s", b"fp-1", b"fp-t", b"@1 3 #odd !"}
    assert await client.smembers(KEYS.dupefilter) == seen
    assert await pages_done(client) == 2 + 3
    assert (await worker.commit(requests("1", "t", "b"))).duplicates == [0, 1]


async def test_hops_of_a_page_of_another_are_not_seen(client, worker, other):
    mine, theirs = await two_leases(worker, other)
    pages = [
        Settlement(
            theirs.id, chain=[ChainLink("fp-lost"), ChainLink("fp-bad", "why", b"bad")]
        ),
        Settlement(mine.id, chain=[ChainLink("fp-1")]),
    ]
    assert await worker.commit(pages=pages) == CommitReply(Outcome.STORED, 1, [])
    assert await client.smembers(KEYS.dupefilter) == {b"fp-1"}
    assert await dead_letters(client) == []
    assert (await places(client))["leased"] == ["theirs"]


@pytest.mark.parametrize("fingerprint", ["fp-bad", ""])
async def test_hop_that_failed_is_a_dead_letter_of_its_own(client, worker, fingerprint):
    await worker.push("page")
    page = await worker.lease_one()
    bad = ChainLink(fingerprint, "ValueError: \n@1 2 é", b"\x01bad\0")
    chain = [ChainLink("fp-1"), bad, ChainLink("fp-2")]
    assert (
        await worker.commit(requests("a"), [Settlement(page.id, chain=chain)]) == DONE
    )
    [letter] = await dead_letters(client)
    del letter["time"]
    assert letter == {
        "payload": bad.payload,
        "reason": bad.reason.encode(),
        "worker": b"host:1",
        "deliveries": b"1",
        "kind": b"request",
    }
    assert (await places(client))["leased"] == []


async def test_hops_of_a_commit_that_is_sent_again_are_counted_once(client, worker):
    await worker.push("page")
    page = Settlement(
        (await worker.lease_one()).id,
        chain=[ChainLink("fp-1"), ChainLink("fp-2", "why")],
    )
    await worker.commit(pages=[page])
    before = await contents(client)
    assert (
        await worker.commit(pages=[page], number=worker.commits)
    ).outcome is Outcome.REPEATED
    assert await contents(client) == before


async def test_hops_with_buckets_of_fingerprints(client):
    worker = await Worker(client, compact=True).join()
    await worker.push("page")
    page = Settlement(
        (await worker.lease_one()).id,
        chain=[ChainLink("12345"), ChainLink(""), ChainLink("-7")],
    )
    new = [NewRequest(b"a", 0.0, "99"), NewRequest(b"b", 0.0, "")]
    reply = await worker.commit(new, [page])
    while reply.outcome is Outcome.AGAIN:
        reply = await worker.commit(new, [page], number=worker.commits)
    assert reply == DONE
    again = [NewRequest(b"x", 0.0, each) for each in ("12345", "-7", "99", "100")]
    assert (await worker.commit(again)).duplicates == [0, 1, 2]
    assert await client.hget(KEYS.dupefilter, "count") == b"4"


async def test_joining_tells_whether_nothing_was_seen(client, worker, other):
    assert (await worker.register()).blank
    await worker.push("not filtered")
    assert (await other.register()).blank
    await worker.commit(requests("a"))
    assert not (await other.register()).blank


@pytest.mark.parametrize("compact", [False, True])
async def test_start_request_is_something_seen(client, compact):
    worker = await Worker(client, compact=compact).join()
    await worker.commit([NewRequest(b"a", 0.0, "1", 1)])
    if compact:
        await worker.commit([NewRequest(b"a", 0.0, "1", 1)], number=worker.commits)
    assert not (await worker.register()).blank


# Outcomes


async def everything(worker):
    """A commit of all kinds of things, as arguments."""
    await worker.push("page", "bad", "part")
    page, bad, part = await worker.lease()
    child = requests("child", fingerprint="")
    return {
        "requests": requests("a", "a") + requests("s", start=1),
        "pages": [
            Settlement(
                page.id,
                child,
                [("s:items", b"i")],
                chain=[ChainLink("h"), ChainLink("", "why")],
            ),
            Settlement(bad.id, child, [("s:items", b"j")], End.FAILED, "why"),
            Settlement(part.id, child, [("s:items", b"k")], End.OPEN),
        ],
        "items": [("s:items", b"l")],
    }


async def test_commit_that_is_sent_again_is_stored_once(client, worker):
    commit = await everything(worker)
    assert await worker.commit(**commit) == CommitReply(Outcome.STORED, 0, [1])
    before = await contents(client)
    for number in (worker.commits, 1, 0):
        reply = await worker.commit(**commit, number=number)
        assert reply == CommitReply(Outcome.REPEATED, 0, [])
    assert await contents(client) == before


async def test_unknown_worker_stores_nothing(client, worker):
    commit = await everything(worker)
    await worker.dies(await Worker(client).join())
    before = await contents(client)
    for number in (0, 1, worker.commits + 1, 99):
        reply = await worker.commit(**commit, number=number)
        assert reply == CommitReply(Outcome.UNKNOWN_WORKER, 0, [])
    assert await contents(client) == before


async def test_commit_behind_one_that_is_missing_stores_nothing(client, worker):
    """Of a page that yielded in the missing one, this may be the ack."""
    commit = await everything(worker)
    before = await contents(client)
    for ahead in (2, 3, 1000):
        reply = await worker.commit(**commit, number=worker.commits + ahead)
        assert reply == CommitReply(Outcome.GAP, 0, [])
    assert await contents(client) == before
    assert (await worker.commit(**commit)).outcome is Outcome.STORED
    assert (await worker.commit()).outcome is Outcome.STORED


async def test_ack_is_refused_when_the_children_were_lost_in_a_rollback(client, worker):
    await worker.push("page")
    page = await worker.lease_one()
    earlier = await dump(client)
    await worker.commit(requests("child"))
    await restore(client, earlier)
    assert (await worker.ack(page)).outcome is Outcome.GAP
    assert (await places(client))["leased"] == ["page"]
    assert (await worker.heartbeat()).commit == worker.commits - 2


async def test_worker_whose_number_is_not_stored_has_a_gap(client, worker):
    await client.hdel(KEYS.state, f"commit:{worker.number}")
    assert (await worker.commit(requests("a"))).outcome is Outcome.GAP
    assert (await worker.commit(number=0)).outcome is Outcome.STORED


def commit_of(number, name):
    return Commit(number, requests(name))


async def test_commits_of_one_exchange_stop_at_the_one_that_is_missing(client, worker):
    frontier = worker.frontier
    commits = [
        frontier.commit(commit)
        for commit in (
            commit_of(1, "a"),
            commit_of(3, "c"),
            commit_of(2, "b"),
            commit_of(3, "c"),
        )
    ]
    await frontier.exchange(commits)
    outcomes = [call.reply().outcome for call in commits]
    assert outcomes == [Outcome.STORED, Outcome.GAP, Outcome.STORED, Outcome.STORED]
    assert (await places(client))["pending"] == ["a", "b", "c"]


# Limits


@pytest.mark.keeps("i:*", reason="lists of items")
async def test_a_batch_of_everything_at_once(client, worker):
    await worker.push(*(f"page {n}" for n in range(BATCH)))
    leases = await worker.lease()
    reply = await worker.commit(
        requests(*(f"new {n}" for n in range(BATCH))),
        [
            Settlement(lease.id, (), [(f"i:{n}", b"x")])
            for n, lease in enumerate(leases)
        ],
    )
    assert reply == DONE
    assert names(await worker.lease()) == [f"new {n}" for n in range(BATCH)]
    assert len(await client.keys("i:*")) == BATCH


@pytest.mark.parametrize("kind", ["filtered", "start", "page", "items"])
async def test_as_much_as_a_page_may_produce(client, worker, kind):
    """FRONTIER_COMMIT_CHUNK is 3000 at the most, and a commit of its own."""
    await worker.push("page")
    page = await worker.lease_one()
    many = [str(n) for n in range(3000)]
    fingerprint = "{}" if kind in ("filtered", "start") else ""
    new = requests(*many, fingerprint=fingerprint, start=int(kind == "start"))
    items = [("s:items", name.encode()) for name in many]
    reply = await worker.commit(
        new if fingerprint else (),
        [
            Settlement(
                page.id, new if kind == "page" else (), items if kind == "items" else ()
            )
        ],
    )
    assert reply == DONE
    key = KEYS.items if kind == "items" else KEYS.requests
    size = client.llen if kind == "items" else client.zcard
    assert await size(key) == 3000


async def test_large_payloads_and_items(client, worker):
    big = b"\1" + bytes(range(256)) * (MEGABYTE // 256)
    await worker.commit([NewRequest(big, 0, "fp")], items=[("s:items", big)])
    lease = await worker.lease_one()
    assert lease.payload == big
    await worker.commit(pages=[Settlement(lease.id, [NewRequest(big + b"2", 0)])])
    assert (await worker.lease_one()).payload == big + b"2"
    assert await client.lrange("s:items", 0, -1) == [big]


@pytest.mark.keeps("wrong", reason="no list of items")
async def test_refused_commit_acknowledges_nothing_and_may_be_sent_again(
    client, worker
):
    await worker.push("page")
    page = await worker.lease_one()
    await client.set("wrong", "x")
    worker.commits += 1
    with pytest.raises(ResponseError):
        await worker.commit(
            pages=[Settlement(page.id)], items=[("wrong", b"i")], number=worker.commits
        )
    assert await places(client) == {"pending": [], "suspects": [], "leased": ["page"]}
    commit = requests("child"), [Settlement(page.id)]
    assert await worker.commit(*commit, number=worker.commits) == DONE


# Order ids


async def test_order_ids_never_come_again_after_a_rollback(client, worker):
    """Else a worker could take the lease of another request for its own."""
    seen = set()
    earlier = await dump(client)
    for _ in range(5):
        await asyncio.sleep(0.002)  # no restart of Redis takes less
        await restore(client, earlier)
        worker.commits = 0
        await worker.push("a", "b", "c")
        await client.rpush(SEED_KEYS[0], "seed")
        ids = {lease.id for lease in [*await worker.lease(), *await worker.seeds()]}
        assert len(ids) == 4
        assert not ids & seen
        seen |= ids


@pytest.mark.parametrize("newest_first", [False, True])
async def test_order_goes_on_when_the_clock_of_redis_goes_back(client, newest_first):
    worker = await Worker(client, newest_first=newest_first).join()
    await worker.push("a")
    day = 86_400_000 * 1024
    await client.hincrby(KEYS.state, "order", day)
    await worker.push("b", "c")
    await worker.push("d")
    leases = await worker.lease()
    assert names(leases) == (list("dcba") if newest_first else list("abcd"))
    assert len({lease.id for lease in leases}) == 4
    assert all(len(lease.id) == 16 for lease in leases)


async def test_two_workers_never_give_the_same_order_id(client, worker, other):
    for n in range(20):
        for each in (worker, other):
            await each.push(*(f"{n}" for _ in range(5)))
        await client.rpush(SEED_KEYS[0], "a", "b")
        for each in (worker, other):
            assert len(await each.seeds()) == 1
    for each in (worker, other):
        while await each.lease():
            pass
    assert await client.zcard(KEYS.leases) == 20 * 12


@ON_REDIS_ONLY
async def test_claimed_page_is_acknowledged_with_its_claims(client, worker):
    await worker.push("page")
    page = await worker.lease_one()
    await worker.call(worker.frontier.claim([Claim("fp", [page.id])]))
    assert (
        await worker.commit(pages=[Settlement(page.id, end=End.FAILED, reason="why")])
        == DONE
    )
    [letter] = await dead_letters(client)
    assert letter["payload"] == b"page"
    assert await places(client) == {"pending": [], "suspects": [], "leased": []}


@pytest.mark.parametrize("apart", [False, True])
async def test_equal_start_requests_are_filtered_by_their_numbers(client, apart):
    first, second = [await Worker(client).join() for _ in range(2)]
    new = [NewRequest(b"a", 0, "fp-a", n) for n in (1, 2, 3)]
    if apart:
        for each in new[:2]:
            assert (await first.commit([each])).duplicates == []
    else:
        assert (await first.commit(new[:2])).duplicates == []
    assert (await second.commit(new)).duplicates == [0, 1]
    assert (await first.commit(new)).duplicates == [0, 1, 2]
    assert (await second.commit([NewRequest(b"a", 0, "fp-a")])).duplicates == [0]
    assert await client.zcard(KEYS.requests) == 3
    assert await client.smembers(KEYS.dupefilter) == {b"fp-a"}
