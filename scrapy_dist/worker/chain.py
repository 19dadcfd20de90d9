"""Crawling ahead of Redis, where this worker knows what Redis would say.

Where each page leads to the next one only, a worker would wait for Redis at each hop: is
this request new, and whose is it? One that has been alone with the frontier since nothing
was seen knows that by itself. So it crawls the next page at once, under the lease that it
holds, and acknowledges that lease when the hops behind it are finished too: their
fingerprints are stored in the same commit. Until then Redis knows nothing of them; if the
worker dies, whoever gets the lease crawls them again.

Another worker may join meanwhile. It is seen at the next beat, which ends this; but a hop
that is under way then is crawled twice if that worker finds a link to it before the hop,
and with it the lease, has ended.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from scrapy_dist.core.frontier import BATCH, ChainLink, NewRequest
from scrapy_dist.exceptions import Unserializable

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.codec.request import PayloadCodec
    from scrapy_dist.core.slots import Order
    from scrapy_dist.worker.leases import HeldLease, Leases
    from scrapy_dist.worker.outbox import RecentFingerprints
    from scrapy_dist.worker.view import EngineView, View

#: Leases that come one at a time, to a worker with nothing else, before it is a chain.
_CHAIN = 3
#: Hops at the most: what a death may cost.
_HOPS = BATCH // 2
#: How many round trips a worker goes on without one: waiting for Redis takes a twentieth
#: of the time then. And the shortest and longest that it goes on, in seconds.
_LEG, _SHORTEST, _LONGEST = 20, 0.1, 1.0


@dataclass(eq=False)
class Chain:
    """Says whether a request may be crawled before Redis has heard of it, and keeps those.

    *links* has the requests that are crawled so.
    """

    _engine: EngineView
    _codec: PayloadCodec
    _leases: Leases
    _recent: RecentFingerprints
    _view: View
    _order: Order
    links: WeakKeyDictionary[Request, ChainLink] = field(
        default_factory=WeakKeyDictionary
    )
    #: How many leases have come one at a time.
    _single: int = 0

    def arrived(self, leases: int, *, idle: bool) -> None:
        """Redis has handed out *leases*; *idle*: there was nothing else to do."""
        self._single = self._single + 1 if leases == 1 and idle else 0

    @property
    def is_on(self) -> bool:
        """Whether pages have come one by one lately, and this worker knows all of them."""
        known = self._view.alone and self._recent.is_complete
        return known and self._single >= _CHAIN

    def lead_time(self) -> float:
        """Seconds that this worker goes on without Redis; 0: it does not."""
        if not self.is_on:
            return 0.0
        return min(max(_SHORTEST, _LEG * self._view.round_trip), _LONGEST)

    def may_go(self, record: HeldLease) -> bool:
        """Whether the page under *record* may be followed by a new one."""
        view = self._view
        if not self.is_on or len(self._engine.in_progress()) > 1:
            return False
        if record.suspect or record.invalidated or record.settled or record.is_seed:
            return False
        if view.pending or view.seeds_left or view.is_full or view.paused:
            return False
        if self._engine.closing():
            return False
        # Those of a lease whose end Redis has not confirmed count, too.
        chain = sum(len(other.chain) for other in self._leases.records.values())
        if chain >= _HOPS:
            return False
        return not record.chain or time.monotonic() - record.left < self.lead_time()

    def may_have_finished(self, request: Request | None) -> bool:
        """Whether a lease may have ended by now; *request* is handed out just now."""
        handed = self._leases.handed
        if not self.is_on:
            return True
        if not handed:
            return False
        last = next(reversed(handed))
        if last is not request and last not in self._engine.in_progress():
            return True
        return any(lease != handed[last] for lease in handed.values())

    def begin(self, record: HeldLease, request: Request, link: ChainLink) -> None:
        """*request* is crawled under *record* before Redis hears of it."""
        if not record.chain:
            record.left = time.monotonic()
        record.seen.add(link.fingerprint)
        if len(record.chain) < BATCH:  # a commit holds no more
            record.chain.append(link)
            self.links[request] = link

    def follow(
        self, record: HeldLease, request: Request, fingerprint: str, *, is_new: bool
    ) -> bool:
        """Whether *request*, which comes of a hop under *record* and stays here, is new.

        A claim would be found by this lease only, and if it is handed out again the hops
        behind it get leases of their own.
        """
        new = not fingerprint or record.invalidated or is_new
        new = new or (fingerprint not in record.seen and self._recent.add(fingerprint))
        if new:
            self.begin(record, request, ChainLink(fingerprint, is_page=False))
        return new

    def fail(self, request: Request, reason: str) -> None:
        """The page of *request* has failed for good: its lease ends as a dead letter.

        A hop becomes one with its lease, unless it cannot be stored.
        """
        link = self.links.get(request)
        if link is not None:
            with suppress(Unserializable):
                link.payload, link.reason = self._codec.encode(request), reason
                link.slot = self._order.slots.number(request)
                return
        for record in self._leases.handed.get(request, ()):
            record.failure = reason
            if link is not None:
                # The page that leads to it, and all that was on the way.
                self.forget(record)

    def give_back(self, request: Request, record: HeldLease) -> NewRequest | None:
        """What Redis may have in place of a hop that was not begun; None: it is none."""
        link = self.links.get(request)
        if link is None or not link.is_page or record.invalidated:
            return None
        try:
            payload = self._codec.encode(request)
        except Unserializable:
            return None
        record.chain.remove(link)
        return self._order.new(request, payload, link.fingerprint)

    def forget(self, record: HeldLease) -> None:
        """Its hops will not be seen: *record* does not end as it should."""
        for link in record.chain:
            self._recent.remove(link.fingerprint)
        record.chain.clear()
