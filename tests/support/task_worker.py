"""A worker that does tasks by hand, at the port of any broker."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scrapy.settings import Settings

from scrapy_dist.brokers.memory.broker import MemoryBroker, state_of
from scrapy_dist.brokers.memory.frontier import MemoryFrontier
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.core.frontier import Ask, Commit, End, Lease, NewRequest, Settlement
from scrapy_dist.core.tasks import Begin, Beginning

if TYPE_CHECKING:
    from scrapy_dist.core.frontier_port import Frontier

ITEMS = Keys.from_settings(Settings(), "s").items
SEEDS = "s:start_urls"


def in_memory(url: str) -> TaskWorker:
    """One of the crawl ``s`` at the ``memory://`` *url*."""
    settings = Settings({"REDIS_URL": url})
    crawl = MemoryBroker.of(settings).crawl(settings, "s")
    limits: dict[str, Any] = {"ttl": 60, "max_deliveries": 3, "failed_limit": 100}
    limits |= {"max_payload": 1 << 20, "max_seed": 1 << 20, "seed_keys": [SEEDS]}
    keys = Keys.from_settings(settings, "s")
    return TaskWorker(MemoryFrontier(state_of(settings, "s"), crawl, keys, **limits))


@dataclass
class TaskWorker:
    session: Frontier
    commits: int = field(default=0, init=False)

    async def join(self, name: str = "host:1") -> TaskWorker:
        await self.session.join(name, commit=0, flush=False, persist=False, age=0)
        return self

    async def begin(self) -> Lease:
        """The lease of the next seed, a task that was submitted and has begun."""
        [lease] = (await self.session.exchange(Ask(seeds=1))).seeds
        return await self._begin(lease)

    async def _begin(self, lease: Lease) -> Lease:
        seed = json.loads(lease.payload)
        begin = Begin(lease.id, seed["id"], seed["task"], seed.get("batch", ""))
        answer = await self.session.exchange(Ask(begins=[begin]))
        assert answer.begun == [Beginning.BEGUN]
        return replace(lease, task=seed["task"])

    async def end(
        self, lease: Lease, *items: bytes, reason: str = "", children: int = 0
    ) -> None:
        """Its page is done, or has failed for *reason*."""
        self.commits += 1
        settlement = Settlement(
            lease.id,
            requests=[
                NewRequest(b"child", 0, task=lease.task) for _ in range(children)
            ],
            items=[(ITEMS, item) for item in items],
            end=End.FAILED if reason else End.ACK,
            reason=reason,
            task=lease.task,
        )
        commit = Commit(self.commits, settlements=[settlement])
        await self.session.exchange(Ask(commits=[commit]))

    async def do(self, *items: bytes, reason: str = "") -> None:
        """The next task, from its seed to its end."""
        await self.end(await self.begin(), *items, reason=reason)

    async def do_all(self, *items: bytes) -> None:
        """All seeds that wait, tasks or not."""
        answer = await self.session.exchange(Ask(seeds=100, heartbeat=True))
        for lease in answer.seeds:
            is_task = b'"task"' in lease.payload
            await self.end(await self._begin(lease) if is_task else lease, *items)
