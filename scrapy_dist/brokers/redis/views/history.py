"""Records of finished crawls: each is kept for a day, the newest hundred."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_dist.base import times
from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.core.status import Finished

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier

#: Records that are read at the most.
_MOST = 100


async def read_history(frontier: Frontier) -> list[Finished]:
    """The finished crawls, the newest first. Raises RedisUnavailable."""
    client = frontier.client
    with asking():
        found = await client.xrevrange(frontier.keys.history, count=_MOST)
    return [_record(fields) for _, fields in found]


def _record(fields: dict[bytes, bytes]) -> Finished:
    def number(name: bytes) -> int:
        value = fields.get(name, b"")
        return int(value) if value.isdigit() and len(value) < 20 else 0

    return Finished(
        crawl=fields.get(b"crawl", b"").decode("utf-8", "replace"),
        start=times.from_ms(number(b"start") or None),
        end=times.from_ms(number(b"end") or None),
        reason=fields.get(b"reason", b"").decode("utf-8", "replace"),
        pages=number(b"pages"),
        items=number(b"items"),
        failed=number(b"failed"),
        workers=number(b"workers"),
    )
