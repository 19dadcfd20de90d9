"""An exchange: one round trip, calls in their order, scripts that Redis has lost."""

from __future__ import annotations

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from scrapy_dist.brokers.redis import scripts
from scrapy_dist.brokers.redis.types import check_types
from scrapy_dist.core.frontier import Commit, NewRequest, Outcome, Settlement
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.redis_client.client import close_client
from tests.support.frontiers import (
    KEYS,
    Worker,
    contents,
    dump,
    names,
    places,
    restore,
    session,
)
from tests.support.light_worker import LightWorker, Yield
from tests.support.redis_server import free_port


async def load(client, *names):
    for name in names:
        await client.script_load(scripts.load(name).source)


async def test_calls_are_carried_out_in_their_order(client):
    worker = await Worker(client).join()
    await worker.push("a")
    a = await worker.lease_one()
    frontier = worker.frontier
    commit = Commit(
        worker.commits + 1, [NewRequest(b"b", 0.0)], settlements=[Settlement(a.id)]
    )
    calls = [
        frontier.drained(),
        frontier.commit(commit),
        frontier.heartbeat(),
        frontier.lease(5, suspects=8),
        frontier.drained(),
    ]
    await frontier.exchange(calls)
    before, _, beat, lease, after = (call.reply() for call in calls)
    assert (before.pending, before.leased) == (0, 1)
    assert (beat.commit, beat.held) == (commit.number, 0)
    assert names(lease.leases) == ["b"]
    assert (after.pending, after.leased) == (0, 1)


async def test_exchange_of_no_calls_is_nothing(client):
    worker = await Worker(client).join()
    before = await contents(client)
    await worker.frontier.exchange([])
    assert await contents(client) == before


async def test_worker_numbers_fit_in_a_score(client):
    numbers = {int(Worker(client).number) for _ in range(1000)}
    assert len(numbers) == 1000
    assert all(0 < number < 2**52 for number in numbers)


async def test_workers_are_told_apart_by_every_bit_of_their_numbers(client):
    low, high = Worker(client), Worker(client)
    low.number = low.frontier.worker = str(2**52 - 2)
    high.number = high.frontier.worker = str(2**52 - 1)
    await low.join()
    await high.join()
    await low.push("a", "b")
    mine, theirs = await low.lease_one(), await high.lease_one()
    assert await low.frontier.leases_held() == [mine.id]
    assert await low.release(theirs) == 0
    assert (await low.ack(theirs)).not_owned == 1
    assert (await low.heartbeat()).held == 1
    assert (await low.dies(high)) == [1, 0, 1]
    assert await high.frontier.leases_held() == [theirs.id]


# Scripts


async def test_new_redis_is_given_the_scripts(client):
    worker = Worker(client)
    await worker.join()
    assert (await worker.heartbeat()).known


async def test_redis_that_lost_its_scripts_is_given_them_again(client):
    worker = await Worker(client).join()
    await worker.push("a")
    await client.script_flush()
    assert names(await worker.lease()) == ["a"]
    await client.script_flush()
    frontier = worker.frontier
    calls = [frontier.heartbeat(), frontier.lease(5, suspects=8), frontier.drained()]
    await frontier.exchange(calls)
    assert [call.reply() is not None for call in calls] == [True] * 3


async def test_scripts_lost_between_two_calls_of_an_exchange(client):
    """What came first was carried out; nobody knows it, so all is sent again."""
    worker = await Worker(client).join()
    await worker.push("a")
    [a] = await worker.lease()
    await client.script_flush()
    await load(client, "commit", "lease")
    frontier = worker.frontier
    number = worker.commits + 1
    commit = Commit(
        number, [NewRequest(b"b", 0.0, "fp")], settlements=[Settlement(a.id)]
    )

    def calls():
        return [frontier.commit(commit), frontier.heartbeat(), frontier.drained()]

    with pytest.raises(RedisUnavailable, match="lost its scripts"):
        await frontier.exchange(calls())
    once_more = calls()
    await frontier.exchange(once_more)
    assert once_more[0].reply().outcome is Outcome.REPEATED
    assert once_more[1].reply().commit == number
    assert await places(client) == {"pending": ["b"], "suspects": [], "leased": []}


async def test_no_call_overtakes_one_that_redis_did_not_know(client):
    """A lease that is carried out before its commit would still be counted by beats."""
    worker = await Worker(client).join()
    await worker.push("a")
    await client.script_flush()
    await load(client, "lease")
    frontier = worker.frontier
    commit = Commit(worker.commits + 1, [NewRequest(b"b", 0.0)])
    with pytest.raises(RedisUnavailable, match="lost its scripts"):
        await frontier.exchange(
            [frontier.commit(commit), frontier.lease(1, suspects=8)]
        )
    [lost] = await frontier.leases_held()
    assert (await worker.heartbeat()).held == 1
    assert await worker.call(frontier.release([lost])) == 1


async def test_redis_that_forgets_scripts_at_once_is_not_there(client, monkeypatch):
    worker = Worker(client)
    await client.script_flush()

    async def load_nothing():
        pass

    monkeypatch.setattr(worker.frontier, "_load", load_nothing)
    with pytest.raises(RedisUnavailable, match="lost its scripts again"):
        await worker.join()


# Redis away


async def test_redis_that_is_not_there_is_one_kind_of_error():
    no_retry = Retry(NoBackoff(), 0)
    client = redis.asyncio.Redis(port=free_port(), protocol=2, retry=no_retry)
    frontier = Worker(client).frontier
    for attempt in (
        check_types(frontier),
        frontier.leases_held(),
        frontier.exchange([frontier.heartbeat()]),
    ):
        with pytest.raises(RedisUnavailable, match=r"\w+Error: "):
            await attempt
    await close_client(client)


async def crawl_the_rest(worker):
    for _ in range(9):
        await worker.exchange(want=5)
        for task in [*worker.open]:
            worker.finish(task)
        while task := worker.take():
            worker.finish(task)
    assert worker.is_idle


async def begin_a_page_of_parts(client, crawled):
    """A worker with that page pending; it notes in *crawled* what it crawls."""

    def site(name):
        crawled.append(name)
        return Yield(unfiltered=("child",), in_parts=True) if name == "p" else Yield()

    worker = LightWorker(session(client), site, items=KEYS.items)
    await worker.join("host:1")
    worker.start("p")
    await worker.exchange()
    return worker


async def test_part_that_came_while_its_lease_was_away_is_sent_again(client):
    """Redis goes back behind the lease; the reply of the part's commit was lost."""
    crawled = []
    worker = await begin_a_page_of_parts(client, crawled)
    before = await dump(client)
    await worker.exchange(want=1)
    worker.go_on(worker.take())
    worker.cut_after(1)
    with pytest.raises(RedisUnavailable):
        await worker.exchange()
    await restore(client, before)
    await crawl_the_rest(worker)
    assert "child" in crawled


@pytest.mark.parametrize("cuts", [(3,), (3, 1), (3, 2)])
async def test_part_that_was_refused_is_sent_again_though_nobody_heard_of_it(
    client, cuts
):
    """Redis goes back behind the lease; then a reply is lost: that of the part's commit,
    and of a lease of the same page to the same worker."""
    crawled = []
    worker = await begin_a_page_of_parts(client, crawled)
    before = await dump(client)
    await worker.exchange(want=1)
    await restore(client, before)
    worker.go_on(worker.take())
    for calls in cuts:
        worker.cut_after(calls)
        with pytest.raises(RedisUnavailable):
            await worker.exchange(want=1)
    assert await client.zcard(KEYS.leases) == 1
    await crawl_the_rest(worker)
    assert "child" in crawled
