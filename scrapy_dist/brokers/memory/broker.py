"""The crawls of this process, for those who look at them and change them from outside."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from scrapy_dist.brokers.memory.crawl import MemoryCrawl
from scrapy_dist.brokers.memory.state import State
from scrapy_dist.brokers.redis.keys import Keys, seed_keys
from scrapy_dist.core.crawl import crawl_name, job_from_settings

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings
    from typing_extensions import Self

#: What REDIS_URL begins with for a frontier in memory. What follows names it: crawls with
#: another name do not see it.
SCHEME = "memory:"

_states: dict[tuple[str, str], State] = {}
_lock = threading.Lock()


def is_in_memory(settings: BaseSettings) -> bool:
    """Whether REDIS_URL asks for a frontier in memory."""
    return str(settings.get("REDIS_URL") or "").startswith(SCHEME)


def state_of(settings: BaseSettings, spider: str) -> State:
    """The crawl of *spider* in this process; it stays until the process ends."""
    name = crawl_name(spider, job_from_settings(settings))
    with _lock:
        return _states.setdefault((str(settings.get("REDIS_URL")), name), State())


class MemoryBroker:
    """`core.ports.Broker`."""

    def __init__(self, url: str) -> None:
        self.where = url

    @classmethod
    def of(cls, settings: BaseSettings) -> Self:
        """The one that REDIS_URL names."""
        return cls(str(settings.get("REDIS_URL")))

    def crawl(
        self,
        settings: BaseSettings,
        spider: str,
        redis_key: object = None,
        *,
        compact: bool = False,
    ) -> MemoryCrawl:
        return MemoryCrawl(
            state_of(settings, spider),
            settings,
            spider,
            items=Keys.from_settings(settings, spider).items,
            seed_keys=seed_keys(settings, spider, redis_key),
        )

    async def names(
        self, settings: BaseSettings, *, finished: bool = False, begun: bool = False
    ) -> list[str]:
        with _lock:
            known = [*_states.items()]
        return sorted(
            name
            for (url, name), state in known
            if url == self.where
            and (state.records or not finished)
            and (state.crawl or not begun)
        )

    async def drop(self) -> None:
        """Close the connections: there are none."""

    async def close(self) -> None:
        """Close the connections: there are none."""
