"""Random plays against the frontier on a fake Redis."""

from __future__ import annotations

from typing import Any

import fakeredis
from hypothesis import settings

from tests.support.frontier_machine import PLAYS, FrontierMachine


class FakeRedisMachine(FrontierMachine):
    has_claims = False

    def make_clients(self) -> tuple[Any, Any]:
        server = fakeredis.FakeServer()
        return (
            fakeredis.FakeAsyncRedis(server=server, protocol=2),
            fakeredis.FakeRedis(server=server, protocol=2),
        )


TestFrontierOnFakeRedis = FakeRedisMachine.TestCase
# Fewer: each script takes some ms here.
TestFrontierOnFakeRedis.settings = settings(PLAYS, max_examples=25)
