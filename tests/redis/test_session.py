"""What the session with Redis adds to the calls of scripts."""

from __future__ import annotations

import pytest

from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.session import RedisFrontier
from scrapy_dist.core.frontier import Ask, Claim, Commit, NewRequest, Outcome
from tests.support.frontiers import KEYS, SEED_KEYS, TTL, Worker


@pytest.fixture
def frontier(client):
    return Frontier(
        client, KEYS, ttl=TTL, max_deliveries=3, failed_limit=9, seed_keys=SEED_KEYS
    )


@pytest.fixture
async def session(frontier):
    session = RedisFrontier(frontier, None)
    await session.join("host:1", commit=0, flush=False, persist=False, age=0.0)
    yield session
    await session.close()


async def test_more_leases_than_one_call_takes_come_in_one_round_trip(
    client, session, frontier, monkeypatch
):
    for _ in range(3):
        worker = await Worker(client).join()
        await worker.push(*(str(n) for n in range(100)))
        await worker.leave()
    trips = []
    exchange = frontier.exchange

    async def counted(calls):
        trips.append(calls)
        await exchange(calls)

    monkeypatch.setattr(frontier, "exchange", counted)
    answer = await session.exchange(Ask(leases=250, suspects=8))
    assert len(answer.leases) == 250
    assert answer.left is not None
    assert answer.left.pending == 50
    ids = [lease.id for lease in answer.leases]
    assert await session.held() == frozenset(ids)
    await session.exchange(Ask(releases=ids))
    assert await session.held() == frozenset()
    assert len(trips) == 2


async def test_refused_commit_says_why_and_the_rest_is_done(client, session):
    await client.set(KEYS.items, "a string")
    commits = [
        Commit(1, [NewRequest(b"a", 0.0)], [(KEYS.items, b"i")]),
        Commit(2, [NewRequest(b"b", 0.0)]),
    ]
    answer = await session.exchange(Ask(commits=commits, heartbeat=True))
    refused, behind = answer.commits
    assert refused.outcome is Outcome.REFUSED
    assert "WRONGTYPE" in refused.reason
    assert behind.outcome is Outcome.GAP
    assert answer.heartbeat is not None
    assert answer.heartbeat.commit == 0
    assert answer.refused == ""


async def test_what_else_is_refused_takes_nothing_else_with_it(client, session):
    """Each time: a worker would never hear that its commits are stored."""
    await client.set(KEYS.failed, "a string")
    ask = Ask(
        commits=[Commit(1, [NewRequest(b"a", 0.0)])],
        leases=1,
        count=True,
        stats=[("inc", "n", "1")],
    )
    answer = await session.exchange(ask)
    assert [reply.outcome for reply in answer.commits] == [Outcome.STORED]
    assert [lease.payload for lease in answer.leases] == [b"a"]
    assert answer.counts is None
    assert "WRONGTYPE" in answer.refused
    assert await client.hgetall(KEYS.stats) == {b"n": b"1"}


async def test_other_buckets_are_asked_for_again(client):
    await (await Worker(client, compact=True).join()).commit(
        [NewRequest(b"a", 0.0, str(n)) for n in range(9)]
    )
    frontier = Frontier(
        client, KEYS, ttl=TTL, max_deliveries=3, failed_limit=9, compact=True
    )
    session = RedisFrontier(frontier, None)
    await session.join("host:1", commit=0, flush=False, persist=False, age=0.0)
    ask = Ask(
        commits=[Commit(1, [NewRequest(b"b", 0.0, "77")])], claims=[Claim("78", ())]
    )
    answer = await session.exchange(ask)
    assert [reply.outcome for reply in answer.commits] == [Outcome.AGAIN]
    again = await session.exchange(ask)
    assert [reply.outcome for reply in again.commits] == [Outcome.STORED]
    await session.close()
