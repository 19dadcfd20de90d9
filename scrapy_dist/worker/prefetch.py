"""How many requests a worker has in hand."""

from __future__ import annotations

import math
import time

#: Seconds over which the rate of hand-outs is measured.
_RATE_WINDOW = 1.0
#: Seconds that the first of them count for at least.
_RATE_FIRST = 0.2
#: Requests kept in reserve at the most, for each place of the downloader, and in any case
#: allowed: whatever the clock says, what one worker holds nobody else can crawl.
_RESERVE_EACH, _RESERVE_LEAST = 8, 100
#: Requests that are held for places or time in any case.
_HELD_LEAST = 256


class Rate:
    """Events per second over the last second or so."""

    def __init__(self) -> None:
        self._start = 0.0
        self._count = 0
        self._last = 0.0

    def add(self) -> None:
        if not self._start:
            self._start = time.monotonic()
        self._count += 1

    def value(self) -> float:
        if not self._start:
            return 0.0
        elapsed = time.monotonic() - self._start
        if elapsed >= _RATE_WINDOW:
            self._last = self._count / elapsed
            self._start += elapsed
            self._count = 0
            return self._last
        return max(self._last, self._count / max(elapsed, _RATE_FIRST))


class Prefetch:
    """What the downloader, with *concurrency* places, will use, by what it has used.

    Times are in seconds. *round_trip*: from the start of an exchange until its leases are
    here; *pause*: between two exchanges of a worker that is busy.
    """

    def __init__(self, concurrency: int) -> None:
        self.rate = Rate()
        self._concurrency = concurrency
        #: Whether the downloader found nothing since Redis answered; 2 if so before.
        self._ran_dry = False
        self._thirst = 1

    def missed(self) -> None:
        """The downloader has asked and found nothing."""
        self._ran_dry = True

    def answered(self) -> None:
        """Redis has answered what was asked for last, however much it had."""
        self._thirst = 2 if self._ran_dry else 1
        self._ran_dry = False

    def reserve(self, round_trip: float) -> float:
        """What the downloader may take before the reply of an exchange is here.

        Twice the mean: a busy event loop starts many downloads in one turn, and reads
        the reply in another. A worker that runs dry there starts all of them at once
        from then on, and waits for all of them at once. And twice as much again after it
        has run dry: its rate tells what it got, not what it could do.
        """
        most = max(_RESERVE_LEAST, _RESERVE_EACH * self._concurrency)
        return min(2 * self.rate.value() * round_trip * self._thirst, most)

    def in_hand(self, handed: int, round_trip: float, pause: float) -> int:
        """How many requests should be here while *handed* are under way.

        Those for free places of the downloader, the reserve, and what is used between
        two exchanges.
        """
        free = self._concurrency - handed
        if free < 0:  # as many pages again may wait for the spider
            free = min(0, free + self._concurrency)
        return free + self.ahead(round_trip, pause)

    def ahead(self, round_trip: float, pause: float) -> int:
        """The reserve, and what is used between two exchanges."""
        between = math.ceil(self.rate.value() * pause * self._thirst)
        return int(self.reserve(round_trip)) + min(2 * self._concurrency, between)

    @property
    def most_held(self) -> int:
        """How many requests may wait here because their slots cannot start them."""
        return max(_HELD_LEAST, _RESERVE_EACH * self._concurrency)
