"""Settings -> the broker that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.brokers.redis.broker import RedisBroker
from scrapy_dist.exceptions import ConfigurationError

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
    url = str(settings.get("REDIS_URL") or "")
    if url.startswith("memory:"):
        raise ConfigurationError(
            f"REDIS_URL = {url!r} is a frontier inside the process of its worker: nobody"
            " else sees or changes it. Name a Redis, for example"
            " redis://localhost:6379/0."
        )
    return await RedisBroker.open(settings, spider, timeout)
