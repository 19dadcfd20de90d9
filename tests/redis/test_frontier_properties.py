"""Random plays against the frontier on a fake Redis, and on a real one."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest
import redis.asyncio
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from scrapy_dist.brokers.redis.buckets import Shape
from tests.support.frontier_machine import PLAYS
from tests.support.redis_machine import RedisMachine


class FakeRedisMachine(RedisMachine):
    has_claims = False

    def make_clients(self) -> tuple[Any, Any]:
        server = fakeredis.FakeServer()
        return (
            fakeredis.FakeAsyncRedis(server=server, protocol=2),
            fakeredis.FakeRedis(server=server, protocol=2),
        )


TestFrontierOnFakeRedis = FakeRedisMachine.TestCase
# Fewer: each script takes some ms here.
TestFrontierOnFakeRedis.settings = settings(PLAYS, max_examples=16)


#: Of `redis_goes_back_while_workers_work`: a page is sent under a lease that is lost, and
#: comes again under another one, where it could be crawled ahead of Redis. A find of 2026-11.
SENT_AND_AHEAD: Any = [
    (2, [(0, "lease 3"), (1, "finish"), (1, "spare 2")], []),
    (2, [(1, "spare 2"), (0, "finish")], [(1, "finish"), (1, "exchange")]),
    (0, [(0, "lease 1"), (1, "finish")], [(0, "lease 1"), (0, "lease 1")]),
    (1, [(0, "lease 3")], [(0, "finish"), (0, "lease 3")]),
    (2, [(1, "lease 3")], [(1, "reject"), (1, "spare 2")]),
    (0, [(1, "lease 1"), (1, "reject")], [(0, "spare 2")]),
    (0, [], [(1, "spare 2"), (1, "finish")]),
    (
        1,
        [(0, "lease 1"), (1, "lease 3")],
        [(0, "spare 2"), (1, "reject"), (1, "yield"), (1, "yield")],
    ),
    (
        1,
        [(1, "cut 3")],
        [(1, "lease 1"), (0, "cut 3"), (0, "finish"), (0, "lease 1")],
    ),
    (0, [], [(1, "finish"), (1, "cut 1"), (0, "lease 1")]),
    (0, [(0, "finish")], [(0, "finish"), (0, "finish"), (0, "finish")]),
    (2, [(0, "finish")], []),
]


def test_page_that_was_sent_is_not_crawled_ahead_too():
    play = FakeRedisMachine()
    play.a_crawl_has_begun(actions=["finish"])
    for at, lost, then in SENT_AND_AHEAD:
        play.redis_goes_back_while_workers_work(at=at, lost=lost, then=then)
        play.tasks_count_what_there_is()
        play.the_frontier_is_whole()
    play.teardown()


@pytest.mark.parametrize("compact", [False, True])
def test_invariants_hold_on_a_real_redis(redis_server, compact, monkeypatch):
    monkeypatch.setattr(Shape, "load", 2)
    url = redis_server.url

    class RealRedisMachine(RedisMachine):
        is_compact = compact

        def make_clients(self) -> tuple[Any, Any]:
            return (
                redis.asyncio.Redis.from_url(url, protocol=2),
                redis.Redis.from_url(url, protocol=2),
            )

    run_state_machine_as_test(RealRedisMachine, settings=PLAYS)
