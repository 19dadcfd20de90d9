"""The format of what is in Redis: who joins which frontier, and who leaves it alone."""

from __future__ import annotations

import pytest

from scrapy_dist.brokers.redis.tools import dead_letters
from scrapy_dist.brokers.redis.tools.check import check
from scrapy_dist.brokers.redis.version import CONVERTED, FORMAT, OLDEST, check_format
from scrapy_dist.core.frontier import JoinOutcome
from scrapy_dist.exceptions import ConfigurationError
from tests.support.frontiers import KEYS, TTL, Worker, contents, names, pass_time


async def of_an_old_version(client, *workers):
    """Make the frontier, and *workers*, look like one of a version without numbers."""
    fields = ["format", *(f"format:{worker.number}" for worker in workers)]
    await client.hdel(KEYS.state, *fields)


async def test_worker_notes_the_format(client):
    await Worker(client).join()
    assert int(await client.hget(KEYS.state, "format")) == FORMAT
    assert (await Worker(client).register()).outcome is JoinOutcome.JOINED


@pytest.mark.parametrize("found", [FORMAT + 1, FORMAT + 100, "none", -1, CONVERTED - 1])
@pytest.mark.parametrize("flush", [False, True])
async def test_format_that_it_does_not_know_is_left_alone(client, found, flush):
    old = await Worker(client).join()
    await old.push("a", "b")
    await old.lease(1)
    await old.leave()
    await client.hset(KEYS.state, "format", found)
    before = await contents(client)
    worker = Worker(client)
    joined = await worker.register(flush=flush)
    assert joined.outcome is JoinOutcome.REFUSED
    assert KEYS.state in joined.refusal
    if type(found) is int:
        assert f"has format {found} " in joined.refusal
        assert ("too old" if found > FORMAT else "too new") in joined.refusal
    assert await contents(client) == before


@pytest.mark.parametrize("found", range(OLDEST, FORMAT))
async def test_crawl_of_a_format_that_it_reads_goes_on_as_it_is(client, found):
    old = await Worker(client).join("old:1")
    await old.push("a", "b")
    await client.hset(
        KEYS.state, mapping=dict.fromkeys(["format", f"format:{old.number}"], found)
    )
    assert (await Worker(client).register()).outcome is JoinOutcome.NOT_NOW
    await old.leave()
    new = await Worker(client).join()
    assert int(await client.hget(KEYS.state, "format")) == FORMAT
    assert names(await new.lease()) == ["a", "b"]
    assert (await old.register()).outcome is JoinOutcome.JOINED


async def test_finished_crawl_of_another_format_is_left_alone(client):
    worker = await Worker(client).join()
    await worker.leave(finished=True, persist=True)
    await client.hset(KEYS.state, "format", FORMAT + 1)
    before = await contents(client)
    assert (await Worker(client).register()).outcome is JoinOutcome.REFUSED
    assert await contents(client) == before


async def test_frontier_without_a_number_is_taken_over_when_nobody_works_on_it(client):
    old = await Worker(client).join("old:1")
    await old.push("a", "b", "c")
    await old.lease(1)
    await of_an_old_version(client, old)
    before = await contents(client)
    new = Worker(client)
    joined = await new.register("new:1")
    assert joined.outcome is JoinOutcome.NOT_NOW
    assert "The worker old:1 is of a version" in joined.refusal
    assert await contents(client) == before
    # It was stopped, or killed: the new one goes on.
    await pass_time(client, TTL + 1)
    assert (await new.register("new:1")).outcome is JoinOutcome.JOINED
    assert int(await client.hget(KEYS.state, "format")) == FORMAT
    await client.hdel(KEYS.state, "grace")
    await new.heartbeat()
    assert await new.reap() == [1, 0, 1]
    assert sorted(names(await new.lease())) == ["a", "b", "c"]


async def test_old_worker_that_joins_later_keeps_new_ones_away(client):
    first, old = await Worker(client).join(), await Worker(client).join("old:1")
    await client.hdel(KEYS.state, f"format:{old.number}")
    assert (await Worker(client).register()).outcome is JoinOutcome.NOT_NOW
    await old.leave()
    assert (await Worker(client).register()).outcome is JoinOutcome.JOINED
    assert (await first.heartbeat()).known


async def test_requests_leased_in_an_older_form_are_left_alone(client):
    """Of a version that kept no order id with them: they would lose 16 bytes."""
    old = await Worker(client).join()
    await old.push("a", "b")
    for lease in await old.lease():
        await client.hset(KEYS.leased, lease.id, b"0 0 - " + lease.payload)
    await pass_time(client, TTL + 1)
    await of_an_old_version(client, old)
    before = await contents(client)
    joined = await Worker(client).register()
    assert joined.outcome is JoinOutcome.REFUSED
    assert "has format 0 " in joined.refusal
    assert await contents(client) == before


async def test_workers_whose_state_was_deleted_by_hand_join_again(client):
    workers = [await Worker(client).join() for _ in range(2)]
    await workers[0].push("a")
    await client.delete(KEYS.state)
    await workers[0].lease()  # writes to it
    for worker in workers:
        assert (await worker.register()).outcome is JoinOutcome.JOINED


async def test_traces_of_a_worker_do_not_stay(client):
    leaving, dying, other = [await Worker(client).join() for _ in range(3)]
    await leaving.leave()
    await dying.dies(other)
    fields = {f for f in await client.hgetall(KEYS.state) if f.startswith(b"format:")}
    assert fields == {f"format:{other.number}".encode()}


async def test_nothing_is_changed_from_outside_in_a_format_that_is_not_known(client):
    worker = await Worker(client).join()
    await client.xadd(KEYS.failed, {"payload": b"{}", "kind": "request"})
    await client.hset(KEYS.state, "format", FORMAT + 1)
    frontier, before = worker.frontier, await contents(client)
    for change in (
        lambda: dead_letters.retry(frontier),
        lambda: dead_letters.forget(frontier),
        lambda: check(frontier, repair=True),
        lambda: check(frontier),
    ):
        with pytest.raises(ConfigurationError, match="too old for it"):
            await change()
    assert await contents(client) == before


@pytest.mark.parametrize("state", [{}, {"active": 1}, {"format": FORMAT}])
async def test_own_and_unnumbered_formats_may_be_changed(client, state):
    if state:
        await client.hset(KEYS.state, mapping=state)
    await check_format(client, KEYS)
