"""All requests of a frontier as they were at one moment, read while workers go on.

A copy of a frontier is whole if it holds, beside fingerprints that were read *before* some
moment T, every request that was pending, suspect or leased at T: whatever else these
fingerprints stand for was done by then, and all that it produced was stored with its
acknowledgement. (Read the other way round, fingerprints of requests that came after their
part of the frontier had been read would keep the copy from ever crawling them.)

T is when one script reads the first pages of pending requests and suspects, and finds that
the ids of all leases are known. That takes Redis a moment however many leases there are,
because most of them were read before:

* Each time a worker is handed something, it gets a number above all that were given out
  before, ``handed:…`` in S:state, from the counter of order ids.
* First all leases are read, a page at a time, and what the counter says at the first page
  is noted as N. A lease that is there at the end and was not met came in between, so its
  worker has a number above N: the leases of all other workers are known. (One that was met
  may be gone. It does not matter, and if it comes again, that gives its worker a new
  number.)
* Then the leases of the workers with a number above N are read, the lowest number first,
  until it is enough for one script. N becomes the number of the last of these: at that
  moment, the leases of all workers up to the new N are known, those of the others because
  they have been handed nothing since. This is repeated until there is no worker left above
  N; that moment is T.

What follows T need not be of one moment:

* A lease lives for a download, and all payloads but the newest few were fetched before T.
  Were some leases acknowledged before theirs was fetched, they are gone, and their children
  may be anywhere: then there is a later T, for which only what was handed out since has to
  be read.
* Workers lease from the front, in the very order in which pages are read, and pages are
  read much faster. So nothing behind a page leaves before it is read, unless the front has
  caught up: then the last member of the page before has left, and there is a later T as
  well. (That nothing is in front of a page would tell less: what comes with a higher
  priority goes there. A member that left and came back, all within two pages, would not be
  noticed.)

Requests that come meanwhile may be read too; their fingerprints are not, so at worst they
are crawled twice. Each order id is read once.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from scrapy_dist.brokers.redis.layout import (
    LEASED,
    LEASES,
    RANK,
    REQUESTS,
    SUSPECTS,
    Entry,
    IdsSeen,
    is_id,
    parse,
)
from scrapy_dist.core.frontier import BATCH

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier

#: Bytes after which a page ends, however few requests it has.
_PAGE_BYTES = 2_000_000
#: Leases of one page.
_LEASES_PAGE = 200
#: Leases after which a look at those of the workers that were handed something ends.
_LEASES_LOOK = 3000
#: Such looks, after which all are read at once, for however long Redis is blocked by it:
#: workers are handed more than can be read.
_LOOKS = 200
#: Leased requests that are fetched at once.
_FETCH = 20
#: Moments that are tried.
_ROUNDS = 20

#: What to read of ``export.lua`` that is no place.
_MOMENT = 0


class Snapshot:
    """One reading of *frontier*. Its methods raise redis-py's errors."""

    def __init__(self, frontier: Frontier) -> None:
        self._frontier = frontier
        self._ids = IdsSeen()
        #: Leases that were gone when their payload was asked for.
        self._missed: set[bytes] = set()
        #: Members without an order id.
        self._odd: set[bytes] = set()
        #: Whether what was read is all that there was at one moment.
        self.is_whole = False
        #: Moments that were tried.
        self.rounds = 0
        #: Leases of workers that were handed nothing since this number are known.
        self._order = 0

    async def read(self) -> AsyncIterator[list[Entry]]:
        """Leased requests, suspects and pending ones, each kind in its order."""
        async for some in self._read_all_leases():
            yield some
        while not self.is_whole and self.rounds < _ROUNDS:
            self.rounds += 1
            self.is_whole = True
            firsts: list[Any] = []
            looks = 0
            while not firsts:
                looks += 1
                most = _LEASES_LOOK if looks < _LOOKS else sys.maxsize
                # T, if the firsts come with it.
                self._order, ids, *firsts = await self._call(_MOMENT, most_ids=most)
                async for some in self._fetch_leases(ids):
                    yield some
                # What goes before T may go.
                self.is_whole = self.is_whole or not firsts
            pages, suspects = firsts
            for place, first in ((SUSPECTS, suspects), (REQUESTS, pages)):
                async for some in self._read_pages(place, first):
                    yield some

    async def _read_all_leases(self) -> AsyncIterator[list[Entry]]:
        self._order, page = await self._call(LEASES, most=_LEASES_PAGE)
        while len(page) > 1:
            async for some in self._fetch_leases(page[1::2]):
                yield some
            member, score = page[-2:]
            _, page = await self._call(LEASES, score, member, most=_LEASES_PAGE)

    async def _fetch_leases(self, ids: Sequence[bytes]) -> AsyncIterator[list[Entry]]:
        client = self._frontier.client
        unknown = [id_ for id_ in ids if self._add(LEASES, id_)]
        for at in range(0, len(unknown), _FETCH):
            some = unknown[at : at + _FETCH]
            values = await client.hmget(self._frontier.keys.leased, some)
            found = list(zip(some, values, strict=True))
            gone = [id_ for id_, value in found if value is None]
            if gone:
                self._missed.update(gone)
                self.is_whole = False
            yield [parse(LEASED, id_, v) for id_, v in found if v is not None]

    async def _read_pages(
        self, place: int, page: Sequence[Any]
    ) -> AsyncIterator[list[Entry]]:
        while len(page) > 1:
            parts = page[1:]
            found = list(zip(parts[::2], parts[1::2], strict=True))
            new = [(m, score) for m, score in found if self._add(place, m)]
            yield [parse(place, m, score=float(score)) for m, score in new]
            if len(found) < BATCH and sum(map(len, parts)) < _PAGE_BYTES:
                return  # there was no more
            member, score = found[-1]
            _, page = await self._call(place, score, member)
            if not page[0]:
                self.is_whole = False

    async def _call(
        self,
        place: int,
        score: str | bytes = "",
        member: bytes = b"",
        *,
        most: int = BATCH,
        most_ids: int = 0,
    ) -> list[Any]:
        reply: list[Any] = await self._frontier.run(
            "export",
            place=place,
            score=score,
            member=member,
            most=most,
            limit=_PAGE_BYTES,
            since=self._order,
            most_ids=most_ids,
        )
        return reply

    def _add(self, place: int, member: bytes) -> bool:
        """Whether it is new."""
        id_ = member if place == LEASES else member[8:RANK]
        if not is_id(id_):
            is_new = member not in self._odd
            self._odd.add(member)
            return is_new
        if id_ in self._missed:
            self._missed.discard(id_)
            return True
        return self._ids.add(id_)
