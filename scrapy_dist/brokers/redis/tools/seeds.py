"""Seeds into the keys from which workers take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from scrapy_dist.brokers.redis.errors import asking, is_wrong_type
from scrapy_dist.brokers.redis.types import check_seeds

if TYPE_CHECKING:
    from scrapy_dist.redis_client.typed import Redis


class SeedPusher:
    """Pushes seeds as the type of *key* has it: at the right end of a list, whose left end
    workers take from; into a set; into a sorted set with their priority.

    *kind*: the type of a key that does not exist yet.
    """

    def __init__(self, client: Redis, key: str, kind: str) -> None:
        self._client = client
        self._key = key
        self._kind_if_new = kind
        self._kind = ""

    async def push(self, seeds: Sequence[tuple[bytes, int]]) -> int:
        """Raises RedisUnavailable: then they may have been stored, unless Redis refused;
        and ConfigurationError for a key of another type.
        """
        with asking():
            if self._kind:
                try:
                    return await self._push(seeds)
                except ResponseError as e:
                    if not is_wrong_type(e):
                        raise
            # Or it was deleted and made again by somebody else; nothing was stored.
            self._kind = await self._find_kind()
            return await self._push(seeds)

    async def _push(self, seeds: Sequence[tuple[bytes, int]]) -> int:
        if self._kind == "zset":
            return int(await self._client.zadd(self._key, dict(seeds)))
        data = [seed for seed, _ in seeds]
        if self._kind == "set":
            return int(await self._client.sadd(self._key, *data))
        await self._client.rpush(self._key, *data)
        return len(data)

    async def _find_kind(self) -> str:
        found = (await self._client.type(self._key)).decode()
        check_seeds(self._key, found)
        return self._kind_if_new if found == "none" else found
