"""The fingerprints in Redis, for those who look from outside and bring new ones.

The only module beside ``frontier`` that knows how ``S:dupefilter`` is laid out. Workers do
not use it. Calls raise redis-py's errors.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from scrapy_dist.brokers.redis.buckets import Shape, compact
from scrapy_dist.brokers.redis.layout import batches, pages
from scrapy_dist.core.frontier import BATCH, Claim

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.redis_client.typed import Redis

#: How an exported file calls fingerprints: the whole in hex, or CompactDupeFilter's.
HEX, COMPACT = "hex", "compact"

#: Compact fingerprints that are added in one exchange.
_GROUP = 10 * BATCH
#: Buckets that are deleted in one command.
_SWEEP = 500
#: The form of a compact fingerprint; one in hex has 40 characters.
_COMPACT = re.compile(r"-?\d{1,19}")


async def shape_of(frontier: Frontier) -> Shape | None:
    """The buckets of the fingerprints, or None: they are in one set.

    Where there are none yet, *frontier* was made for the one or the other.
    """
    client, key = frontier.client, frontier.keys.dupefilter
    kind = await client.type(key)
    if kind != b"hash":
        return frontier.shape if kind == b"none" else None
    epoch, buckets, counted = await client.hmget(key, "epoch", "buckets", "count")
    if epoch is None:
        return Shape(key)
    return Shape(key, epoch.decode(), int(buckets or 1), int(counted or 0))


async def _is_set(frontier: Frontier) -> bool:
    """Whether there are fingerprints: a filter of the project's may keep anything there."""
    return await frontier.client.type(frontier.keys.dupefilter) == b"set"


async def kind_of(frontier: Frontier) -> str:
    """How an exported file calls its fingerprints: HEX or COMPACT."""
    return HEX if await shape_of(frontier) is None else COMPACT


def stored_as(fingerprint: str, *, compacted: bool) -> str:
    """*fingerprint*, in hex or compact already, as the frontier stores it."""
    if not compacted or _COMPACT.fullmatch(fingerprint):
        return fingerprint
    return compact(fingerprint)


def started_as(name: str, *, compacted: bool) -> str:
    """As ``stored_as``, of a start request: it may have a number in front."""
    number, space, fingerprint = name.rpartition(" ")
    return number + space + stored_as(fingerprint, compacted=compacted)


async def is_seen(frontier: Frontier, fingerprint: str) -> bool:
    """Whether the frontier filters requests with this fingerprint."""
    key, shape = frontier.keys.dupefilter, await shape_of(frontier)
    if shape is not None:
        fingerprint = stored_as(fingerprint, compacted=True)
        key = shape.place(fingerprint)
    elif not await _is_set(frontier):
        return False
    return bool(await frontier.client.sismember(key, fingerprint))


async def is_start(frontier: Frontier, fingerprint: str) -> bool:
    """Whether it is one of a start request that this crawl has taken."""
    compacted = await shape_of(frontier) is not None
    name = stored_as(fingerprint, compacted=compacted)
    return bool(await frontier.client.sismember(frontier.keys.started, name))


async def count(frontier: Frontier) -> int:
    """How many there are."""
    shape = await shape_of(frontier)
    if shape is not None:
        return shape.count
    shared = frontier.keys.dupefilter
    return await frontier.client.scard(shared) if await _is_set(frontier) else 0


async def add(frontier: Frontier, fingerprints: Sequence[str]) -> None:
    """Let the frontier filter requests with these fingerprints.

    Raises RedisUnavailable, too.
    """
    shape = await shape_of(frontier)
    if shape is None:
        async with frontier.client.pipeline(transaction=False) as pipeline:
            for some in batches(fingerprints):
                pipeline.sadd(frontier.keys.dupefilter, *some)
            await pipeline.execute()
        return
    names = [stored_as(fingerprint, compacted=True) for fingerprint in fingerprints]
    for group in batches(names, _GROUP):
        await _add_compact(frontier, group)


async def _add_compact(frontier: Frontier, names: Sequence[str]) -> None:
    left = [*batches(names)]
    while left:
        frontier.shape = await shape_of(frontier)
        grow = frontier.grow()
        claims = [frontier.claim([Claim(name, ()) for name in some]) for some in left]
        await frontier.exchange(claims if grow is None else [grow, *claims])
        # For other buckets than are there: once more.
        sent = zip(left, claims, strict=True)
        left = [some for some, claim in sent if claim.reply() is None]


async def sweep(frontier: Frontier) -> int:
    """Delete the buckets of cleared crawls, some at a time; how many there were."""
    swept = 0
    client, key = frontier.client, frontier.keys.dupefilter
    if await client.type(key) != b"hash":
        return 0
    for field, value in (await client.hgetall(key)).items():
        name, last = field.decode(), int(value)
        if name.startswith("old:"):
            shape = Shape(key, name.removeprefix("old:"))
            for numbers in batches(range(last), _SWEEP):
                await client.unlink(*map(shape.name, numbers))
            await client.hdel(key, name)
            swept += last
    return swept


async def scan(frontier: Frontier) -> AsyncIterator[list[str]]:
    """All fingerprints, some hundred at a time; one may come twice."""
    if await shape_of(frontier) is None:
        if not await _is_set(frontier):
            return
        async for names in _scan_set(frontier.client, frontier.keys.dupefilter):
            yield names
        return
    number = 0
    while True:
        # A bucket that is split while we read gives to one that comes later.
        shape = await shape_of(frontier)
        if shape is None or number >= shape.buckets or shape.epoch == "-":
            return
        members = await frontier.client.smembers(shape.name(number))
        yield [member.decode() for member in members]
        number += 1


def scan_started(frontier: Frontier) -> AsyncIterator[list[str]]:
    """Those of this crawl's start requests, about BATCH at a time; one may come twice."""
    return _scan_set(frontier.client, frontier.keys.started)


async def _scan_set(client: Redis, key: str) -> AsyncIterator[list[str]]:
    async for found in pages(client.sscan, key):
        yield [name.decode("latin-1") for name in found]
