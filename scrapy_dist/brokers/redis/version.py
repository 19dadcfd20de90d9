"""The version of what a frontier looks like in Redis, and who may work on which.

It changes with what a worker must be able to read: members of the sorted sets, entries of
``S:leased``, the head of a payload and what may be in one, fingerprints of start requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.codec.seal import FIELD, differ
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy_dist.codec.seal import Seal
    from scrapy_dist.redis_client.typed import Redis

#: What this version writes, and the oldest that it reads. Versions that wrote no number
#: left 1; still older ones, which it cannot read, count as 0.
FORMAT, OLDEST = 4, 4


def refusal(key: str, found: int) -> str:
    """Why this version does not touch a frontier of format *found*; '' if it does.

    *key* is S:state, which says so.
    """
    if OLDEST <= found <= FORMAT:
        return ""
    if found > FORMAT:
        return (
            f"The frontier in Redis has format {found} ({key}), and this scrapy-dist"
            f" knows formats up to {FORMAT}: it is too old for it. Install the version"
            " that the other workers have."
        )
    return (
        f"The frontier in Redis has format {found} ({key}), and this scrapy-dist reads"
        f" format {OLDEST} or later: it is too new for it. Let workers of the old version"
        " finish that crawl, or delete it: scrapy frontier clear of the old version."
    )


def mixed(worker: str) -> str:
    """Why a worker of this version does not join while *worker*, an old one, works."""
    return (
        f"The worker {worker} is of a version of scrapy-dist that writes another format,"
        " and the two cannot work together. Stop all workers of the old version (one that"
        " was killed counts for half of FRONTIER_WORKER_TTL), then start this one: it goes"
        " on where they stopped."
    )


async def read_format(client: Redis, key: str) -> int:
    """The format of the frontier whose state is *key*; FORMAT if there is none yet.

    Raises RedisUnavailable.
    """
    try:
        with asking():
            value = await client.hget(key, "format")
            exists = value is not None or await client.exists(key)
    except ConfigurationError:
        return FORMAT  # no frontier of any version: for others to find
    if value is None:
        return OLDEST if exists else FORMAT
    return int(value) if value.isdigit() and len(value) < 10 else FORMAT + 1


async def reason_against(client: Redis, key: str) -> str:
    """Why this version must not change the frontier whose state is *key*, or ''."""
    return refusal(key, await read_format(client, key))


async def check_format(client: Redis, key: str) -> None:
    """Raise ConfigurationError if this version must not change that frontier."""
    if reason := await reason_against(client, key):
        raise ConfigurationError(reason)


async def check_seal(
    client: Redis, key: str, seal: Seal, *, writes: bool = False
) -> None:
    """Raise ConfigurationError if the frontier of *key* has another secret than *seal*.

    *writes*: requests are about to come into a frontier that is not there yet.
    """
    try:
        with asking():
            found = await client.hget(key, FIELD)
            if found is None and not await client.exists(key):
                if writes and seal.check:
                    await client.hsetnx(key, FIELD, seal.check)
                return
    except ConfigurationError:
        return  # no frontier: for others to find
    if reason := differ(seal.check, (found or b"").decode("latin-1"), key):
        raise ConfigurationError(reason)
