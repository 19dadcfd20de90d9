"""Random plays against the frontier on a fake Redis."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest
from hypothesis import HealthCheck, settings

from tests.support.frontier_machine import FrontierMachine

# A thousand steps: two minutes are too few on a machine that does other things.
pytestmark = pytest.mark.timeout(600)


class FakeRedisMachine(FrontierMachine):
    has_claims = False

    def make_clients(self) -> tuple[Any, Any]:
        server = fakeredis.FakeServer()
        return (
            fakeredis.FakeAsyncRedis(server=server, protocol=2),
            fakeredis.FakeRedis(server=server, protocol=2),
        )


TestFrontierOnFakeRedis = FakeRedisMachine.TestCase
TestFrontierOnFakeRedis.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
