"""Settings -> the broker that they name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scrapy_dist.brokers.memory.broker import MemoryBroker, is_in_memory, state_of
from scrapy_dist.brokers.memory.frontier import MemoryFrontier
from scrapy_dist.brokers.redis.broker import RedisBroker
from scrapy_dist.brokers.redis.frontier import Frontier
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.brokers.redis.session import RedisFrontier
from scrapy_dist.brokers.redis.version import check_format
from scrapy_dist.codec.seal import Seal
from scrapy_dist.redis_client.client import close_client, open_client

if TYPE_CHECKING:
    from scrapy import Spider
    from scrapy.settings import BaseSettings

    from scrapy_dist.core import ports
    from scrapy_dist.core.settings import Options


async def open_broker(
    settings: BaseSettings, spider: str = "", *, timeout: float | None = None
) -> ports.Broker:
    """The broker that REDIS_URL and the like name, connected, for the crawls of *spider*.

    *timeout*: seconds that connecting may take. Raises ConfigurationError,
    EmbeddedRedisError and RedisUnavailable.
    """
    if is_in_memory(settings):
        return MemoryBroker(str(settings.get("REDIS_URL")))
    return await RedisBroker.open(settings, spider, timeout)


async def open_session(
    spider: Spider,
    options: Options,
    *,
    compact: bool,
    filters_itself: bool,
    process: tuple[str, str] | None,
) -> ports.Frontier:
    """A worker's session with the broker that the settings of *spider* name.

    *compact*: fingerprints are compact ones. *filters_itself*: the project's filter keeps
    what it has seen, maybe under the key of the fingerprints. *process*: machine and
    process of this worker, which a frontier in memory has no use for. Raises as
    `open_broker`.
    """
    settings = spider.settings
    limits: dict[str, Any] = {
        "ttl": options.worker_ttl,
        "max_deliveries": options.max_deliveries,
        "failed_limit": options.failed_limit,
        "newest_first": options.discipline.newest_first,
        "seed_keys": getattr(spider, "seed_keys", ()),
        "max_payload": options.max_payload,
        "max_seed": options.max_seed,
    }
    keys = Keys.from_settings(settings, spider.name)
    if is_in_memory(settings):
        return _in_memory(spider, keys, **limits)
    if filters_itself:
        # Its own key may be the setting's, and anything but a set.
        keys = replace(keys, dupefilter=keys.started)
    frontier = await _open_frontier(settings, keys, compact=compact, **limits)
    if process is not None:
        # What tells of it comes before this worker joins.
        try:
            await check_format(frontier.client, keys.state)
        except BaseException:
            await close_client(frontier.client)
            raise
    return RedisFrontier(
        frontier,
        spider,
        ttl=options.worker_ttl,
        max_payload=options.max_payload,
        process=process,
    )


def _in_memory(spider: Spider, keys: Keys, **limits: Any) -> MemoryFrontier:
    where = str(spider.settings.get("REDIS_URL"))
    crawl = MemoryBroker(where).crawl(spider.settings, spider.name, limits["seed_keys"])
    return MemoryFrontier(
        state_of(spider.settings, spider.name),
        where=where,
        key=keys.requests,
        failed_key=keys.failed,
        crawl=crawl,
        **limits,
    )


async def _open_frontier(settings: BaseSettings, keys: Keys, **limits: Any) -> Frontier:
    """Connected, with keys of the right types."""
    client = await open_client(settings, keys.requests)
    try:
        seal = Seal.from_settings(settings, keys.requests)
        frontier = Frontier(client, keys, seal=seal, **limits)
        await frontier.check_types()
    except BaseException:
        await close_client(client)
        raise
    return frontier
