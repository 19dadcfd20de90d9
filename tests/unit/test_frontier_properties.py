"""Random plays against the frontier on a fake Redis."""

from __future__ import annotations

from typing import Any

import fakeredis
from hypothesis import HealthCheck, settings

from tests.support.frontier_machine import FrontierMachine


class FakeRedisMachine(FrontierMachine):
    def make_client(self) -> Any:
        return fakeredis.FakeAsyncRedis()


TestFrontierOnFakeRedis = FakeRedisMachine.TestCase
TestFrontierOnFakeRedis.settings = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
