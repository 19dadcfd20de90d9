"""Put back what lies in Redis and belongs to nobody, while workers work.

Somebody has deleted or renamed a key, or the end of an append-only file is lost. A
worker that has nothing to do sees it (``Counts.orphans``, ``Counts.unknown``): what is
leased, and no living or dead worker is known to hold, would never be crawled. It is mended
as ``scrapy frontier check --repair`` does, by the same scripts.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.base.words import count
from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.layout import LEASED, batches, parse
from scrapy_dist.core.frontier import BATCH, Counts

if TYPE_CHECKING:
    from scrapy import Spider

    from scrapy_dist.brokers.redis.frontier import Frontier

logger = get_logger(__name__)

#: Seconds between two searches, if the one before has left something.
_REST = 5.0
#: Payloads in one page, about: Redis reads each byte of them.
_PAGE = 25


class Orphans:
    """Looks for orphans, a page of a structure at a time, and puts them back."""

    def __init__(self, frontier: Frontier, spider: Spider | None) -> None:
        self._frontier = frontier
        self._spider = spider
        self._not_before = 0.0
        self._unknown_since: float | None = None
        #: Where the search is; None: there is none.
        self._cursor: int | None = None
        self._in_leases = False
        self._mended = self._stay = 0
        self._said_stay = False

    @property
    def is_searching(self) -> bool:
        return self._cursor is not None

    def told(self, state: Counts) -> None:
        """Begin a search if *state* asks for one."""
        now = time.monotonic()
        if not state.unknown:
            self._unknown_since = None
        elif self._unknown_since is None:
            self._unknown_since = now
        if self.is_searching or now < self._not_before:
            return
        since = self._unknown_since
        # Who holds them may be about to register again.
        is_old = since is not None and 1000 * (now - since) > self._frontier.ttl_ms
        if state.orphans or is_old:
            self._cursor, self._in_leases = 0, not state.orphans
            self._mended = self._stay = 0

    async def step(self) -> None:
        """Search one page. Raises RedisUnavailable: then it goes on there."""
        if self._cursor is None:
            return
        frontier = self._frontier
        with asking():
            if self._in_leases:
                cursor, found = await frontier.client.zscan(
                    frontier.keys.leases, self._cursor, count=BATCH
                )
                for ids in batches([id_ for id_, _ in found]):
                    mended = await frontier.run("check_leases", mend=1, ids=ids)
                    self._mended += len(mended) // 3
            else:
                cursor, *found = await frontier.run(
                    "orphans", cursor=self._cursor, most=_PAGE
                )
                orphans = list(zip(*[iter(found)] * 3, strict=True))
                for some in batches(orphans):
                    await self._check_leased(some)
        self._cursor = int(cursor) or None
        if self._cursor is None:
            self._ended()

    async def _check_leased(self, orphans: list[tuple[bytes, bytes, bytes]]) -> None:
        ids = []
        for id_, head, digest in orphans:
            if not digest:
                ids.append(id_)
                continue
            entry = parse(LEASED, id_, head)
            reply = await self._frontier.run(
                "check_unreadable",
                mend=1,
                max_payload=self._frontier.max_payload,
                entries=[LEASED, id_, digest, 1, entry.deliveries, entry.flaw],
            )
            self._stay += reply == [2]
        if ids:
            mended = await self._frontier.run("check_leased", mend=1, ids=ids)
            self._mended += len(mended)

    def _ended(self) -> None:
        extra = {"spider": self._spider}
        k = self._frontier.keys
        self._unknown_since = None
        self._not_before = time.monotonic() + _REST
        if self._mended and self._in_leases:
            logger.warning(
                "Workers that are not in %s held %s in %s. They are handed out again, as"
                " if these workers had died.",
                k.workers,
                count(self._mended, "request"),
                k.leases,
                extra=extra,
            )
        elif self._mended:
            logger.warning(
                "%s in %s had no lease in %s: somebody has deleted or renamed it, or the"
                " end of Redis' file is lost. They are pending again.",
                count(self._mended, "request"),
                k.leased,
                k.leases,
                extra=extra,
            )
        if self._stay and not self._said_stay:
            self._said_stay = True
            logger.warning(
                "%s of %s cannot be read, and %s has no room (FRONTIER_FAILED_LIMIT). The"
                " crawl does not end before it has.",
                count(self._stay, "entry", "entries"),
                k.leased,
                k.failed,
                extra=extra,
            )
