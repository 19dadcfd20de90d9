"""The broker in memory holds to the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from scrapy.settings import Settings

from scrapy_dist.brokers.memory.crawl import MemoryCrawl
from scrapy_dist.brokers.memory.state import State, wall_clock
from tests.contract.frontier_contract import ITEMS, SEEDS, FrontierContract, Worker
from tests.contract.politeness_contract import PolitenessContract
from tests.contract.tasks_contract import TasksContract
from tests.support.frontiers import in_memory

if TYPE_CHECKING:
    from scrapy_dist.brokers.memory.frontier import MemoryFrontier


class MemoryBroker:
    def __init__(self) -> None:
        self._ahead = 0
        self.state = State(now=lambda: wall_clock() + self._ahead)
        settings = Settings({"REDIS_URL": "memory://"})
        self.tasks = MemoryCrawl(
            self.state, settings, "s", items=ITEMS, seed_keys=(SEEDS,)
        )

    def session(self, **options: Any) -> MemoryFrontier:
        return in_memory(self.state, **options)

    async def push_seeds(self, *seeds: bytes) -> None:
        self.state.push_seeds(SEEDS, seeds)

    async def items(self) -> list[bytes]:
        return list(self.state.items.get(ITEMS, ()))

    async def letters(self) -> list[tuple[bytes, str, int]]:
        letters = self.state.letters.values()
        return [(x.entry.payload, x.reason, x.deliveries) for x in letters]

    async def retry(self) -> None:
        await self.tasks.retry(None, decode=None, seeds_as="list")

    async def clear(self, part: str) -> None:
        await self.tasks.clear([part], force=True)

    async def wishes(self) -> int:
        return len(self.state.seats.wanted)

    async def delete_letters(self) -> None:
        self.state.letters.clear()

    async def pause(self, paused: bool) -> None:
        self.state.is_paused = paused

    async def stop(self, worker: Worker) -> None:
        self.state.workers[worker.session.worker].is_stopped = True  # type: ignore[attr-defined]

    async def roll_back(self) -> None:
        self.state.workers.clear()

    async def pass_time(self, seconds: float) -> None:
        self._ahead += int(seconds * 1000)

    async def stats(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.state.stats.items()}


class TestMemory(FrontierContract, PolitenessContract, TasksContract):
    @pytest.fixture
    def broker(self) -> MemoryBroker:
        return MemoryBroker()
