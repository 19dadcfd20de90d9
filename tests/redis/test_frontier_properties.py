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
