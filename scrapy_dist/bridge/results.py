"""Items of tasks that have ended, no more of them than a message takes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from scrapy_dist.bridge.bodies import MOST_BYTES, MOST_ITEMS

if TYPE_CHECKING:
    from scrapy_dist.bridge.redis_side import RedisSide
    from scrapy_dist.core.ports import Tasks
    from scrapy_dist.core.tasks import Task

#: Tasks whose items are read at a time; items of one that are read before their size is known.
_READERS, _FIRST = 8, 4


class Results:
    """Reads them from *port*. An item may be of any size, so few are read at a time."""

    def __init__(self, port: Tasks, redis: RedisSide) -> None:
        self._port = port
        self._redis = redis
        self._room = asyncio.Semaphore(_READERS)

    async def first(self, task: Task) -> list[bytes]:
        """The first items of *task*, `MOST_ITEMS` and `MOST_BYTES` at the most."""
        found: list[bytes] = []
        most, size, step = min(task.items, MOST_ITEMS), 0, _FIRST
        async with self._room:
            while len(found) < most:
                step = min(step, most - len(found))
                read = partial(self._port.results, task, len(found), step)
                some = await self._redis.ask(read)
                for item in some:
                    size += len(item)
                    if size > MOST_BYTES:
                        return found
                    found.append(item)
                if len(some) < step:
                    break
                step = max(1, (MOST_BYTES - size) // max(1, *map(len, some)))
        return found
