"""The crawls of a Redis, for those who look at them and change them from outside."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from redis.exceptions import TimeoutError as RedisTimeout

from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import Keys, seed_keys
from scrapy_dist.brokers.redis.tasks import RedisTasks
from scrapy_dist.brokers.redis.tools import clear, dead_letters
from scrapy_dist.brokers.redis.tools.check import check
from scrapy_dist.brokers.redis.tools.export import export_lines
from scrapy_dist.brokers.redis.tools.import_ import import_lines
from scrapy_dist.brokers.redis.tools.items import ItemReader
from scrapy_dist.brokers.redis.tools.letters import LetterReader
from scrapy_dist.brokers.redis.tools.seeds import SeedPusher
from scrapy_dist.brokers.redis.tools.takeover import take_over
from scrapy_dist.brokers.redis.version import reason_against
from scrapy_dist.brokers.redis.views import browse
from scrapy_dist.brokers.redis.views.dead_letters import count_failed, list_failed
from scrapy_dist.brokers.redis.views.discover import crawl_names
from scrapy_dist.brokers.redis.views.hosts import read_hosts
from scrapy_dist.brokers.redis.views.kinds import kinds
from scrapy_dist.brokers.redis.views.status import read_history, read_status
from scrapy_dist.codec.seal import Seal
from scrapy_dist.core.crawl import Paused, crawl_name, job_from_settings
from scrapy_dist.core.settings import Options
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.redis_client.client import (
    close_client,
    describe,
    drop_connections,
    open_client,
)
from scrapy_dist.redis_client.waits import within

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings
    from typing_extensions import Self

    from scrapy_dist.brokers.redis.scripts import Call
    from scrapy_dist.redis_client.typed import Redis

T = TypeVar("T")

#: Milliseconds for which what was refused is known by its letter.
_RECENT_MS = 600_000


class RedisBroker:
    """`core.ports.Broker`."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self.where = describe(client)

    @classmethod
    async def open(
        cls, settings: BaseSettings, spider: str, timeout: float | None
    ) -> Self:
        """Connect, within *timeout* seconds. Raises as `open_client`."""
        # With Redis Cluster any key tells whose server to use.
        key = Keys.from_settings(settings, spider).requests if spider else ""
        try:
            client = await within(timeout, open_client(settings, key))
        except RedisTimeout as e:
            where = describe(settings)
            raise RedisUnavailable(f"Redis cannot be used: {e} ({where}).") from None
        return cls(client)

    def crawl(
        self,
        settings: BaseSettings,
        spider: str,
        redis_key: object = None,
        *,
        compact: bool = False,
    ) -> RedisCrawl:
        return RedisCrawl(self._client, settings, spider, redis_key, compact=compact)

    async def names(
        self, settings: BaseSettings, *, finished: bool = False, begun: bool = False
    ) -> list[str]:
        return await crawl_names(self._client, settings, finished=finished, begun=begun)

    async def drop(self) -> None:
        await drop_connections(self._client)

    async def close(self) -> None:
        await close_client(self._client)


class RedisCrawl(RedisTasks):
    """`core.ports.Crawl`."""

    def __init__(
        self,
        client: Redis,
        settings: BaseSettings,
        spider: str,
        redis_key: object,
        *,
        compact: bool,
    ) -> None:
        job = job_from_settings(settings)
        options = Options.from_settings(settings)
        keys = Keys.from_settings(settings, spider)
        self._spider = spider
        self.seed_keys = seed_keys(settings, spider, redis_key)
        self.seal = Seal.from_settings(settings, keys.requests)
        frontier = Frontier(
            client,
            keys,
            seed_keys=self.seed_keys,
            compact=compact,
            seal=self.seal,
            **options.limits(),
        )
        super().__init__(frontier)
        discipline = options.discipline
        self.status = partial(read_status, frontier, spider, job or None)
        self.history = partial(read_history, frontier)
        self.kinds = partial(kinds, frontier)
        self.peek = partial(browse.next_requests, frontier)
        self.find = partial(browse.find, frontier)
        self.hosts = partial(read_hosts, frontier, options.slots)
        self.explain = partial(browse.explain, frontier)
        self.reason_against = partial(reason_against, client, keys)
        self.clear = partial(clear.clear, frontier)
        self.recrawl = partial(clear.recrawl, frontier)
        self.failed = partial(list_failed, frontier)
        self.count_failed = partial(count_failed, frontier)
        self.retry = partial(
            dead_letters.retry, frontier, discipline=discipline, slots=options.slots
        )
        self.forget = partial(dead_letters.forget, frontier)
        self.seed_pusher = partial(SeedPusher, client)
        self.items = partial(ItemReader, frontier)
        self.letters = partial(LetterReader, frontier)
        self.check = partial(check, frontier, spider=spider)
        self.export = partial(export_lines, frontier, spider=crawl_name(spider, job))
        self.import_lines = partial(import_lines, frontier, slots=options.slots)
        self.take_over = partial(
            take_over, frontier, discipline=discipline, slots=options.slots
        )

    async def _ask(self, call: Call[T]) -> T:
        await self._frontier.exchange([call])
        with asking(spider=self._spider):
            return call.reply()

    async def refuse(
        self, seed: bytes, reason: str, source: str, *, again: bool = False
    ) -> bool:
        call = self._frontier.call(
            "refuse",
            bool,
            seed=seed,
            reason=reason,
            worker_name=f"{socket.gethostname()}:{os.getpid()}",
            source=source,
            again=int(again),
            recent_ms=_RECENT_MS,
        )
        return await self._ask(call)

    async def is_drained(self) -> bool:
        return (await self._ask(self._frontier.drained())).is_drained

    async def sizes(self) -> dict[str, int]:
        keys = self._frontier.keys
        with asking():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.hlen(keys.stats)
                pipeline.xlen(keys.history)
                pipeline.zcard(keys.tasks_ended)
                stats, records, tasks = await pipeline.execute()
        return {"stats": stats, "history": records, "tasks": tasks}

    async def pause(self, paused: bool) -> Paused:
        return Paused(*await self._ask(self._frontier.pause(paused)))

    async def stop(self, workers: Sequence[str]) -> int:
        return await self._ask(self._frontier.stop(workers))
