"""Random plays of a polite crawl, in memory and on a real Redis."""

from __future__ import annotations

import redis.asyncio
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from scrapy_dist.redis_client.client import close_client
from tests.contract.test_memory import MemoryBroker
from tests.contract.test_redis import RedisBroker
from tests.support.frontier_machine import PLAYS
from tests.support.polite_machine import PoliteMachine


class MemoryMachine(PoliteMachine):
    async def make_broker(self):
        return MemoryBroker()


TestPolitenessInMemory = MemoryMachine.TestCase
TestPolitenessInMemory.settings = settings(
    PLAYS, max_examples=60, stateful_step_count=30
)


def test_polite_plays_on_a_real_redis(redis_server):
    class RedisMachine(PoliteMachine):
        async def make_broker(self):
            self.client = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)
            await self.client.flushdb()
            return RedisBroker(self.client)

        def close(self):
            self.run(close_client(self.client))

    run_state_machine_as_test(
        RedisMachine, settings=settings(PLAYS, max_examples=40, stateful_step_count=30)
    )
