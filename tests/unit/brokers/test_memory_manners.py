"""Workers of one crawl in memory are polite together, or none of them is."""

from __future__ import annotations

import pytest

from scrapy_dist.brokers.memory.state import State
from scrapy_dist.core.frontier import JoinOutcome
from tests.support.frontiers import TTL, in_memory


async def join(state, **options):
    worker = in_memory(state, **options)
    found = await worker.join("host:1", commit=0, flush=False, persist=True, age=0)
    return worker, found


@pytest.mark.parametrize("polite", [True, False])
async def test_worker_with_another_politeness_is_refused(polite):
    state = State()
    await join(state, is_polite=polite)
    _, found = await join(state, is_polite=not polite)
    assert found.outcome is JoinOutcome.REFUSED
    assert f"FRONTIER_POLITENESS is {not polite}" in found.refusal
    assert len(state.workers) == 1
    _, found = await join(state, is_polite=polite)
    assert (found.outcome, found.others) == (JoinOutcome.JOINED, 1)


@pytest.mark.parametrize("polite", [True, False])
async def test_polite_workers_have_one_ttl_others_may_have_several(polite):
    state = State()
    await join(state, is_polite=polite)
    _, found = await join(state, is_polite=polite, ttl=TTL + 1)
    assert (found.outcome is JoinOutcome.REFUSED) == polite
    assert (f"FRONTIER_WORKER_TTL is {TTL + 1:g}" in found.refusal) == polite


async def test_crawl_goes_on_with_the_other_setting_when_nobody_is_there():
    state = State()
    for polite in (True, False, True):
        worker, found = await join(state, is_polite=polite)
        assert found.outcome is JoinOutcome.JOINED
        await worker.leave(finished=False, persist=True, reason="shutdown")
