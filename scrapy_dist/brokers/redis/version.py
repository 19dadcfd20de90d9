"""The version of what a frontier looks like in Redis, and who may work on which.

It changes with what a worker must be able to read: members of the sorted sets, entries of
``S:leased``, the head of a payload and what may be in one, fingerprints of start requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import RedisError, ResponseError

from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable

if TYPE_CHECKING:
    from scrapy_dist.redis_client.typed import Redis

__all__ = [
    "FORMAT",
    "OLDEST",
    "check_format",
    "mixed",
    "read_format",
    "reason_against",
    "refusal",
]

#: What this version writes, and the oldest that it reads. Versions that wrote no number
#: left 1; still older ones, which it cannot read, count as 0.
FORMAT, OLDEST = 3, 1


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
        value = await client.hget(key, "format")
        exists = value is not None or await client.exists(key)
    except ResponseError as e:
        if "WRONGTYPE" not in str(e):
            raise RedisUnavailable(f"{type(e).__name__}: {e}") from e
        return FORMAT  # no frontier of any version: for others to find
    except (RedisError, OSError) as e:
        raise RedisUnavailable(f"{type(e).__name__}: {e}") from e
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
