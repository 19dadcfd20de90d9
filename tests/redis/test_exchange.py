"""Exchanges without Scrapy, against a real Redis."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest
import redis.asyncio
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.brokers.redis.session import RedisFrontier
from scrapy_dist.core.frontier import Deaths, End, LeaveOutcome, NewRequest, Settlement
from scrapy_dist.redis_client.client import close_client
from scrapy_dist.worker.exchange import Exchange
from scrapy_dist.worker.outbox import Outbox
from scrapy_dist.worker.view import View


@pytest.fixture
async def frontier(redis_server):
    client = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)
    await client.script_flush()  # the light clients of benchmarks leave some
    keys = Keys.from_settings(Settings(), "s")
    yield Frontier(client, keys, ttl=60, max_deliveries=3, failed_limit=100)
    await close_client(client)


@pytest.fixture
async def exchange(frontier):
    queues = MagicMock(outbox=Outbox(), view=View())
    queues.held.return_value = set()
    queues.pinned.is_busy = False
    queues.pinned.take_claims.return_value = []
    queues.is_empty.return_value = False
    queues.lead_time.return_value = 0.0
    queues.suspects_wanted.return_value = 8
    await call(frontier, frontier.register("host:1", commit=0))
    return Exchange(
        RedisFrontier(frontier, None),
        queues,
        MagicMock(),
        name="host:1",
        failed_key=frontier.keys.failed,
        concurrency=16,
        flush=0.03,
        ttl=60,
    )


async def call(frontier, call):
    await frontier.exchange([call])
    return call.reply()


async def test_worker_gives_back_leases_whose_reply_was_lost_before_it_goes(
    frontier, exchange
):
    exchange.outbox.add_request(NewRequest(b"x", 0), MagicMock())
    await exchange.run_once(take=False)
    lost = await call(frontier, frontier.lease(5, suspects=0))
    assert len(lost.leases) == 1

    assert await exchange.finish(5)
    keys = frontier.keys
    assert await frontier.client.zcard(keys.leases) == 0
    assert await frontier.client.zcard(keys.requests) == 1
    await call(frontier, frontier.leave(finished=False))
    assert await frontier.client.zcard(keys.workers) == 0


async def test_worker_that_leaves_with_leases_all_the_same_counts_as_dead(
    frontier, exchange
):
    exchange.outbox.add_request(NewRequest(b"x", 0), MagicMock())
    await exchange.run_once(take=False)
    await call(frontier, frontier.lease(5, suspects=0))
    assert (await call(frontier, frontier.leave(finished=True)))[0] == LeaveOutcome.LEFT

    other = Frontier(
        frontier.client, frontier.keys, ttl=60, max_deliveries=3, failed_limit=100
    )
    await call(other, other.register("host:2", commit=0))
    await frontier.client.hdel(frontier.keys.state, "grace")
    assert await call(other, other.reap()) == Deaths(1, 0, 1)
    [suspect] = (await call(other, other.lease(5, suspects=8))).leases
    assert (suspect.payload, suspect.suspect) == (b"x", True)


async def test_worker_waits_longer_for_its_exchange_while_there_is_enough_for_all(
    frontier, exchange
):
    queues = exchange._queues
    queues.wanted.return_value, queues.seeds_wanted.return_value = 1, 0
    queues.accept.return_value = True
    for count, pause in ((16, 0.03), (40, 0.06)):
        for _ in range(count):
            exchange.outbox.add_request(NewRequest(b"x%d" % count, 0), MagicMock())
        await exchange.run_once()
        assert exchange.view.pause == pause


async def test_worker_is_told_once_that_redis_has_answered(exchange):
    """However many calls that took, of which one holds 100 leases at the most."""
    queues = exchange._queues
    queues.seeds_wanted.return_value = 0
    for want, answers in ((0, 0), (250, 1)):
        queues.wanted.return_value = want
        await exchange.run_once()
        assert queues.answered.call_count == answers


async def test_seeds_that_wait_are_work_for_the_others_too(exchange):
    exchange._queues.wanted.return_value = (
        exchange._queues.seeds_wanted.return_value
    ) = 0
    for seeds, pause in ((31, 0.03), (32, 0.06)):
        exchange.view.seeds_left = seeds
        await exchange.run_once()
        assert exchange.view.pause == pause


async def test_what_was_stored_beside_a_strange_lease_is_not_sent_again(
    frontier, exchange
):
    """Two commits in one exchange; the first names a lease that Redis does not hold."""
    exchange._queues.rolled_back.return_value = []
    exchange._queues.wanted.return_value = (
        exchange._queues.seeds_wanted.return_value
    ) = 0
    exchange.outbox.add_settlement(Settlement("0" * 16, end=End.OPEN))
    for n in range(150):
        exchange.outbox.add_request(NewRequest(b"x%d" % n, 0), MagicMock())

    for _ in range(3):
        await exchange.run_once()

    assert exchange._queues.rolled_back.call_count == 1
    assert len(exchange.outbox) == 0
    assert await frontier.client.zcard(frontier.keys.requests) == 150


async def test_stall_of_redis_is_no_round_trip(exchange):
    """What a worker asks for follows the round trip: a stall must not multiply it."""
    exchange._took(0.01)
    exchange.exchanges = 1
    exchange._took(42.0)
    assert exchange.view.round_trip < 0.02
    for _ in range(100):
        exchange._took(0.3)  # a distance that has grown is believed
    assert exchange.view.round_trip == pytest.approx(0.3, rel=0.1)
    for _ in range(100):
        exchange._took(42.0)
    assert exchange.view.round_trip <= 1.0
