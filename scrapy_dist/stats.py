"""Stats of this worker in memory, and of all workers in Redis."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from scrapy import Spider, signals
from scrapy.statscollectors import MemoryStatsCollector, StatsCollector

from scrapy_dist.admin import pusher
from scrapy_dist.base.settings import flag
from scrapy_dist.brokers.redis.keys import fill_template, tagged
from scrapy_dist.connection import from_settings as redis_from_settings
from scrapy_dist.defaults import SCHEDULER_PERSIST, STATS_KEY
from scrapy_dist.utils import convert_bytes_to_str

if TYPE_CHECKING:
    import redis
    from scrapy.crawler import Crawler
    from typing_extensions import Self

__all__ = [
    "SCHEDULER_PERSIST",
    "STATS_KEY",
    "RedisStatsCollector",
    "StatsCollector",
    "convert_bytes_to_str",
    "redis_from_settings",
]


class RedisStatsCollector(MemoryStatsCollector):
    """Scrapy's collector, and cluster-wide numbers in the hash ``S:stats`` (STATS_KEY).

    Reading (``get_value``, ``get_stats``) gives this worker's values, numbers as numbers
    and text as text. In Redis increments of all workers add up, the largest maximum and
    the smallest minimum win, and of other values the last. They travel with the
    exchanges, about once a second.
    """

    _server: redis.Redis | None = None

    def __init__(self, crawler: Crawler, spider: Spider | None = None) -> None:
        super().__init__(crawler)
        settings = crawler.settings
        self.spider = spider
        self.spider_name = getattr(spider or crawler.spidercls, "name", None)
        self.stats_key = settings.get("STATS_KEY") or STATS_KEY
        self.persist = flag(settings, "SCHEDULER_PERSIST")
        self._changes: dict[tuple[str, str], Any] = {}
        self._pushing = crawler
        crawler.signals.connect(self._open_pusher, signal=signals.spider_opened)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    @classmethod
    def from_spider(cls, spider: Spider) -> Self:
        return cls(spider.crawler)

    @property
    def server(self) -> redis.Redis:
        """A synchronous client for your own use; it blocks the event loop while it waits."""
        if self._server is None:
            self._server = redis_from_settings(self._pushing.settings)
        return self._server

    @server.setter
    def server(self, client: redis.Redis) -> None:
        self._server = client

    def _get_key(self, spider: Spider | None = None) -> str:
        """The hash in Redis."""
        spider = spider or self.spider
        name = self.spider_name if spider is None else spider.name
        name = tagged(self._pushing.settings, name or "scrapy")
        return fill_template(self.stats_key, "STATS_KEY", name)

    async def _open_pusher(self) -> None:
        # With the frontier's scheduler there is none: its exchange takes the changes.
        own = pusher.for_crawler(self._pushing)
        if own is not None:
            own.changes = self.take_changes
            await own.open()

    def take_changes(self) -> list[tuple[str, str, str]]:
        """What changed since the last call: (inc, set, max or min; name; value)."""
        changes, self._changes = self._changes, {}
        return [
            (operation, name, _plain(value))
            for (operation, name), value in changes.items()
            if value is not None
        ]

    def open_spider(self, spider: Spider | None = None) -> None:
        self.spider = spider or self._pushing.spider
        super().open_spider(spider)

    def clear_stats(self, spider: Spider | None = None) -> None:
        """Forget all values, also those in Redis; it waits for that."""
        super().clear_stats()
        self._changes.clear()
        self.server.delete(self._get_key(spider))

    def set_value(self, key: str, value: Any, spider: Spider | None = None) -> None:
        super().set_value(key, value)
        self._changes["set", key] = value

    def set_stats(self, stats: dict[str, Any], spider: Spider | None = None) -> None:
        super().set_stats(stats)
        self._changes |= {("set", key): value for key, value in stats.items()}

    def inc_value(
        self, key: str, count: int = 1, start: int = 0, spider: Spider | None = None
    ) -> None:
        super().inc_value(key, count, start)
        changes = self._changes
        changes["inc", key] = changes.get(("inc", key), 0) + count

    def max_value(self, key: str, value: Any, spider: Spider | None = None) -> None:
        super().max_value(key, value)
        self._changes["max", key] = self._stats[key]

    def min_value(self, key: str, value: Any, spider: Spider | None = None) -> None:
        super().min_value(key, value)
        self._changes["min", key] = self._stats[key]


def _plain(value: Any) -> str:
    """*value* as Redis stores it: numbers as digits, times as seconds since 1970."""
    if isinstance(value, datetime):
        return repr(value.timestamp())
    if isinstance(value, bool):
        return str(int(value))
    return value if isinstance(value, str) else str(value)
