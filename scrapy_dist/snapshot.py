"""All requests of a frontier as they were at one moment, read while workers go on.

A copy of a frontier is whole if it holds, beside fingerprints that were read *before* some
moment T, every request that was pending, suspect or leased at T: whatever else these
fingerprints stand for was done by then, and all that it produced was stored with its
acknowledgement. (Read the other way round, fingerprints of requests that came after their
part of the frontier had been read would keep the copy from ever crawling them.)

T is when one script reads the ids of all leases together with the first pages of pending
requests and suspects. What follows need not be of one moment:

* A lease lives for a download, its payload is fetched within a few round trips. Were some
  acknowledged all the same, they are gone, and their children may be anywhere: then all is
  done again for a later T. What was read stays, so the next time only leases taken since
  have to be fetched.
* Workers lease from the front, in the very order in which pages are read, and pages are
  read much faster. So nothing behind a page leaves before it is read, unless the front has
  caught up: a page that begins at rank 0 tells, and then there is a later T as well.

Requests that come meanwhile may be read too; their fingerprints are not, so at worst they
are crawled twice. Each order id is read once.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy_dist.entries import IdsSeen, is_id
from scrapy_dist.frontier import BATCH, Call

if TYPE_CHECKING:
    from scrapy_dist.frontier import Frontier

__all__ = ["Snapshot", "Stored", "leased", "pending", "suspect"]

#: Bytes after which a page ends, however few requests it has.
_PAGE_BYTES = 2_000_000
#: Leased requests that are fetched at once.
_FETCH = 20
#: Moments that are tried.
_ROUNDS = 20

#: Places, as indices in KEYS of ``export.lua``.
_REQUESTS, _SUSPECTS = 1, 2

_SUSPECT = re.compile(rb"(\d+) (\S+) ")
_LEASED = re.compile(rb"(\S+) (\d+) (\S+) ")


@dataclass(frozen=True)
class Stored:
    """A request as the frontier keeps it. *kind*: pending, suspect or leased.

    *deaths* of workers that held it, *claims*: fingerprints of what they kept, '-' for
    none. See ``claim.lua``.
    """

    kind: str
    id: str
    score: float
    payload: bytes
    deaths: int = 0
    claims: str = "-"


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

    async def read(self) -> AsyncIterator[list[Stored]]:
        """Leased requests, suspects and pending ones, each kind in its order."""
        while not self.is_whole and self.rounds < _ROUNDS:
            self.rounds += 1
            self.is_whole = True
            # T
            ids, pending, suspects = await self._page("1", "", "", "")
            async for some in self._read_leases(ids):
                yield some
            for place, first in ((_SUSPECTS, suspects), (_REQUESTS, pending)):
                async for some in self._read_pages(place, first):
                    yield some

    async def _read_leases(self, ids: Sequence[bytes]) -> AsyncIterator[list[Stored]]:
        client: Any = self._frontier.client
        unknown = [id_ for id_ in ids if self._add(id_)]
        for at in range(0, len(unknown), _FETCH):
            some = unknown[at : at + _FETCH]
            values = await client.hmget(self._frontier.keys.leased, some)
            found = list(zip(some, values, strict=True))
            gone = [id_ for id_, value in found if value is None]
            if gone:
                self._missed.update(gone)
                self.is_whole = False
            yield [leased(id_, value) for id_, value in found if value is not None]

    async def _read_pages(
        self, place: int, page: Sequence[Any]
    ) -> AsyncIterator[list[Stored]]:
        parse = suspect if place == _SUSPECTS else pending
        while len(page) > 1:
            parts = page[1:]
            found = list(zip(parts[::2], parts[1::2], strict=True))
            yield [parse(m, float(score)) for m, score in found if self._add(m)]
            if len(found) < BATCH and sum(map(len, parts)) < _PAGE_BYTES:
                return  # there was no more
            member, score = found[-1]
            page = (await self._page("", place, score, member))[1]
            if page[0] == 0:
                self.is_whole = False

    async def _page(self, *args: str | int | bytes) -> list[Any]:
        k = self._frontier.keys
        keys = (k.requests, k.suspects, k.leases)
        call = Call("export", keys, (BATCH, _PAGE_BYTES, *args), list)
        await self._frontier.exchange([call])
        return call.reply()

    def _add(self, member: bytes) -> bool:
        """Whether it is new."""
        id_ = member[:16]
        if not is_id(id_):
            is_new = member not in self._odd
            self._odd.add(member)
            return is_new
        if id_ in self._missed:
            self._missed.discard(id_)
            return True
        return self._ids.add(id_)


def pending(member: bytes, score: float) -> Stored:
    id_, payload = _split(member)
    return Stored("pending", id_, score, payload)


def suspect(member: bytes, score: float) -> Stored:
    id_, rest = _split(member)
    found = _SUSPECT.match(rest)
    if not found:
        return Stored("suspect", id_, score, rest)
    claims = found[2].decode("latin-1")
    return Stored("suspect", id_, score, rest[found.end() :], int(found[1]), claims)


def leased(id_: bytes, value: bytes) -> Stored:
    name = id_.decode("latin-1")
    found = _LEASED.match(value)
    try:
        score = float(found[1]) if found else 0.0
    except ValueError:
        found, score = None, 0.0
    if not found:
        return Stored("leased", name, score, value)
    claims = found[3].decode("latin-1")
    payload = value[found.end() :]
    return Stored("leased", name, score, payload, int(found[2]), claims)


def _split(member: bytes) -> tuple[str, bytes]:
    """Order id and rest; what somebody else wrote has none."""
    if is_id(member[:16]):
        return member[:16].decode("ascii"), member[16:]
    return "", member
