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
from scrapy_dist.brokers.redis.types import check_types
from scrapy_dist.brokers.redis.version import check_format
from scrapy_dist.codec.seal import Seal
from scrapy_dist.redis_client.client import close_client, open_client

if TYPE_CHECKING:
    from scrapy import Spider
    from scrapy.settings import BaseSettings

    from scrapy_dist.core import frontier_port, ports
    from scrapy_dist.core.settings import Options


async def open_broker(
    settings: BaseSettings, spider: str = "", *, timeout: float | None = None
) -> ports.Broker:
    """The broker that REDIS_URL and the like name, connected, for the crawls of *spider*.

    *timeout*: seconds that connecting may take. Raises ConfigurationError,
    EmbeddedRedisError and RedisUnavailable.
    """
    if is_in_memory(settings):
        return MemoryBroker.of(settings)
    return await RedisBroker.open(settings, spider, timeout)


async def open_session(
    spider: Spider,
    options: Options,
    *,
    compact: bool,
    filters_itself: bool,
    process: tuple[str, str] | None,
) -> frontier_port.Frontier:
    """A worker's session with the broker that the settings of *spider* name.

    *compact*: fingerprints are compact ones. *filters_itself*: the project's filter keeps
    what it has seen, maybe under the key of the fingerprints. *process*: machine and
    process of this worker, which a frontier in memory has no use for. Raises as
    `open_broker`.
    """
    settings = spider.settings
    keys = Keys.from_settings(settings, spider.name)
    seed_keys = getattr(spider, "seed_keys", ())
    if is_in_memory(settings):
        return MemoryFrontier(
            state_of(settings, spider.name),
            crawl=MemoryBroker.of(settings).crawl(settings, spider.name, seed_keys),
            keys=keys,
            seed_keys=seed_keys,
            is_polite=options.is_polite,
            **options.limits(),
        )
    if filters_itself:
        # Its own key may be the setting's, and anything but a set.
        keys = replace(keys, dupefilter=keys.started)
    frontier = await open_frontier(
        settings, keys, options, seed_keys=seed_keys, compact=compact
    )
    if options.is_polite:
        frontier.polite = str(frontier.ttl_ms)
    try:
        await check_types(frontier)
        if process is not None:
            # What tells of it comes before this worker joins.
            await check_format(frontier.client, keys, older=True)
    except BaseException:
        await close_client(frontier.client)
        raise
    return RedisFrontier(frontier, spider, process=process, slots=options.slots)


async def open_frontier(
    settings: BaseSettings, keys: Keys, options: Options, **more: Any
) -> Frontier:
    """The frontier of *keys* in Redis, connected. Raises as `open_broker`."""
    seal = Seal.from_settings(settings, keys.requests)
    client = await open_client(settings, keys.requests)
    return Frontier(client, keys, seal=seal, **options.limits(), **more)
