"""A frontier of an older format, converted by the first worker that joins it.

Requests had no slots before format 4 (see ``lua/lib/older.lua``). The worker goes through
all of them, a page at a time, and one script converts a page: the new is written before the
old is removed. What is old is told by its form, so several workers may do it at once, one
may be killed over it, and Redis may go back to an older state: whoever comes next goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.base.words import count
from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import (
    LEASED,
    LEASES,
    PLACES,
    REQUESTS,
    SUSPECTS,
    Older,
    batches,
    encode_score,
    pages,
    parse_older,
    scan_hash,
    scan_zset,
)
from scrapy_dist.brokers.redis.version import FORMAT

if TYPE_CHECKING:
    from scrapy import Spider

    from scrapy_dist.brokers.redis.frontier import Frontier
    from scrapy_dist.core.slots import Slots

logger = get_logger(__name__)

#: Bytes of members after which a page is full.
_PAGE_BYTES = 1 << 20
#: How often all is looked through at the most: once or twice, if nobody else is at it.
_PASSES = 10


async def upgrade(
    frontier: Frontier, slots: Slots, spider: Spider | None, theirs: int
) -> bool:
    """Convert the frontier, which has the format *theirs*.

    The requests get their slots as *slots* says; what cannot be read without the spider,
    as a pickle, is in `NO_SLOT`. False: a worker of an older version is at work, or Redis
    has changed all the time. Raises RedisUnavailable.
    """
    conversion = _Conversion(frontier, slots)
    ended = False
    for _ in range(_PASSES):
        outcome, mark = await frontier.run("upgrade_begin", theirs=theirs)
        ended = outcome == 2
        if outcome != 1:
            break
        if not await conversion.go_through():
            ended = await frontier.run("upgrade_end", mark=mark) != 0
            if ended:
                break
    if conversion.done:
        logger.info(
            "The frontier in Redis was of an older scrapy-dist (format %d): %s"
            " converted to format %d%s.",
            theirs,
            count(conversion.done, "request is", "requests are"),
            FORMAT,
            "" if ended else ", and more are left",
            extra={"spider": spider},
        )
    return ended


class _Conversion:
    """What one worker converts."""

    def __init__(self, frontier: Frontier, slots: Slots) -> None:
        self._frontier = frontier
        self._slots = slots
        self._marks = 0
        #: Whether Redis has gone back to before the conversion began.
        self._is_lost = False
        #: Requests converted by this worker.
        self.done = 0

    async def go_through(self) -> int:
        """Convert all; how many were old, or some number if it is to begin once more."""
        found, self._is_lost = 0, False
        with asking("the frontier is not converted to the new format"):
            for place in (LEASED, LEASES, REQUESTS, SUSPECTS):
                async for page in self._pages(place):
                    found += len(page) if place != LEASES else 0
                    await self._convert(place, page)
                    if self._is_lost:
                        return 1
        return found

    async def _pages(self, place: int) -> AsyncIterator[list[Older]]:
        """What is old in *place*, in parts for one script."""
        client, key = self._frontier.client, getattr(self._frontier.keys, PLACES[place])
        if place == LEASED:
            async for values in scan_hash(client, key):
                yield _old(parse_older(place, id_, value) for id_, value in values)
        elif place == LEASES:
            async for ids in scan_zset(client, key):
                yield [Older(id_, 0, b"") for id_ in ids]
        else:
            async for found in pages(client.zscan, key):
                old = _old(parse_older(place, m, score=score) for m, score in found)
                for some in batches(old):
                    yield some

    async def _convert(self, place: int, page: list[Older]) -> None:
        args: list[bytes | int] = []
        size = 0
        for request in page:
            waits = place == SUSPECTS and request.score == float("inf")
            score = 0.0 if waits else request.score  # it is not known any more
            opened = self._frontier.seal.shown(request.payload)
            slot = self._slots.number_of_payload(opened)
            args += (request.member, slot, encode_score(score))
            size += len(request.member)
            if size > _PAGE_BYTES:
                await self._send(place, args)
                args, size = [], 0
        if args:
            await self._send(place, args)

    async def _send(self, place: int, args: list[bytes | int]) -> None:
        self._marks += 1
        mark = f"{self._frontier.worker}-{self._marks}"
        done = await self._frontier.run("upgrade", mark=mark, place=place, entries=args)
        self._is_lost = self._is_lost or done < 0
        self.done += max(0, done)


def _old(found: Iterable[Older | None]) -> list[Older]:
    return [request for request in found if request is not None]
