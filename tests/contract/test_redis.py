"""The session with Redis holds to the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from scrapy import Request

from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.tasks import RedisTasks
from scrapy_dist.brokers.redis.tools.clear import clear
from scrapy_dist.brokers.redis.tools.dead_letters import retry
from tests.contract.frontier_contract import ITEMS, SEEDS, FrontierContract, Worker
from tests.contract.politeness_contract import PolitenessContract
from tests.contract.tasks_contract import TasksContract
from tests.support.frontiers import KEYS, ON_REDIS_ONLY, dead_letters, session

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from scrapy_dist.brokers.redis.session import RedisFrontier


class RedisBroker:
    def __init__(self, client: Redis) -> None:
        self._client = client
        self._outside = Frontier(
            client, KEYS, ttl=60, max_deliveries=3, failed_limit=100, seed_keys=[SEEDS]
        )
        self.tasks = RedisTasks(self._outside)

    def session(self, **options: Any) -> RedisFrontier:
        return session(self._client, **options)

    async def push_seeds(self, *seeds: bytes) -> None:
        await self._client.rpush(SEEDS, *seeds)  # type: ignore[misc]

    async def items(self) -> list[bytes]:
        return await self._client.lrange(ITEMS, 0, -1)  # type: ignore[misc]

    async def letters(self) -> list[tuple[bytes, str, int]]:
        return [
            (x["payload"], x["reason"].decode(), int(x["deliveries"]))
            for x in await dead_letters(self._client)
        ]

    async def retry(self) -> None:
        await retry(self._outside, decode=lambda payload: Request("http://a/"))

    async def clear(self, part: str) -> None:
        await clear(self._outside, [part], force=True)

    async def wishes(self) -> int:
        names = await self._client.hkeys(KEYS.politeness)  # type: ignore[misc]
        names += await self._client.zrange(KEYS.resting, 0, -1)
        return sum(name.startswith(b"wanted:") for name in names)

    async def delete_letters(self) -> None:
        await self._client.delete(KEYS.failed)

    async def _call(self, call: Any) -> None:
        await self._outside.exchange([call])
        call.reply()

    async def pause(self, paused: bool) -> None:
        await self._call(self._outside.pause(paused))

    async def stop(self, worker: Worker) -> None:
        await self._call(self._outside.stop([worker.session.worker]))  # type: ignore[attr-defined]

    async def roll_back(self) -> None:
        await self._client.delete(KEYS.workers)

    async def pass_time(self, seconds: float) -> None:
        await self._client.hincrby(KEYS.state, "slots:shift", int(seconds * 1000))  # type: ignore[misc]

    async def stats(self) -> dict[str, str]:
        found = await self._client.hgetall(KEYS.stats)  # type: ignore[misc]
        return {name.decode(): value.decode() for name, value in found.items()}


@ON_REDIS_ONLY
class TestRedis(FrontierContract, PolitenessContract, TasksContract):
    @pytest.fixture
    def broker(self, client: Redis) -> RedisBroker:
        return RedisBroker(client)
