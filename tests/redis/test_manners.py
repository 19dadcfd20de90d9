"""Workers of one crawl are polite together, or none of them is."""

from __future__ import annotations

import pytest

from scrapy_dist.core.frontier import JoinOutcome
from tests.support.frontiers import KEYS, TTL, Worker


def make(client, *, polite, ttl=TTL):
    worker = Worker(client, ttl=ttl)
    worker.frontier.polite = str(worker.frontier.ttl_ms) if polite else ""
    return worker


@pytest.mark.parametrize("polite", [True, False])
async def test_worker_with_another_politeness_is_refused(client, polite):
    first = await make(client, polite=polite).join()
    await first.push("a")
    before = await client.hgetall(KEYS.state)
    found = await make(client, polite=not polite).register()
    assert found.outcome is JoinOutcome.REFUSED
    assert f"FRONTIER_POLITENESS is {not polite}" in found.refusal
    assert f"have {polite}" in found.refusal
    assert await client.hgetall(KEYS.state) == before
    found = await make(client, polite=polite).register()
    assert (found.outcome, found.others) == (JoinOutcome.JOINED, 1)


async def test_polite_workers_have_one_ttl(client):
    await make(client, polite=True).join()
    found = await make(client, polite=True, ttl=TTL + 1).register()
    assert found.outcome is JoinOutcome.REFUSED
    assert f"FRONTIER_WORKER_TTL is {TTL + 1:g}" in found.refusal
    assert f"have {TTL:g}" in found.refusal


async def test_others_may_have_several(client):
    await make(client, polite=False).join()
    found = await make(client, polite=False, ttl=TTL + 1).register()
    assert found.outcome is JoinOutcome.JOINED


async def test_crawl_goes_on_with_the_other_setting_when_nobody_is_there(client):
    first = await make(client, polite=True).join()
    await first.push("a")
    await first.call(
        first.frontier.leave(finished=None, persist=False, reason="shutdown")
    )
    for polite in (False, True):
        worker = make(client, polite=polite)
        found = await worker.register()
        assert (found.outcome, found.pending) == (JoinOutcome.JOINED, 1)
        mark = await client.hget(KEYS.state, "polite")
        assert mark == (str(worker.frontier.ttl_ms).encode() if polite else None)
        await worker.call(
            worker.frontier.leave(finished=None, persist=False, reason="shutdown")
        )


@pytest.mark.parametrize("polite", [True, False])
async def test_workers_whose_state_was_deleted_by_hand_join_again(client, polite):
    workers = [await make(client, polite=polite).join() for _ in range(2)]
    await workers[0].push("a")
    await client.delete(KEYS.state)
    await workers[0].call(workers[0].frontier.heartbeat("busy"))  # writes to it
    for worker in workers:
        assert (await worker.register()).outcome is JoinOutcome.JOINED
    other = await make(client, polite=not polite).register()
    assert other.outcome is JoinOutcome.REFUSED
