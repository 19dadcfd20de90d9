"""Scrapy workers that share one frontier in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrapy_dist.addon import Addon

if TYPE_CHECKING:
    from scrapy_dist.client import AsyncClient, Client
    from scrapy_dist.connection import get_redis, get_redis_from_settings

__all__ = [
    "Addon",
    "AsyncClient",
    "Client",
    "__version__",
    "get_redis",
    "get_redis_from_settings",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported on first use: the embedded Redis' supervisor, a process of this package,
    # would carry Scrapy and redis-py around for nothing.
    if name in ("AsyncClient", "Client"):
        from scrapy_dist import client  # noqa: PLC0415

        return getattr(client, name)
    if name in ("get_redis", "get_redis_from_settings"):
        from scrapy_dist import connection  # noqa: PLC0415

        return getattr(connection, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
