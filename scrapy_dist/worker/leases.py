"""Which lease each request in this worker belongs to, and which leases are finished."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scrapy_dist.core.frontier import SUSPECTS, ChainLink, End, NewRequest, Settlement

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from scrapy import Request

    from scrapy_dist.core.frontier import Lease


@dataclass(eq=False, slots=True)
class HeldLease:
    """A lease of this worker, and what its page has produced so far.

    *suspect*, *alone*: see ``Lease``. *holders*: what keeps it from being finished (its
    own request, and requests that stay in this worker under it). *invalidated*: Redis was
    rolled back since, so it is released when finished, not acknowledged. *settled*:
    finished, and Redis will be told.

    *is_seed*: a seed that is no page itself: none of its requests is crawled under it.
    *retried*: its request was sent again, to be a page under another lease.
    *single*: a seed that has become one request, which is crawled under it.

    *chain* was crawled under it ahead of Redis, the first at *left* (`time.monotonic`);
    *seen* are the fingerprints of all requests that stay in this worker under it.

    *requests* and *items* wait here to be stored together with the ack, so that a page
    that is crawled again after a death has not left them behind already. *produced*:
    something of it may be on its way by itself. *failure*: why it is a dead letter.
    """

    id: str
    suspect: bool
    alone: bool = False
    is_seed: bool = False
    #: The token of the task that all of it is of.
    task: str = ""
    retried: bool = False
    single: bool = False
    holders: int = 0
    invalidated: bool = False
    settled: bool = False
    produced: bool = False
    failure: str = ""
    requests: list[NewRequest] = field(default_factory=list)
    items: list[tuple[str, bytes]] = field(default_factory=list)
    size: int = 0
    since: float = 0.0
    chain: list[ChainLink] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    left: float = 0.0
    #: Bytes of the request in Redis.
    payload_size: int = 0
    #: Outputs that the spider middleware has seen and nobody has asked for, by ``id``;
    #: see `Provenance`.
    noted: dict[int, object] = field(default_factory=dict)

    def add_request(self, request: NewRequest) -> None:
        if not self.requests:
            self.since = time.monotonic()
        self.requests.append(request)
        self.size += len(request.payload)

    def add_item(self, key: str, data: bytes) -> None:
        self.items.append((key, data))
        self.size += len(data)

    @property
    def waiting(self) -> int:
        """Requests and items that wait for the ack."""
        return len(self.requests) + len(self.items)

    def settle(self) -> Settlement:
        """What waits, and how it ends; the page is finished."""
        requests, items = self.requests, self.items
        self.drop_outputs()
        bare = not (self.produced or requests or items or self.chain)
        end = End.FAILED if self.failure else End.EMPTY if bare else End.ACK
        counts = not (self.is_seed or self.retried)
        return Settlement(
            self.id, requests, items, end, self.failure, counts, self.chain, self.task
        )

    def take_part(self, *, items: bool) -> Settlement:
        """The requests, and with *items* the items, that go ahead of the ack."""
        self.produced = True
        items_ahead = self.items if items else ()
        part = Settlement(self.id, self.requests, items_ahead, End.OPEN, task=self.task)
        left = [] if items else self.items
        self.drop_outputs()
        for item in left:
            self.add_item(*item)
        return part

    def drop_outputs(self) -> None:
        self.requests, self.items, self.size = [], [], 0

    def invalidate(self) -> None:
        """Its page is crawled again: what it has produced so far is of no use."""
        self.invalidated = True
        self.drop_outputs()


#: The leases that a request belongs to: one, or none, or several where several pages
#: could have produced it.
HeldLeases = tuple[HeldLease, ...]


class Leases:
    """All leases of this worker, from the reply that brought them to the confirmed ack."""

    def __init__(self) -> None:
        self.records: dict[str, HeldLease] = {}
        self.handed: dict[Request, HeldLeases] = {}
        #: Suspects that are in hand.
        self.suspects = 0
        self._alone = 0

    def open(self, lease: Lease) -> HeldLease:
        """A lease has arrived; it is held by its own request."""
        record = HeldLease(
            lease.id,
            suspect=lease.suspect,
            alone=lease.alone,
            is_seed=lease.is_seed,
            task=lease.task,
            holders=1,
            payload_size=len(lease.payload),
        )
        self.records[lease.id] = record
        self.suspects += lease.suspect
        self._alone += lease.alone
        return record

    def hold(self, records: HeldLeases) -> None:
        """A request that stays in this worker needs *records*."""
        for record in records:
            record.holders += 1
            record.is_seed = record.retried = False

    def let_go(self, records: HeldLeases) -> list[HeldLease]:
        """A request under *records* is finished; returns the leases that now are."""
        done = []
        for record in records:
            record.holders -= 1
            if record.holders == 0 and not record.settled:
                record.settled = True
                done.append(record)
        return done

    def sweep(self, in_progress: AbstractSet[Request]) -> list[HeldLease]:
        """Leases finished since the last sweep: handed out, and no longer in progress."""
        done: list[HeldLease] = []
        for request in self.handed.keys() - in_progress:
            done += self.let_go(self.handed.pop(request))
        return done

    def close(self, ids: Iterable[str]) -> None:
        """Redis knows that these leases are over."""
        for id_ in ids:
            self.remove(id_)

    def remove(self, id_: str) -> HeldLease | None:
        """This worker has nothing more to do with that lease."""
        record = self.records.pop(id_, None)
        if record is not None:
            self.harmless(record)
        return record

    def invalidate(self) -> None:
        """Nothing that is under way may be acknowledged any more."""
        for record in self.records.values():
            record.invalidate()

    def harmless(self, record: HeldLease) -> None:
        """Nothing that this worker does with it can kill the worker (any more)."""
        self.suspects -= record.suspect
        self._alone -= record.alone
        record.suspect = record.alone = False

    @property
    def suspects_wanted(self) -> int:
        """How many suspects may come."""
        return max(0, SUSPECTS - self.suspects)

    @property
    def is_alone(self) -> bool:
        """Whether nothing is to be leased beside what is in hand."""
        return self._alone > 0
