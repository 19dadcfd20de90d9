"""The fingerprints in Redis, for those who look from outside and bring new ones.

The only module beside ``frontier`` that knows how ``S:dupefilter`` is laid out. Workers do
not use it. Calls raise redis-py's errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from scrapy.dupefilters import RFPDupeFilter as ScrapyDupeFilter
from scrapy.utils.misc import build_from_crawler, load_object
from scrapy.utils.python import to_unicode
from scrapy.utils.request import fingerprint
from w3lib.url import canonicalize_url

from scrapy_dist.brokers.redis.buckets import Shape, compact
from scrapy_dist.brokers.redis.commit import clear
from scrapy_dist.core.frontier import BATCH, Claim
from scrapy_dist.dupefilter import CompactDupeFilter, RFPDupeFilter
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler
    from scrapy.settings import BaseSettings
    from typing_extensions import Self

    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.redis_client.typed import Redis

__all__ = [
    "COMPACT",
    "HEX",
    "ScrapyRedisFingerprinter",
    "add",
    "are_compact",
    "count",
    "default",
    "is_plain",
    "is_seen",
    "is_start",
    "kind_of",
    "of_crawler",
    "scan",
    "scan_started",
    "shape_of",
    "started_as",
    "stored_as",
]

#: How an exported file calls fingerprints: the whole in hex, or CompactDupeFilter's.
HEX, COMPACT = "hex", "compact"

#: Compact fingerprints that are added in one exchange.
_GROUP = 10 * BATCH
#: The form of a compact fingerprint; one in hex has 40 characters.
_COMPACT = re.compile(r"-?\d{1,19}")


def default(request: Request) -> str:
    """Scrapy's fingerprint of *request*, in hex."""
    return fingerprint(request).hex()


def of_crawler(crawler: Crawler) -> tuple[Callable[[Request], str], bool]:
    """How the workers of *crawler* name a request, and whether they filter by that.

    If not, DUPEFILTER_CLASS filters by itself, and only start requests have names.
    ``crawler.request_fingerprinter`` must be set. The choice is that of the scheduler.
    """
    df: Any = build_from_crawler(
        load_object(crawler.settings["DUPEFILTER_CLASS"]), crawler
    )
    fingerprinter: Any = crawler.request_fingerprinter

    def by_fingerprinter(request: Request) -> str:
        found: bytes = fingerprinter.fingerprint(request)
        return found.hex()

    cls = type(df)
    if isinstance(df, CompactDupeFilter):
        names = df.request_fingerprint
        return (lambda request: compact(names(request))), True
    if isinstance(df, RFPDupeFilter):
        return _stored(df.request_fingerprint), True
    if getattr(cls, "request_seen", None) is not ScrapyDupeFilter.request_seen:
        return by_fingerprinter, False
    if cls.request_fingerprint is not ScrapyDupeFilter.request_fingerprint:
        return _stored(df.request_fingerprint), True
    return _stored(by_fingerprinter), True


def _stored(name: Callable[[Request], str]) -> Callable[[Request], str]:
    """Names clear of the marks of ``frontier.Commit``."""

    def stored(request: Request) -> str:
        found = name(request)
        return clear(found)

    return stored


def is_plain(path: str | type) -> bool:
    """Whether the DUPEFILTER_CLASS *path* leaves fingerprints to the fingerprinter."""
    cls = load_object(path)
    plain = (RFPDupeFilter.request_fingerprint, ScrapyDupeFilter.request_fingerprint)
    return getattr(cls, "request_fingerprint", None) in plain


def are_compact(settings: BaseSettings) -> bool:
    """Whether workers keep compact fingerprints; where there are some, those tell.

    Raises ConfigurationError.
    """
    path = settings["DUPEFILTER_CLASS"]
    try:
        filter_class = load_object(path)
    except (ImportError, NameError, TypeError, ValueError) as e:
        raise ConfigurationError(
            f"DUPEFILTER_CLASS = {path!r} cannot be imported: {e}."
        ) from None
    return isinstance(filter_class, type) and issubclass(
        filter_class, CompactDupeFilter
    )


