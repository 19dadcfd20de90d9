"""Settings -> the broker that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.brokers.memory.broker import MemoryBroker, is_in_memory
from scrapy_dist.brokers.redis.broker import RedisBroker

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

    from scrapy_dist.core.ports import Broker

__all__ = ["open_broker"]


async def open_broker(
    settings: BaseSettings, spider: str = "", *, timeout: float | None = None
) -> Broker:
    """The broker that REDIS_URL and the like name, connected, for the crawls of *spider*.

    *timeout*: seconds that connecting may take. Raises ConfigurationError,
    EmbeddedRedisError and RedisUnavailable.
    """
    if is_in_memory(settings):
        return MemoryBroker(str(settings.get("REDIS_URL")))
    return await RedisBroker.open(settings, spider, timeout)
