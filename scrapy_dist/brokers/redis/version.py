"""The version of what a frontier looks like in Redis, and who may work on which.

It changes with what a worker must be able to read: members of the sorted sets, entries of
``S:leased``, the head of a payload and what may be in one, fingerprints of start requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import LEASED, is_older_member, parse_older
from scrapy_dist.codec.seal import FIELD, Seal, differ
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.keys import Keys
    from scrapy_dist.redis_client.typed import Redis

#: What this version writes, the oldest that it reads, and the oldest that a worker converts
#: (see upgrade.py). Versions that wrote no number left 1; still older ones, which it cannot
#: read, count as 0.
FORMAT, OLDEST, CONVERTED = 5, 4, 1


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
    if found < CONVERTED:
        return (
            f"The frontier in Redis has format {found} ({key}), and this scrapy-dist reads"
            f" format {CONVERTED} or later: it is too new for it. Let workers of the old"
            " version finish that crawl, or delete it: scrapy frontier clear of the old"
            " version."
        )
    return (
        f"The frontier in Redis has format {found} ({key}), of an older scrapy-dist. Start a"
        " worker of this version: it converts it, and goes on with the crawl. Or export it"
        " with the older version (scrapy frontier export), clear it and import it with this"
        " one."
    )


def mixed(worker: str) -> str:
    """Why a worker of this version does not join while *worker*, an old one, works."""
    return (
        f"The worker {worker} is of a version of scrapy-dist that writes another format,"
        " and the two cannot work together. Stop all workers of the old version (one that"
        " was killed counts for half of FRONTIER_WORKER_TTL), then start this one: it goes"
        " on where they stopped."
    )


async def read_format(client: Redis, keys: Keys) -> int:
    """The format of a frontier; FORMAT if there is none yet, or no request in it.

    Raises RedisUnavailable.
    """
    try:
        with asking():
            found, mark = await client.hmget(keys.state, [b"format", b"upgrade"])
            value = mark.split()[0] if mark else found
            if value is None:
                return CONVERTED if await _is_older(client, keys) else FORMAT
            number = int(value) if value.isdigit() and len(value) < 10 else FORMAT + 1
            if CONVERTED <= number < OLDEST and not await _has_requests(client, keys):
                return FORMAT
    except ConfigurationError:
        return FORMAT  # no frontier of any version: for others to find
    return number


async def _has_requests(client: Redis, keys: Keys) -> bool:
    async with client.pipeline(transaction=False) as pipeline:
        pipeline.zcard(keys.requests)
        pipeline.zcard(keys.suspects)
        pipeline.hlen(keys.leased)
        return any(await pipeline.execute())


async def _is_older(client: Redis, keys: Keys) -> bool:
    """Whether some requests have the form of an older version."""
    async with client.pipeline(transaction=False) as pipeline:
        pipeline.zrange(keys.requests, 0, 9)
        pipeline.zrange(keys.suspects, 0, 9)
        pipeline.zrange(keys.leases, 0, 9)
        *found, ids = await pipeline.execute()
    entries = await client.hmget(keys.leased, ids) if ids else []
    return any(
        is_older_member(member) for members in found for member in members
    ) or any(
        entry and parse_older(LEASED, id_, entry)
        for id_, entry in zip(ids, entries, strict=True)
    )


async def reason_against(client: Redis, keys: Keys, *, older: bool = False) -> str:
    """Why this version must not change a frontier, or ''.

    *older*: an older format is none, for a worker converts it, and who deletes it needs
    not read it.
    """
    found = await read_format(client, keys)
    if older and CONVERTED <= found < OLDEST:
        return ""
    return refusal(keys.state, found)


async def check_format(client: Redis, keys: Keys, *, older: bool = False) -> None:
    """Raise ConfigurationError if there is a `reason_against`."""
    if reason := await reason_against(client, keys, older=older):
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
