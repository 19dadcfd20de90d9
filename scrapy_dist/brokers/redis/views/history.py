"""Records of finished crawls: each is kept for a day, the newest hundred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy_dist.base import times
from scrapy_dist.brokers.redis.errors import asking

if TYPE_CHECKING:
    from datetime import datetime

    from scrapy_dist.brokers.redis.frontier import Frontier

__all__ = ["Finished", "count", "read_history"]

#: Records that are read at the most.
_MOST = 100


@dataclass(frozen=True)
class Finished:
    """One finished crawl.

    *reason*: why its last worker closed. *items* went through ``RedisPipeline``, *failed*
    are the dead letters that it added, *workers* is how many have taken part.
    """

    crawl: str
    start: datetime | None
    end: datetime | None
    reason: str
    pages: int
    items: int
    failed: int
    workers: int

    @property
    def seconds(self) -> float | None:
        """How long it took, with the time in which it was stopped."""
        if self.start is None or self.end is None:
            return None
        return (self.end - self.start).total_seconds()

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON has it; times in ISO 8601."""
        return {
            **vars(self),
            "start": times.iso(self.start),
            "end": times.iso(self.end),
        }


async def read_history(frontier: Frontier) -> list[Finished]:
    """The finished crawls, the newest first. Raises RedisUnavailable."""
    client = frontier.client
    with asking():
        found = await client.xrevrange(frontier.keys.history, count=_MOST)
    return [_record(fields) for _, fields in found]


async def count(frontier: Frontier) -> int:
    """How many records there are. Raises RedisUnavailable."""
    client = frontier.client
    with asking():
        return await client.xlen(frontier.keys.history)


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
