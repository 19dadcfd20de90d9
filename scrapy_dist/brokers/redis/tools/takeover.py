"""Taking over the frontier of a scrapy-redis crawl, in the same Redis.

Its requests are pickles: reading one runs code of whoever can write to that Redis.
"""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy.utils.request import request_from_dict

from scrapy_dist.base import words
from scrapy_dist.base.escaping import quote
from scrapy_dist.brokers.redis import fingerprints
from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import REQUESTS, encode_score, pages, parse
from scrapy_dist.brokers.redis.version import check_seal
from scrapy_dist.core.frontier import BATCH
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy import Spider

    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.codec.request import PayloadCodec
    from scrapy_dist.core.crawl import TakenOver
    from scrapy_dist.core.ports import Fingerprint
    from scrapy_dist.core.slots import Slots
    from scrapy_dist.queue import Base
    from scrapy_dist.redis_client.typed import Redis

#: What a list that had the name of our requests is called while it is taken over.
_ASIDE = ":scrapy_redis"
#: Bytes of converted requests after which a call is full.
_CALL_BYTES = 500_000


async def take_over(
    frontier: Frontier,
    prefix: str,
    taken: TakenOver,
    *,
    spider: Spider,
    codec: PayloadCodec,
    fingerprint: Fingerprint | None,
    discipline: type[Base],
    slots: Slots,
) -> AsyncIterator[int]:
    """Take over, see `ports.Crawl.take_over`.

    Each request is stored before it is removed, in one script; after an interruption the
    rest may be taken over by another call. The fingerprints are scrapy-redis' own: see
    ``ScrapyRedisFingerprinter``. Raises ConfigurationError for keys that scrapy-redis does
    not make, and RedisUnavailable.
    """
    await check_seal(frontier.client, frontier.keys.state, frontier.seal, writes=True)
    move = _Move(frontier, taken, spider, codec, fingerprint, discipline, slots)
    with asking("what was moved by then is complete, the rest is where it was"):
        # Their fingerprints first: what is found now is pending, or was crawled.
        await move.fingerprints(f"{prefix}:dupefilter")
        async for _ in move.requests(f"{prefix}:requests"):
            yield taken.requests
        await move.seeds(f"{prefix}:start_urls")


@dataclass(frozen=True)
class _Move:
    _frontier: Frontier
    _taken: TakenOver
    _spider: Spider
    _codec: PayloadCodec
    _fingerprint: Fingerprint | None
    _discipline: type[Base]
    _slots: Slots

    @property
    def _client(self) -> Redis:
        return self._frontier.client

    def _convert(self, data: bytes) -> tuple[str, bytes, int, bytes]:
        """Fingerprint, score as in a rank, slot and payload. Unpickles! Raises ValueError."""
        try:
            fields = pickle.loads(data)  # noqa: S301 - the caller was asked for it
            request = request_from_dict(fields, spider=self._spider)
        except Exception as e:
            raise ValueError(f"it cannot be read: {quote(str(e), 200)}") from e
        payload = self._codec.encode(request)
        name = ""
        if self._fingerprint is not None and not request.dont_filter:
            name = self._fingerprint(request)
        score = encode_score(self._discipline.score(request))
        return name, score, self._slots.number(request), payload

    async def _type(self, key: str, *expected: str) -> str:
        kind: str = (await self._client.type(key)).decode()
        if kind not in ("none", *expected):
            raise ConfigurationError(
                f"The key {key!r} in Redis is a {kind}; scrapy-redis keeps a"
                f" {' or a '.join(expected)} there. Is the prefix right?"
            )
        return kind

    async def requests(self, key: str) -> AsyncIterator[None]:
        kind = await self._type(key, "zset", "list")
        if key == self._frontier.keys.requests:
            aside = key + _ASIDE
            if kind == "list":
                await self._client.renamenx(key, aside)
            else:
                async for _ in self._sorted_set(key):
                    yield
            key, kind = aside, await self._type(aside, "list")
        if kind == "list":
            async for _ in self._list(key):
                yield
        elif kind == "zset":
            async for _ in self._sorted_set(key):
                yield

    async def _sorted_set(self, key: str) -> AsyncIterator[None]:
        # Equal scores have no order there but that of their bytes.
        ours = key == self._frontier.keys.requests
        async for found in pages(self._client.zscan, key):
            theirs = [m for m, _ in found if not ours or parse(REQUESTS, m).flaw]
            await self._move(key, theirs)
            yield

    async def _list(self, key: str) -> AsyncIterator[None]:
        """From the right: the oldest first."""
        left = 0
        while True:
            some = await self._client.lrange(key, -left - BATCH, -left - 1)
            if not some:
                return
            left += len(some) - await self._move(key, list(reversed(some)))
            yield

    async def _move(self, key: str, found: list[bytes]) -> int:
        moved, args, size = 0, [], 0
        for data in found:
            try:
                converted = self._convert(data)
            except ValueError as e:  # also Unserializable
                self._taken.leave(str(e))
                continue
            args += [data, *converted]
            size += len(data) + len(converted[-1])
            if size > _CALL_BYTES:
                moved += await self._call(key, args)
                args, size = [], 0
        if args:
            moved += await self._call(key, args)
        self._taken.requests += moved
        return moved

    async def _call(self, key: str, args: list[Any]) -> int:
        k = self._frontier.keys
        seen, names = k.dupefilter, []
        if await fingerprints.shape_of(self._frontier) is not None:
            # Compact ones need their bucket: they come behind, at worst too late.
            seen, names = k.started, [name for name in args[1::5] if name]
            args = [arg if n % 5 != 1 else "" for n, arg in enumerate(args)]
        moved = await self._frontier.run("takeover", seen=seen, old=key, found=args)
        if names:
            await fingerprints.add(self._frontier, names)
        return int(moved)

    async def fingerprints(self, key: str) -> None:
        kind = await self._type(key, "set")
        self._taken.has_fingerprints = kind == "set"
        if key == self._frontier.keys.dupefilter:
            return
        async for found in pages(self._client.sscan, key):
            if found:
                names = [name.decode("latin-1") for name in found]
                await fingerprints.add(self._frontier, names)
                self._taken.fingerprints += await self._client.srem(key, *found)

    async def seeds(self, key: str) -> None:
        kind = await self._type(key, "list", "set", "zset")
        ours = self._frontier.seed_keys
        if kind == "none" or key in ours:
            return
        size = {
            "list": self._client.llen,
            "set": self._client.scard,
            "zset": self._client.zcard,
        }
        count = await size[kind](key)
        if ours and await self._client.renamenx(key, ours[0]):
            self._taken.seeds += count
            return
        why = f"{ours[0]!r} exists" if ours else "this spider reads none"
        self._taken.reasons.append(
            f"{words.count(count, 'seed stays', 'seeds stay')} in {key!r}: {why}"
        )
        self._taken.left += count
