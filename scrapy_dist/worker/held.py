"""A slot that a worker of a polite crawl may ask."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scrapy_dist.core.politeness import Renewal, Rules, Yield

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.worker.view import Downloads


#: Seconds of starts that one grant is for, and requests in it at the most.
HORIZON, PORTION = 0.5, 16
#: Seconds for which a connection to a host is there, more or less.
_CONNECTED = 60.0
#: Seconds for which a slot is kept that is not used, while its worker waits for another.
_SPARE = 0.2


def portion_of(delay: float) -> int:
    """Requests that come with a slot with *delay*; 1 without."""
    return min(PORTION, 1 + int(HORIZON / delay)) if delay > 0 else 1


@dataclass(eq=False, slots=True)
class Held:
    """A slot that this worker may ask; times are those of `time.monotonic`.

    *seats*: their names and places. *since*: when it got the slot. *next_start*: before
    that no download may start. *coming* are requests on their way to the gate, *active*
    those behind it that have not left the downloader.
    """

    number: int
    since: float
    delay: float = 0.0
    seats: dict[str, int] = field(default_factory=dict)
    next_start: float = 0.0
    #: Seconds from the last start to the next one: the delay, with its jitter.
    gap: float = 0.0
    #: Whether the last start was the first one for long, which makes a connection.
    connects: bool = False
    coming: set[Request] = field(default_factory=set)
    active: set[Request] = field(default_factory=set)
    #: Whether another one waits to visit it, or all seats but the first are too many.
    is_wanted: bool = False
    #: Whether nothing came when more was asked for.
    in_vain: bool = False
    #: What this worker has learned of the slot, to be kept.
    learned: Rules | None = None

    @property
    def places(self) -> int:
        return sum(self.seats.values())

    @property
    def busy(self) -> int:
        return len(self.coming) + len(self.active)

    @property
    def portion(self) -> int:
        """Requests that this worker has in hand of it, at the most."""
        if self.delay > 0:
            return portion_of(self.delay)
        return max(1, min(PORTION, self.places))

    def renewals(self, more: int) -> list[Renewal]:
        """Of all seats, for *more* requests each.

        Until Redis answers there may be as many downloads as this worker goes by, or those
        that there are, if it had more places before.
        """
        over = max(0, self.busy - self.places)
        return [Renewal(name, more, count + over) for name, count in self.seats.items()]

    def yields(self, now: float) -> list[Yield]:
        """All seats, to be given back."""
        rest = max(0.0, self.next_start - now) if self.delay > 0 else 0.0
        return [Yield(name, rest, self.learned) for name in self.seats]

    def is_unused(self, now: float) -> bool:
        """Whether something could have started for long, and nothing has."""
        return not self.busy and now - max(self.since, self.next_start) >= _SPARE

    def learn(self, slot: Downloads | None) -> None:
        """AutoThrottle may have changed the delay: it is that of all workers.

        *slot*: of the downloader.
        """
        if slot is not None and slot.delay > 0 and slot.delay != self.delay:
            self.delay = slot.delay
            self.learned = Rules(slot.delay, places=0)  # as many as before

    def start(
        self, request: Request, now: float, slot: Downloads | None, raised: float = 0.0
    ) -> None:
        """*request* starts; *slot*: that of the downloader, as it was before.

        *raised*: the delay that counts if it is longer.
        """
        self.coming.discard(request)
        self.active.add(request)
        if self.delay > 0:
            jitter = 0.0 if slot is None else slot.jitter
            delay = max(self.delay, raised)
            self.gap = delay * max(0.0, 1 + jitter * random.uniform(-1, 1))
            self.next_start = now + self.gap
            self.connects = slot is not None and slot.since > _CONNECTED

    def ended(self, now: float) -> None:
        """A download has ended; one that made its connection first may have come so late."""
        if self.connects and self.next_start > now:
            self.next_start = max(self.next_start, now + self.gap)

    def could_start(self, within: float, now: float) -> tuple[int, float | None]:
        """How many requests may be handed out in *within* seconds, and when the first.

        Behind those that are on their way; None where there is no delay.
        """
        free = max(0, self.places - self.busy)
        if self.delay <= 0:
            return free, None
        waits = max(0.0, self.next_start - now) + len(self.coming) * self.delay
        return min(free, max(0, int(1 + (within - waits) // self.delay))), waits
