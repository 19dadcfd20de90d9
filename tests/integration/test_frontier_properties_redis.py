"""Random plays against the frontier on a real Redis, fewer than on the fake."""

from __future__ import annotations

from typing import Any

import pytest
import redis.asyncio
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.frontier_machine import FrontierMachine

FEW = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def url(redis_server):
    return redis_server.url


def test_invariants_hold_on_a_real_redis(url):
    class RealRedisMachine(FrontierMachine):
        def make_client(self) -> Any:
            return redis.asyncio.Redis.from_url(url, protocol=2)

    run_state_machine_as_test(RealRedisMachine, settings=FEW)
