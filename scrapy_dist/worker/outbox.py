"""What this worker has produced and Redis does not know yet, in order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from scrapy_dist.core.frontier import (
    BATCH,
    Commit,
    End,
    LeaseId,
    NewRequest,
    Reject,
    Settlement,
)

if TYPE_CHECKING:
    from scrapy import Request

#: Bytes of payloads and items after which a commit is full.
COMMIT_BYTES = 1 << 20
#: Bytes after which an outbox is full, however few they are in number.
OUTBOX_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class Numbered:
    """A commit under way; *requests* are the originals of those in it.

    *count* of requests, items and acks, *size* in bytes.
    """

    commit: Commit
    requests: Sequence[Request]
    count: int
    size: int

    @property
    def outputs(self) -> int:
        """Requests and items in it."""
        commit = self.commit
        own = len(commit.requests) + len(commit.items)
        return own + sum(len(s.requests) + len(s.items) for s in commit.settlements)


@dataclass(slots=True)
class _Part:
    """The commit that is being filled."""

    requests: list[NewRequest] = field(default_factory=list)
    originals: list[Request] = field(default_factory=list)
    items: list[tuple[str, bytes]] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)
    #: All requests and all items, those of the pages too.
    all_requests: int = 0
    all_items: int = 0
    size: int = 0

    def has_room(self, requests: int, items: int, pages: int, size: int) -> bool:
        return (
            self.all_requests + requests <= BATCH
            and self.all_items + items <= BATCH
            and len(self.settlements) + pages <= BATCH
            and (not self.size or self.size + size <= COMMIT_BYTES)
        )

    def __len__(self) -> int:
        return len(self.requests) + len(self.items) + sum(map(len, self.settlements))


class Outbox:
    """Requests, items and acks, cut into numbered commits in the order they came.

    The order is what makes an acknowledgement safe: everything that a page produced
    stands before its ack, so it is in the same commit or an earlier one (I1), and Redis
    accepts commits only in the order of their numbers.

    *releases* (order ids) and *rejects* (order id, kind, reason) are leases that end
    otherwise, in any order.
    """

    def __init__(self) -> None:
        self.releases: list[LeaseId] = []
        self.rejects: list[Reject] = []
        #: Number of the last commit that was cut, and of the last one that is stored.
        self.number = 0
        self.confirmed = 0
        self._under_way: deque[Numbered] = deque()
        self._parts: deque[_Part] = deque()
        self._count = 0
        self._size = 0

    def __len__(self) -> int:
        """Requests, items and acks that Redis has not confirmed."""
        return self._count

    def is_full(self, limit: int) -> bool:
        """Whether at least *limit* results, or OUTBOX_BYTES, wait."""
        return self._count >= limit or self._size >= OUTBOX_BYTES

    def add_request(self, request: NewRequest, original: Request) -> None:
        part = self._part(1, 0, 0, len(request.payload))
        part.requests.append(request)
        part.originals.append(original)
        self._count += 1

    def add_item(self, key: str, data: bytes) -> None:
        self._part(0, 1, 0, len(data)).items.append((key, data))
        self._count += 1

    def add_settlement(self, settled: Settlement) -> None:
        """The end of a lease, and what is stored with it; never divided."""
        size = sum(len(request.payload) for request in settled.requests)
        size += sum(len(data) for _, data in settled.items)
        size += sum(len(link.payload) for link in settled.chain)
        requests = len(settled.requests) + len(settled.chain)
        part = self._part(requests, len(settled.items), 1, size)
        part.settlements.append(settled)
        self._count += len(settled)

    def _part(self, requests: int, items: int, pages: int, size: int) -> _Part:
        part = self._parts[-1] if self._parts else None
        if part is None or not part.has_room(requests, items, pages, size):
            part = _Part()
            self._parts.append(part)
        part.all_requests += requests
        part.all_items += items
        part.size += size
        self._size += size
        return part

    def take(self, most: int) -> list[Numbered]:
        """The commits to send now, unconfirmed ones first; *most* of them."""
        while self._parts and len(self._under_way) < most:
            part = self._parts.popleft()
            self.number += 1
            commit = Commit(self.number, part.requests, part.items, part.settlements)
            numbered = Numbered(commit, part.originals, len(part), part.size)
            self._under_way.append(numbered)
        return list(self._under_way)[:most]

    def confirm(self, numbered: Numbered) -> None:
        """Redis has stored *numbered*, the oldest commit under way."""
        oldest = self._under_way.popleft()
        assert oldest is numbered
        self.confirmed = numbered.commit.number
        self._count -= numbered.count
        self._size -= numbered.size

    def only_empty_ends(self) -> list[str]:
        """Redis is full: of the oldest commit under way it took the bare acks only.

        Returns their order ids. The bare acks behind them move to that commit, which
        is safe now: it is known not to be stored, so its number may be used again.
        """
        oldest = self._under_way.popleft()
        taken, pages = _split(oldest.commit.settlements, BATCH)
        room = BATCH
        for i, numbered in enumerate(self._under_way):
            bare, rest = _split(numbered.commit.settlements, room)
            room -= len(bare)
            pages += bare
            self._under_way[i] = replace(
                numbered,
                commit=replace(numbered.commit, settlements=rest),
                count=numbered.count - len(bare),
            )
        for part in self._parts:
            bare, part.settlements = _split(part.settlements, room)
            room -= len(bare)
            pages += bare
        commit = replace(oldest.commit, settlements=pages)
        count = oldest.count - len(taken) + BATCH - room
        self._under_way.appendleft(replace(oldest, commit=commit, count=count))
        self._count -= len(taken)
        return [settled.lease for settled in taken]

    @property
    def has_empty_ends(self) -> bool:
        """Whether the oldest commit under way holds acks that a full Redis takes."""
        return bool(self._under_way) and any(
            settled.end is End.EMPTY
            for settled in self._under_way[0].commit.settlements
        )

    @property
    def full_batch(self) -> bool:
        """Whether a whole commit waits."""
        return len(self._parts) > 1

    def withdraw_settlements(self) -> list[str]:
        """Take all unconfirmed pages out, and number what is left anew.

        For a rollback of Redis: those pages have to be crawled again. Returns the order
        ids of the finished ones; what was to be stored with them is dropped.
        """
        withdrawn: list[Settlement] = []
        parts = []
        for numbered in self._under_way:
            commit = numbered.commit
            withdrawn += commit.settlements
            parts.append((commit.requests, numbered.requests, commit.items))
        for part in self._parts:
            withdrawn += part.settlements
            parts.append((part.requests, part.originals, part.items))
        self._under_way.clear()
        self._parts.clear()
        self._count = self._size = 0
        self.confirmed = self.number
        for requests, originals, items in parts:
            for request, original in zip(requests, originals, strict=True):
                self.add_request(request, original)
            for key, data in items:
                self.add_item(key, data)
        return [settled.lease for settled in withdrawn if settled.end is not End.OPEN]


def _split(
    pages: Sequence[Settlement], most: int
) -> tuple[list[Settlement], list[Settlement]]:
    """At most *most* bare acks of *pages*, and the rest."""
    bare = [settled for settled in pages if settled.end is End.EMPTY][:most]
    taken = {id(settled) for settled in bare}
    return bare, [settled for settled in pages if id(settled) not in taken]


class RecentFingerprints:
    """The fingerprints that this worker sent last; answers most duplicates at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        #: Whether it knows all that were ever added.
        self.is_complete = limit > 0
        self._known: OrderedDict[str, None] = OrderedDict()

    def add(self, fingerprint: str) -> bool:
        """Remember *fingerprint*; false if it was known."""
        known = self._known
        if fingerprint in known:
            known.move_to_end(fingerprint)
            return False
        if self._limit > 0:
            known[fingerprint] = None
            if len(known) > self._limit:
                known.popitem(last=False)
                self.is_complete = False
        return True

    def remove(self, fingerprint: str) -> None:
        """It was not sent after all, or not stored."""
        self._known.pop(fingerprint, None)

    def forget(self) -> None:
        self.is_complete = False
        self._known.clear()
