"""Stats of this worker in memory, and of all workers in Redis."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from scrapy import signals
from scrapy.statscollectors import MemoryStatsCollector

from scrapy_dist import pusher

if TYPE_CHECKING:
    from scrapy import Spider
    from scrapy.crawler import Crawler


class RedisStatsCollector(MemoryStatsCollector):
    """Scrapy's collector, and cluster-wide numbers in the hash ``S:stats`` (STATS_KEY).

    Reading (``get_value``, ``get_stats``) gives this worker's values, numbers as numbers
    and text as text. In Redis increments of all workers add up, the largest maximum and
    the smallest minimum win, and of other values the last. They travel with the
    exchanges, about once a second.
    """

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        self._changes: dict[tuple[str, str], Any] = {}
        self._pushing = crawler
        crawler.signals.connect(self._open_pusher, signal=signals.spider_opened)

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

    def set_value(self, key: str, value: Any, spider: Spider | None = None) -> None:
        super().set_value(key, value)
        self._changes["set", key] = value

    def set_stats(self, stats: dict[str, Any], spider: Spider | None = None) -> None:
        super().set_stats(stats)
        for key, value in stats.items():
            self._changes["set", key] = value

    def inc_value(
        self,
        key: str,
        count: int = 1,
        start: int = 0,
        spider: Spider | None = None,
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
