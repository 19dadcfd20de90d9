"""The crawls of a Redis, for those who look at them and change them from outside."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from scrapy_dist.brokers.redis import version
from scrapy_dist.brokers.redis.errors import asking, is_wrong_type
from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import Keys, seed_keys
from scrapy_dist.brokers.redis.layout import check_form
from scrapy_dist.brokers.redis.tools import check, clear, dead_letters, takeover
from scrapy_dist.brokers.redis.tools.export import export_lines
from scrapy_dist.brokers.redis.tools.import_ import import_lines
from scrapy_dist.brokers.redis.tools.items import ItemReader
from scrapy_dist.brokers.redis.tools.seeds import SeedPusher
from scrapy_dist.brokers.redis.views import browse, history
from scrapy_dist.brokers.redis.views.dead_letters import count_failed, list_failed
from scrapy_dist.brokers.redis.views.discover import crawl_names
from scrapy_dist.brokers.redis.views.status import read_status
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
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from scrapy import Request, Spider
    from scrapy.settings import BaseSettings
    from typing_extensions import Self

    from scrapy_dist.brokers.redis.scripts import Call
    from scrapy_dist.codec.request import PayloadCodec
    from scrapy_dist.core.crawl import Cleared, Exported, Imported, TakenOver
    from scrapy_dist.core.dead_letters import DeadLetter, Forgotten, Retried
    from scrapy_dist.core.findings import Report
    from scrapy_dist.core.frontier import NewRequest
    from scrapy_dist.core.inspection import Explained, Found, Shown
    from scrapy_dist.core.ports import Fingerprint, Progress
    from scrapy_dist.core.status import Finished, Status
    from scrapy_dist.redis_client.typed import Redis


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


class RedisCrawl:
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
        self._spider = spider
        self._job = job_from_settings(settings)
        self._options = options = Options.from_settings(settings)
        keys = Keys.from_settings(settings, spider)
        self.seed_keys = seed_keys(settings, spider, redis_key)
        self.seal = Seal.from_settings(settings, keys.requests)
        self._client = client
        self._frontier = Frontier(
            client,
            keys,
            ttl=options.worker_ttl,
            max_deliveries=options.max_deliveries,
            failed_limit=options.failed_limit,
            newest_first=options.discipline.newest_first,
            seed_keys=self.seed_keys,
            compact=compact,
            seal=self.seal,
        )
        self.seed_pusher = partial(SeedPusher, client)
        self.items = partial(ItemReader, self._frontier)

    async def _ask(self, call: Call[Any]) -> Any:
        """The reply to *call*, sent by itself. Raises RedisUnavailable, also if refused."""
        await self._frontier.exchange([call])
        with asking(key=f"A key of {self._spider!r}"):
            try:
                return call.reply()
            except ResponseError as e:
                if is_wrong_type(e):
                    raise
                raise RedisUnavailable(f"Redis refuses: {e}") from e

    # Reading

    async def status(self, *, holds: int = 0) -> Status:
        return await read_status(
            self._frontier, self._spider, self._job or None, holds=holds
        )

    async def is_drained(self) -> bool:
        return bool((await self._ask(self._frontier.drained())).is_drained)

    async def history(self) -> list[Finished]:
        return await history.read_history(self._frontier)

    async def sizes(self) -> dict[str, int]:
        keys = self._frontier.keys
        with asking():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.hlen(keys.stats)
                pipeline.xlen(keys.history)
                stats, records = await pipeline.execute()
        return {"stats": stats, "history": records}

    def peek(self, count: int) -> AsyncIterator[list[Shown]]:
        return browse.next_requests(self._frontier, count)

    def find(
        self,
        urls: Iterable[str],
        fingerprint: Fingerprint,
        *,
        exact: bool,
        progress: Progress,
    ) -> AsyncIterator[Found]:
        matcher = browse.Matcher(urls, fingerprint, exact=exact)
        return browse.find(self._frontier, matcher, progress)

    async def explain(
        self,
        urls: Iterable[str],
        fingerprint: Fingerprint,
        *,
        exact: bool,
        progress: Progress,
    ) -> list[Explained]:
        matcher = browse.Matcher(urls, fingerprint, exact=exact)
        return await browse.explain(self._frontier, matcher, progress)

    async def reason_against(self) -> str:
        return await version.reason_against(self._client, self._frontier.keys.state)

    # Changing

    async def pause(self, paused: bool) -> Paused:
        return Paused(*await self._ask(self._frontier.pause(paused)))

    async def stop(self, workers: Sequence[str]) -> int:
        return int(await self._ask(self._frontier.stop(workers)))

    async def clear(self, parts: Sequence[str], *, force: bool = False) -> Cleared:
        return await clear.clear(self._frontier, self._options, parts, force=force)

    async def recrawl(self, requests: Sequence[NewRequest]) -> None:
        await clear.recrawl(self._frontier, self._options, requests)

    # Dead letters

    def failed(self, reason: str = "") -> AsyncIterator[DeadLetter]:
        return list_failed(self._frontier, reason=reason)

    async def count_failed(self) -> int:
        return await count_failed(self._frontier)

    async def retry(
        self,
        ids: Iterable[str] | None,
        reason: str = "",
        *,
        decode: Callable[[bytes], Request] | None,
        seeds_as: str,
    ) -> Retried:
        return await dead_letters.retry(
            self._frontier,
            ids=ids,
            reason=reason,
            decode=decode,
            discipline=self._options.discipline,
            seeds_as=seeds_as,
        )

    async def forget(self, ids: Iterable[str] | None, reason: str = "") -> Forgotten:
        return await dead_letters.forget(self._frontier, ids=ids, reason=reason)

    # The whole

    async def check(
        self, *, repair: bool, decode: Callable[[bytes], object] | None
    ) -> Report:
        return await check.check(
            self._frontier,
            self._options,
            repair=repair,
            decode=decode or (lambda payload: check_form(self.seal.open(payload))),
            seed_keys=self.seed_keys,
            spider=self._spider,
        )

    def export(
        self, exported: Exported, *, items: bool
    ) -> AsyncIterator[list[dict[str, Any]]]:
        name = crawl_name(self._spider, self._job)
        return export_lines(self._frontier, exported, spider=name, items=items)

    def import_lines(
        self, lines: Iterable[bytes], imported: Imported, *, merge: bool
    ) -> AsyncIterator[int]:
        return import_lines(self._frontier, lines, imported, self._options, merge=merge)

    def take_over(
        self,
        prefix: str,
        taken: TakenOver,
        *,
        spider: Spider,
        codec: PayloadCodec,
        fingerprint: Fingerprint | None,
    ) -> AsyncIterator[int]:
        converter = takeover.Converter(spider, codec, fingerprint)
        return takeover.take_over(
            self._frontier, prefix, converter, self._options, taken
        )
