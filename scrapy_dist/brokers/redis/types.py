"""The types of a frontier's keys, and what is said of a key of another type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.keys import SETTINGS
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier

#: Types of keys that workers take seeds from.
OF_SEEDS = ("list", "set", "zset")


async def types_of(frontier: Frontier) -> dict[str, str]:
    """The type of each key of *frontier*, seeds included; ``none``: it is not there.

    Raises redis-py's errors.
    """
    names = [*vars(frontier.keys).values(), *frontier.seed_keys]
    async with frontier.client.pipeline(transaction=False) as pipeline:
        for key in names:
            pipeline.type(key)
        found = await pipeline.execute()
    return {key: kind.decode() for key, kind in zip(names, found, strict=True)}


async def check_types(frontier: Frontier) -> None:
    """Raise ConfigurationError if a key holds another type than the frontier's."""
    with asking():
        types = await types_of(frontier)
    _check_fingerprints(frontier, types[frontier.keys.dupefilter])
    for name, setting, needed in SETTINGS:
        key = getattr(frontier.keys, name)
        if name != "dupefilter" and types[key] not in ("none", needed):
            raise _misused(key, types[key], needed, setting)
    for key in frontier.seed_keys:
        check_seeds(key, types[key])


def check_seeds(key: str, kind: str) -> None:
    """Raise ConfigurationError if *key* is of a *kind* from which no seeds are read."""
    if kind not in ("none", *OF_SEEDS):
        raise ConfigurationError(
            f"The key {key!r} in Redis is a {kind}; seeds are read from a list, a set or"
            " a sorted set. Delete or rename the key, or name another one in redis_key"
            " or REDIS_START_URLS_KEY."
        )


def _check_fingerprints(frontier: Frontier, kind: str) -> None:
    key, compact = frontier.keys.dupefilter, frontier.shape is not None
    if kind in ("none", "hash" if compact else "set"):
        return
    if kind not in ("hash", "set"):
        raise _misused(key, kind, "set", "SCHEDULER_DUPEFILTER_KEY")
    other = "CompactDupeFilter" if kind == "hash" else "RFPDupeFilter"
    raise ConfigurationError(
        f"The key {key!r} in Redis holds fingerprints of {other}. Set DUPEFILTER_CLASS"
        f' to "scrapy_dist.dupefilter.{other}" to go on with that crawl, or clear it:'
        " scrapy frontier clear."
    )


def _misused(key: str, kind: str, needed: str, setting: str) -> ConfigurationError:
    return ConfigurationError(
        f"The key {key!r} in Redis is a {kind}; the frontier needs a {needed}. Something"
        f" else uses this name: delete or rename the key, or set {setting} to another"
        " one."
    )