async def shape_of(frontier: Frontier) -> Shape | None:
    """The buckets of the fingerprints, or None: they are in one set.

    Where there are none yet, *frontier* was made for the one or the other.
    """
    client = frontier.client
    key = frontier.keys.dupefilter
    kind = (await client.type(key)).decode()
    if kind != "hash":
        return frontier.shape if kind == "none" else None
    epoch, buckets, counted = await client.hmget(key, "epoch", "buckets", "count")
    if epoch is None:
        return Shape(key)
    return Shape(key, epoch.decode(), int(buckets or 1), int(counted or 0))


async def _is_set(frontier: Frontier) -> bool:
    """Whether there are fingerprints: a filter of the project's may keep anything there."""
    client = frontier.client
    return bool((await client.type(frontier.keys.dupefilter)).decode() == "set")


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
    client = frontier.client
    key, shape = frontier.keys.dupefilter, await shape_of(frontier)
    if shape is not None:
        fingerprint = stored_as(fingerprint, compacted=True)
        key = shape.place(fingerprint)
    elif not await _is_set(frontier):
        return False
    return bool(await client.sismember(key, fingerprint))


async def is_start(frontier: Frontier, fingerprint: str) -> bool:
    """Whether it is one of a start request that this crawl has taken."""
    client = frontier.client
    compacted = await shape_of(frontier) is not None
    name = stored_as(fingerprint, compacted=compacted)
    return bool(await client.sismember(frontier.keys.started, name))


async def count(frontier: Frontier) -> int:
    """How many there are."""
    client = frontier.client
    shape = await shape_of(frontier)
    if shape is not None:
        return shape.count
    shared = frontier.keys.dupefilter
    return await client.scard(shared) if await _is_set(frontier) else 0


async def add(frontier: Frontier, fingerprints: Sequence[str]) -> None:
    """Let the frontier filter requests with these fingerprints.

    Raises RedisUnavailable, too.
    """
    client = frontier.client
    shape = await shape_of(frontier)
    if shape is None:
        async with client.pipeline(transaction=False) as pipeline:
            for at in range(0, len(fingerprints), BATCH):
                some = fingerprints[at : at + BATCH]
                pipeline.sadd(frontier.keys.dupefilter, *some)
            await pipeline.execute()
        return
    names = [stored_as(fingerprint, compacted=True) for fingerprint in fingerprints]
    for at in range(0, len(names), _GROUP):
        await _add_compact(frontier, names[at : at + _GROUP])


async def _add_compact(frontier: Frontier, names: Sequence[str]) -> None:
    left = [names[at : at + BATCH] for at in range(0, len(names), BATCH)]
    while left:
        frontier.shape = await shape_of(frontier)
        grow = frontier.grow()
        claims = [frontier.claim([Claim(name, ()) for name in some]) for some in left]
        await frontier.exchange(claims if grow is None else [grow, *claims])
        # For other buckets than are there: once more.
        left = [
            some
            for some, claim in zip(left, claims, strict=True)
            if claim.reply() is None
        ]


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
        client = frontier.client
        members = await client.smembers(shape.name(number))
        yield [member.decode() for member in members]
        number += 1


def scan_started(frontier: Frontier) -> AsyncIterator[list[str]]:
    """Those of this crawl's start requests, about BATCH at a time; one may come twice."""
    return _scan_set(frontier.client, frontier.keys.started)


async def _scan_set(client: Redis, key: str) -> AsyncIterator[list[str]]:
    cursor = 0
    while True:
        cursor, found = await client.sscan(key, cursor, count=BATCH)
        yield [name.decode("latin-1") for name in found]
        if not int(cursor):
            return


class ScrapyRedisFingerprinter:
    """Gives requests the fingerprints of scrapy-redis 0.8 and later.

    For crawls that were taken over with their fingerprints:
    ``REQUEST_FINGERPRINTER_CLASS = "scrapy_dist.fingerprints.ScrapyRedisFingerprinter"``.
    """

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls()

    def fingerprint(self, request: Request) -> bytes:
        """SHA-1 of the JSON of method, canonical URL and body."""
        data = {
            "method": to_unicode(request.method),
            "url": canonicalize_url(request.url),
            "body": request.body.hex(),
        }
        text = json.dumps(data, sort_keys=True)
        return sha1(text.encode(), usedforsecurity=False).digest()
