"""What this worker has produced and Redis does not know yet, in order."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scrapy_dist.frontier import BATCH, Commit, NewRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scrapy import Request

#: Bytes of payloads and items after which a commit is full.
COMMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Numbered:
    """A commit under way, and the requests it stores (for ``request_dropped``)."""

    commit: Commit
    requests: Sequence[Request]


@dataclass
class _Part:
    """The commit that is being filled."""

    requests: list[NewRequest] = field(default_factory=list)
    originals: list[Request] = field(default_factory=list)
    items: list[tuple[str, bytes]] = field(default_factory=list)
    acks: list[str] = field(default_factory=list)
    size: int = 0


class Outbox:
    """Requests, items and acks, cut into numbered commits in the order they came.

    The order is what makes an acknowledgement safe: everything that a page produced
    stands before its ack, so it is in the same commit or an earlier one (I1), and Redis
    accepts commits only in the order of their numbers.
    """

    def __init__(self) -> None:
        #: Number of the last commit that was cut, and of the last one that is stored.
        self.number = 0
        self.confirmed = 0
        self._under_way: deque[Numbered] = deque()
        self._parts: deque[_Part] = deque()
        self._size = 0

    def __len__(self) -> int:
        """Requests, items and acks that Redis has not confirmed."""
        return self._size

    def add_request(self, request: NewRequest, original: Request) -> None:
        part = self._part(len(request.payload), lambda part: len(part.requests))
        part.requests.append(request)
        part.originals.append(original)

    def add_item(self, key: str, data: bytes) -> None:
        self._part(len(data), lambda part: len(part.items)).items.append((key, data))

    def add_ack(self, order_id: str) -> None:
        self._part(0, lambda part: len(part.acks)).acks.append(order_id)

    def _part(self, size: int, count: Callable[[_Part], int]) -> _Part:
        part = self._parts[-1] if self._parts else None
        if (
            part is None
            or count(part) >= BATCH
            or (part.size and part.size + size > COMMIT_BYTES)
        ):
            part = _Part()
            self._parts.append(part)
        part.size += size
        self._size += 1
        return part

    def take(self, most: int) -> list[Numbered]:
        """The commits to send now, unconfirmed ones first; *most* of them."""
        while self._parts and len(self._under_way) < most:
            part = self._parts.popleft()
            self.number += 1
            commit = Commit(self.number, part.requests, part.items, part.acks)
            self._under_way.append(Numbered(commit, part.originals))
        return list(self._under_way)[:most]

    def confirm(self, numbered: Numbered) -> None:
        """Redis has stored *numbered*, the oldest commit under way."""
        oldest = self._under_way.popleft()
        assert oldest is numbered
        commit = numbered.commit
        self.confirmed = commit.number
        self._size -= len(commit.requests) + len(commit.items) + len(commit.acks)

    @property
    def full_batch(self) -> bool:
        """Whether a whole commit waits."""
        return len(self._parts) > 1

    def withdraw_acks(self) -> list[str]:
        """Take all unconfirmed acks out, and number what is left anew.

        For a rollback of Redis: those pages have to be crawled again.
        """
        acks: list[str] = []
        for part in self._parts:
            acks += part.acks
            part.acks = []
        for numbered in reversed(self._under_way):
            commit = numbered.commit
            acks += commit.acks
            self._parts.appendleft(
                _Part(
                    list(commit.requests), list(numbered.requests), list(commit.items)
                )
            )
        self._under_way.clear()
        self.confirmed = self.number
        self._size -= len(acks)
        return acks


class RecentFingerprints:
    """The fingerprints that this worker sent last; answers most duplicates at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
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
        return True

    def forget(self) -> None:
        self._known.clear()
