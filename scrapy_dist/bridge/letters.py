"""Dead letters of the crawl to a queue; they stay in Redis, to be retried or forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.base.waits import sleep_until
from scrapy_dist.bridge.bodies import letter_message
from scrapy_dist.bridge.items import consumer_of

if TYPE_CHECKING:
    import asyncio

    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.bridge.publisher import Publisher
    from scrapy_dist.bridge.redis_side import RedisSide

#: Seconds between two looks, at first and at the most.
_SHORTEST, _LONGEST = 0.1, 1.0


class LetterSender:
    """Sends each dead letter to *queue*, the oldest first, also those that are there."""

    def __init__(
        self, crawl: Crawl, queue: str, publisher: Publisher, redis: RedisSide
    ) -> None:
        self._crawl = crawl
        self._queue = queue
        self._publisher = publisher
        self._redis = redis
        self._reader = crawl.port.letters(consumer_of(queue))

    async def run(self, stopping: asyncio.Event) -> None:
        pause = _SHORTEST
        while not stopping.is_set():
            letters = await self._redis.ask(self._reader.take)
            if not letters:
                pause = min(_LONGEST, pause * 1.5)
                await sleep_until(stopping, pause)
                continue
            pause = _SHORTEST
            name = self._crawl.name
            await self._publisher.deliver(
                [letter_message(self._queue, name, each) for each in letters]
            )
            ids = [letter.id for letter in letters]
            await self._redis.ask(lambda: self._reader.acknowledge(ids))  # noqa: B023
