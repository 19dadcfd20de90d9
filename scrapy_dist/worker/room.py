"""Whether the downloader can start one more request of a slot, and if not, when."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.worker.lines import Line, Lines
    from scrapy_dist.worker.politeness import Politeness
    from scrapy_dist.worker.view import EngineView

#: Seconds that a request may wait in the downloader for the delay of its slot to be over,
#: so that it starts in time even if this process is busy then.
_LEAD = 0.02
#: Seconds between two looks at a slot that is to start something, at least; and what part
#: of its delay.
_LOOK, _LOOK_PART = 0.01, 4


class Room:
    """Counts the requests in the downloader by its slots, and knows how many more may go.

    Scrapy's downloader takes as many requests as there are places in all, and those that
    wait there for a slot keep these places from others. So a slot gets no more than it
    can start now or soon. *places*: those in all.
    """

    def __init__(self, engine: EngineView, lines: Lines, places: int) -> None:
        self._engine = engine
        self._lines, self._places = lines, places
        self._keys: dict[Request, str] = {}
        self._active: dict[str, int] = {}

    def look(self) -> None:
        """See which requests have come to and left the downloader."""
        now, keys, active = self._engine.in_downloader(), self._keys, self._active
        for request in keys.keys() - now:
            key = keys.pop(request)
            if active[key] == 1:
                del active[key]
            else:
                active[key] -= 1
        for request in now.difference(keys):
            key = keys[request] = self._engine.download_slot(request)
            active[key] = active.get(key, 0) + 1

    def active(self, line: Line, first: Request) -> int:
        """Requests in the downloader that are of the same slot as the *first* of *line*."""
        if line.keyed is not first:
            line.key, line.keyed = self._engine.download_slot(first), first
        return self._active.get(line.key, 0)

    def goes(self, line: Line, request: Request) -> None:
        """*request*, which was the first one of *line*, goes to the downloader now."""
        key = line.key if line.keyed is request else self._engine.download_slot(request)
        line.keyed = None
        if request not in self._keys:
            self._keys[request] = key
            self._active[key] = self._active.get(key, 0) + 1
        if line.is_open:
            line.is_open = False
            self._engine.end_delay(key)

    def opens_at(self, line: Line, first: Request, active: int, now: float) -> float:
        """When *first* may go to the downloader (`time.monotonic`); *now* or before: now.

        Infinite: when one of the *active* ones of its slot leaves the downloader. Both as
        `active` has found them.
        """
        slot = self._engine.download_state(line.key, first)
        line.is_open = False
        if slot is None:
            return 0.0
        if not slot.delay:
            # One more waits there once all are taken. Of several that wait Scrapy 2.19
            # starts all when one place is free, and so it does with those of one turn.
            most = slot.places + (slot.transferring >= slot.places)
            return 0.0 if active < most else math.inf
        if slot.transferring >= slot.places:
            return math.inf
        if active > slot.transferring:
            expected = slot.delay - slot.since
            return now + max(expected, slot.delay / _LOOK_PART, _LOOK)
        shortest = slot.delay * (1 - slot.jitter) - slot.since
        if slot.jitter and slot.rests is not None:
            # The downloader draws a delay again and again until one is over, and a request
            # that waits there for it keeps a place that others can use.
            rests = max(slot.rests, shortest)
            line.is_open = rests <= 0
            if line.is_open or self._are_many():
                return now + rests
        return now + shortest - _LEAD

    def _are_many(self) -> bool:
        """Whether slots might want for places if a request of each had one."""
        return len(self._keys) + len(self._lines.lines) > self._places

    def could_start(
        self, line: Line, first: Request, within: float
    ) -> tuple[float, float | None]:
        """How many of *line* the downloader could start in *within* seconds.

        And when the first of them, None where there is no delay: they have a place now.
        """
        active = self.active(line, first)
        slot = self._engine.download_state(line.key, first)
        if slot is None:
            return math.inf, None
        if not slot.delay:
            return max(0, slot.places + 1 - active), None
        shortest = slot.delay * max(1 - slot.jitter, 0.5)
        before = max(0, active - slot.transferring)
        rests = slot.rests
        if rests is None or not slot.jitter:
            rests = max(0.0, shortest - slot.since)
        waits = rests + before * shortest
        if waits > within:
            return 0, waits
        return min(slot.places, 1 + (within - waits) // shortest), waits


def room_of(
    engine: EngineView, lines: Lines, places: int, politeness: Politeness | None
) -> Room:
    """The room of a worker that has *lines*; *politeness* None: each worker for itself."""
    if politeness is None:
        return Room(engine, lines, places)
    politeness.waiting, politeness.waiting_slots = lines.waiting, lines.numbers
    engine.watch_downloads(politeness.reached, politeness.sent)
    return PoliteRoom(engine, lines, places, politeness)


class PoliteRoom(Room):
    """As `Room`, where *politeness* says when a slot of the frontier may be asked."""

    def __init__(
        self, engine: EngineView, lines: Lines, places: int, politeness: Politeness
    ) -> None:
        super().__init__(engine, lines, places)
        self._politeness = politeness

    def look(self) -> None:
        super().look()
        self._politeness.look()

    def goes(self, line: Line, request: Request) -> None:
        super().goes(line, request)
        self._politeness.handed(line.number, request, time.monotonic())

    def opens_at(self, line: Line, first: Request, active: int, now: float) -> float:
        return self._politeness.opens_at(line.number, now)

    def could_start(
        self, line: Line, first: Request, within: float
    ) -> tuple[float, float | None]:
        return self._politeness.could_start(line.number, within)
