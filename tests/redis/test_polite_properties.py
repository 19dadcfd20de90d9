"""Random plays of a polite crawl, in memory and on a real Redis."""

from __future__ import annotations

import redis.asyncio
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from scrapy_dist.redis_client.client import close_client
from tests.contract.test_memory import MemoryBroker
from tests.contract.test_redis import RedisBroker
from tests.support.frontier_machine import PLAYS
from tests.support.frontiers import KEYS, dump, restore
from tests.support.polite_machine import TTL, PoliteMachine

#: Ms after which a worker is dead for sure.
SILENCE = int(TTL * 1000) + 1


class MemoryMachine(PoliteMachine):
    async def make_broker(self):
        return MemoryBroker()

    async def silence(self, number):
        self.broker.state.workers[number].beat -= SILENCE

    async def count_leased(self):
        return len(self.broker.state.leases)


TestPolitenessInMemory = MemoryMachine.TestCase
TestPolitenessInMemory.settings = settings(
    PLAYS, max_examples=60, stateful_step_count=30
)


def test_polite_plays_on_a_real_redis(redis_server):
    class RedisMachine(PoliteMachine):
        can_roll_back = True

        async def make_broker(self):
            self.client = redis.asyncio.Redis.from_url(redis_server.url, protocol=2)
            await self.client.flushdb()
            return RedisBroker(self.client)

        async def silence(self, number):
            await self.client.zincrby(KEYS.workers, -SILENCE, number)

        async def save(self):
            return await dump(self.client)

        async def restore(self, data, passed):
            await restore(self.client, data)
            await self.broker.pass_time(passed)

        async def count_leased(self):
            return await self.client.hlen(KEYS.leased)

        def close(self):
            self.run(close_client(self.client))

    run_state_machine_as_test(
        RedisMachine, settings=settings(PLAYS, max_examples=40, stateful_step_count=30)
    )
