"""Seeds in hand: leased, being turned into requests by the spider, or going back."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.core.tasks import Begin
    from scrapy_dist.worker.inbox import Rejects
    from scrapy_dist.worker.leases import HeldLease, HeldLeases, Leases
    from scrapy_dist.worker.outputs import Outputs
    from scrapy_dist.worker.pacing import Pacing
    from scrapy_dist.worker.view import View

#: ``meta`` key of a request that is made of a seed: the seed's lease.
SEED_MARK = "frontier_seed"
#: Seconds that a worker that has given seeds back leaves what is pending to others.
_REST = 0.25


@dataclass(eq=False)
class SeedLease:
    """A seed that the spider turns into requests; *data*: as it was pushed.

    *call* calls a function in the event loop, from where the spider does that.
    """

    _seeds: Seeds
    _record: HeldLease
    data: bytes
    _call: Callable[..., Any]

    def requests(self, made: Sequence[Request]) -> Iterator[Request]:
        """*made* of it, to be scheduled one by one, all of them."""
        record, left = self._record, len(made)
        record.single = left == 1
        try:
            for request in made:
                request.meta[SEED_MARK] = record.id
                left -= 1
                yield request
        except GeneratorExit:
            self._call(self._seeds.broken_off, record, left)
            raise
        self._call(self._seeds.done, record)

    def reject(self, reason: str) -> None:
        """Set it aside as a dead letter."""
        self._call(self._seeds.reject, self._record, reason)


@dataclass(eq=False)
class Seeds:
    """The seeds of one worker. ``len()``: those that wait for the spider."""

    _leases: Leases
    _outputs: Outputs
    _rejects: Rejects
    _view: View
    _pacing: Pacing
    #: Most seeds taken at once; 0: this spider reads none.
    most: int = 0
    #: Whether the spider can take seeds that came back from another worker.
    are_read: bool = False
    #: Whether somebody waits for seeds.
    awaited: Callable[[], bool] = lambda: True
    on_arrival: Callable[[], None] = lambda: None
    #: Until when pending requests are left to others (`time.monotonic`).
    rests_until: float = 0.0
    _waiting: deque[tuple[HeldLease, bytes]] = field(default_factory=deque)
    #: Those that are tasks and have not begun, by lease; and how the spider reads them.
    to_begin: dict[str, tuple[HeldLease, Begin, bytes]] = field(default_factory=dict)
    #: Why the spider is not to have a seed; ''.
    flaw_of: Callable[[HeldLease], str] = lambda _: ""
    _in_work: dict[HeldLease, None] = field(default_factory=dict)
    _broken_off: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def size(self) -> int:
        """Bytes of those that wait."""
        waiting = sum(len(payload) for _, payload in self._waiting)
        return waiting + sum(len(data) for _, _, data in self.to_begin.values())

    def add(self, record: HeldLease, payload: bytes) -> None:
        self._waiting.append((record, payload))
        self.on_arrival()

    def take(self, call: Callable[..., Any]) -> SeedLease | None:
        """The next seed for the spider; *call*: see `SeedLease`."""
        while self._waiting:
            record, payload = self._waiting.popleft()
            if record.task and (flaw := self.flaw_of(record)):
                self.reject(record, flaw)
                continue
            self._in_work[record] = None
            return SeedLease(self, record, payload, call)
        return None

    # What the spider has made of them

    def origin(self, mark: str) -> HeldLeases:
        """The lease of a request with this SEED_MARK, if it has not ended."""
        record = self._leases.records.get(mark)
        return () if record is None or record.settled else (record,)

    def done(self, record: HeldLease) -> None:
        """All requests made of a seed have come here, or were dropped on the way."""
        if record in self._in_work:
            self.forget(record)
            self._outputs.let_go((record,))

    def reject(self, record: HeldLease, reason: str) -> None:
        self.forget(record)
        self._rejects.add(record, reason, "seed")

    def forget(self, record: HeldLease) -> None:
        """The spider has nothing more to do with it."""
        self._in_work.pop(record, None)

    def broken_off(self, record: HeldLease, left: int) -> None:
        """Nobody asks for what comes behind a request of a seed; *left* of its own do.

        If they were wanted, whoever gets the seed makes them again.
        """
        if record not in self._in_work or not (left or record.single):
            self.done(record)
        elif record.id in self._broken_off:
            self.reject(
                record,
                "its requests were not taken twice: next_requests(), start() or what"
                " reads them ended early",
            )
        else:
            self._broken_off.add(record.id)
            record.invalidated = True
            self.done(record)

    # How many, and for how long

    def in_hand(self) -> int:
        """Those that will be requests at once; others wait for ``start()``."""
        count = len(self._waiting) + len(self.to_begin)
        return count if count and self.awaited() else 0

    def wanted(self, free: int) -> int:
        """How many to lease for *free* places.

        Seeds yield to pending requests, as start requests do in Scrapy. They fill the
        places that this worker's share of the pending requests leaves free: as a rule a
        seed becomes one request, and that one stays here. Suspects come some at a time,
        and nobody waits for them.
        """
        view = self._view
        if not self.most or view.to_be_alone or not self.awaited():
            return 0
        share = math.ceil((view.pending - view.suspects) / view.alive)
        return min(self.most, max(0, free - share))

    def return_unwanted(self) -> None:
        """Give back seeds that nobody here waits for, if another worker may."""
        now = time.monotonic()
        if self._waiting and self._view.alive > 1 and not self.awaited():
            returned = [record for record, _ in self._waiting]
            self._waiting.clear()
            self._outputs.give_back(returned)
            self.rests_until = now + _REST
        if now < self.rests_until:
            self._pacing.request(self.rests_until - now)

    def drop(self, ids: set[str]) -> list[HeldLease]:
        """Those with these order ids are no longer this worker's; returns theirs."""
        dropped = [record for record, _ in self._waiting if record.id in ids]
        begins = self.to_begin
        dropped += [begins.pop(id_)[0] for id_ in ids & begins.keys()]
        self._waiting = deque(e for e in self._waiting if e[0].id not in ids)
        return dropped

    def close(self) -> list[HeldLease]:
        """All of them, which this worker does not turn into requests any more."""
        left = [record for record, _ in self._waiting] + [*self._in_work]
        left += [record for record, _, _ in self.to_begin.values()]
        self.to_begin.clear()
        self._waiting.clear()
        self._in_work.clear()
        return left
