"""All requests of a frontier as they were at one moment, read while workers go on.

A copy of a frontier is whole if it holds, beside fingerprints that were read *before* some
moment T, every request that was pending, suspect or leased at T: whatever else these
fingerprints stand for was done by then, and all that it produced was stored with its
acknowledgement. (Read the other way round, fingerprints of requests that came after their
part of the frontier had been read would keep the copy from ever crawling them.)

From a moment B on, before anything is read, Redis notes for the copy what is handed out: the
whole request, in the script that makes it a lease (see ``lib/copies.lua``). Each page that
is read brings the notes that were made since the last one. Read are, in this order, leases,
suspects and pending requests, page by page; a page goes on behind the last member of the
one before, so that what is there all the time is read exactly once. T is when the script
runs that reads the first page of suspects. Then

* what is leased at T was handed out before B, and was there while all leases were read, so
  that it was met, and its request, which goes when the lease ends, was fetched before T; or
  it was handed out since B, and is in the notes that come with T at the latest.
* what is pending or suspect at T is there until its page is read; or it has been handed out
  before that, since nothing else takes it away, and is in the notes of that page at the
  latest. (A suspect that waits for room may become a dead letter; those are read later.)

It does not matter in which order workers are handed requests, of one slot or of many, how
fast they are, nor whether a request is given back, by a worker or by its death: it is in the
notes by then.

Notes that nobody collects end, because Redis keeps them: where whoever writes the copy is
held up for a minute, or thousands of requests are handed out between two pages. Then all
begins again with a later B; what was read by then stays in the copy. And where Redis lets
nobody write, or there was no frontier yet, there are no notes: then the copy is whole if
nothing was handed out since B, which the counter of order ids shows, as it grows with that.

Requests that come or are done meanwhile may be read too; their fingerprints are not, or are,
so at worst they are crawled twice. Each order id is read once.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

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
from scrapy_dist.exceptions import RedisUnavailable

if TYPE_CHECKING:
    from scrapy_dist.brokers.redis.frontier import Frontier

#: Bytes after which a page ends, however few requests it has.
_PAGE_BYTES = 2_000_000
#: Leases of one page.
_LEASES_PAGE = 200
#: Leased requests that are fetched at once.
_FETCH = 20
#: How often all is read at the most.
_ROUNDS = 20
#: Characters of an order id in a note.
_ID = 16


class Snapshot:
    """One reading of *frontier*. Its methods raise redis-py's errors."""

    def __init__(self, frontier: Frontier) -> None:
        self._frontier = frontier
        self._name = secrets.token_hex(8)
        self._ids = IdsSeen()
        #: Leases that were gone when their payload was asked for.
        self._missed: set[bytes] = set()
        #: Members without an order id.
        self._odd: set[bytes] = set()
        #: Whether what was read is all that there was at one moment.
        self.is_whole = False
        #: How often all was read.
        self.rounds = 0
        #: Whether what is handed out is noted, and the order counter when that began.
        self._is_noted, self._order = False, b""

    async def read(self) -> AsyncIterator[list[Entry]]:
        """Leased requests, suspects and pending ones, each kind in its order.

        Among them come those that are handed out meanwhile.
        """
        try:
            while not self.is_whole and self.rounds < _ROUNDS:
                self.rounds += 1
                self._is_noted, self._order = await self._copy(ends=False)
                self.is_whole = True
                for place in (LEASES, SUSPECTS, REQUESTS):
                    async for some in self._read_pages(place):
                        yield some
        finally:
            # Else the notes end by themselves.
            with contextlib.suppress(RedisError, RedisUnavailable, OSError):
                await self._copy(ends=True)

    async def _copy(self, *, ends: bool) -> tuple[bool, bytes]:
        is_noted, order = await self._frontier.run(
            "copy", name=self._name, ends=int(ends)
        )
        return bool(is_noted), order

    async def _read_pages(self, place: int) -> AsyncIterator[list[Entry]]:
        score, member = b"", b""
        most = _LEASES_PAGE if place == LEASES else BATCH
        while True:
            notes, parts = await self._page(place, score, member, most)
            yield [entry for entry in notes if self._add(LEASED, entry.member)]
            members, scores = parts[::2], parts[1::2]
            if place == LEASES:
                async for some in self._fetch_leases(members):
                    yield some
            else:
                found = zip(members, scores, strict=True)
                new = [(m, score) for m, score in found if self._add(place, m)]
                yield [parse(place, m, score=float(score)) for m, score in new]
            if len(members) < most and sum(map(len, parts)) < _PAGE_BYTES:
                return  # there was no more
            member, score = parts[-2:]

    async def _page(
        self, place: int, score: bytes, member: bytes, most: int
    ) -> tuple[list[Entry], list[bytes]]:
        """What was noted since the last page; members and scores."""
        is_noted, order, notes, parts = await self._frontier.run(
            "export",
            name=self._name,
            place=place,
            score=score,
            member=member,
            most=most,
            limit=_PAGE_BYTES,
        )
        if not is_noted and (self._is_noted or order != self._order):
            self.is_whole = False
        return [entry for one in notes for entry in _entries(one)], parts

    async def _fetch_leases(self, ids: Sequence[bytes]) -> AsyncIterator[list[Entry]]:
        client = self._frontier.client
        unknown = [id_ for id_ in ids if self._add(LEASED, id_)]
        for at in range(0, len(unknown), _FETCH):
            some = unknown[at : at + _FETCH]
            values = await client.hmget(self._frontier.keys.leased, some)
            found = list(zip(some, values, strict=True))
            # If it is handed out once more, that will be noted.
            self._missed.update(id_ for id_, value in found if value is None)
            yield [parse(LEASED, id_, v) for id_, v in found if v is not None]

    def _add(self, place: int, member: bytes) -> bool:
        """Whether it is new."""
        id_ = member if place == LEASED else member[8:RANK]
        if not is_id(id_):
            is_new = member not in self._odd
            self._odd.add(member)
            return is_new
        if id_ in self._missed:
            self._missed.discard(id_)
            return True
        return self._ids.add(id_)


def _entries(note: bytes) -> Iterator[Entry]:
    """What was leased by one call, as ``lib/copies.lua`` notes it."""
    at = 0
    while at < len(note):
        begin = note.index(b" ", at) + 1
        end = begin + _ID + int(note[at : begin - 1])
        yield parse(LEASED, note[begin : begin + _ID], note[begin + _ID : end])
        at = end
