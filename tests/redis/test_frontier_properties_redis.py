"""Random plays against the frontier on a real Redis, with requests that stay, too."""

from __future__ import annotations

from typing import Any

import pytest
import redis.asyncio
from hypothesis.stateful import run_state_machine_as_test

from scrapy_dist.brokers.redis.buckets import Shape
from tests.support.frontier_machine import PLAYS, FrontierMachine


@pytest.fixture
def url(redis_server):
    return redis_server.url


@pytest.mark.parametrize("compact", [False, True])
def test_invariants_hold_on_a_real_redis(url, compact, monkeypatch):
    monkeypatch.setattr(Shape, "load", 2)

    class RealRedisMachine(FrontierMachine):
        is_compact = compact

        def make_clients(self) -> tuple[Any, Any]:
            return (
                redis.asyncio.Redis.from_url(url, protocol=2),
                redis.Redis.from_url(url, protocol=2),
            )

    run_state_machine_as_test(RealRedisMachine, settings=PLAYS)
