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
from typing import TYPE_CHECKING

from scrapy_dist import engine
from scrapy_dist.frontier import BATCH

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

    from scrapy_dist.exchange import Exchange
    from scrapy_dist.ledger import Record
    from scrapy_dist.outbox import RecentFingerprints

#: Leases that come one at a time, to a worker with nothing else, before it is a chain.
_CHAIN = 3
#: Hops at the most: what a death may cost.
_HOPS = BATCH // 2
#: How many round trips a worker goes on without one: waiting for Redis takes a twentieth
#: of the time then. And the shortest and longest that it goes on, in seconds.
_LEG, _SHORTEST, _LONGEST = 20, 0.1, 1.0


class Ahead:
    """Says whether a request may be crawled before Redis has heard of it."""

    def __init__(self, crawler: Crawler, recent: RecentFingerprints) -> None:
        self._crawler = crawler
        self._recent = recent
        self._chain = 0

    def arrived(self, leases: int, *, idle: bool) -> None:
        """Redis has handed out *leases*; *idle*: there was nothing else to do."""
        self._chain = self._chain + 1 if leases == 1 and idle else 0

    def is_on(self, exchange: Exchange) -> bool:
        """Whether pages have come one by one lately, and this worker knows all of them."""
        known = exchange.alone and self._recent.is_complete
        return known and self._chain >= _CHAIN

    def leg(self, exchange: Exchange) -> float:
        """Seconds that this worker goes on without Redis; 0: it does not."""
        if not self.is_on(exchange):
            return 0.0
        return min(max(_SHORTEST, _LEG * exchange.round_trip), _LONGEST)

    def may_go(self, record: Record, hops: int, exchange: Exchange) -> bool:
        """Whether the page under *record* may be followed by a new one.

        *hops*: how many a death would cost now.
        """
        if not self.is_on(exchange) or len(engine.in_progress(self._crawler)) > 1:
            return False
        if record.suspect or record.tainted or record.settled or record.is_seed:
            return False
        if exchange.pending or exchange.seeds_left or exchange.is_full:
            return False
        if exchange.paused or engine.closing(self._crawler):
            return False
        if hops >= _HOPS:
            return False
        if not record.hops:
            return True
        return time.monotonic() - record.left < self.leg(exchange)
