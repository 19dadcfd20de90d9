"""How much of what waits in this worker can start soon, and of which slots there is enough."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy_dist.worker.lines import Line, Lines
    from scrapy_dist.worker.prefetch import Prefetch
    from scrapy_dist.worker.room import Room
    from scrapy_dist.worker.view import View

#: Seconds that a survey holds while as many requests wait.
_FRESH = 0.005


class Stock:
    """Surveys *lines*, where slots take turns.

    What waits for the delay or for a place of its slot is not in hand: others could start.
    """

    def __init__(
        self, lines: Lines, room: Room, prefetch: Prefetch, view: View
    ) -> None:
        #: Numbers of slots of which this worker holds enough.
        self.enough: list[int] = []
        #: Requests that wait here and cannot start soon; and those that can, but not now.
        self.held_back = self.later = 0
        self._lines = lines
        self._room = room
        self._prefetch = prefetch
        self._view = view
        self._at, self._count = 0.0, -1
        #: Slots with a delay, and requests that they lack until they have enough.
        self._with_delay = self._lacking = 0

    def look(self) -> None:
        """Survey all lines; costs some microseconds for each."""
        if not self._lines.by_slot:
            return
        now = time.monotonic()
        if now - self._at < _FRESH and len(self._lines) == self._count:
            return
        self._at, self._count = now, len(self._lines)
        self._room.look()
        self.enough, self.held_back, self.later = [], 0, 0
        self._with_delay = self._lacking = 0
        for line in self._lines:
            waiting, (soon, waits) = len(line), self._soon(line, now)
            if soon < waiting:
                self.held_back += waiting - math.ceil(soon)
            if waits is not None:
                self._with_delay += 1
                started = min(waiting, math.ceil(soon))
                self.later += max(0, started - (waits <= 0))
                self._lacking += max(0, math.ceil(soon) + 1 - waiting)
            # And a spare one, so that a line does not end with each start.
            if waiting > soon:
                self.enough.append(line.number)

    @property
    def most(self) -> int:
        """How many to lease at the most.

        Where Redis had nothing but of slots that have a line, and all of them have delays,
        that is what they lack, and one of a slot that is new.
        """
        lines = self._lines
        if lines.has_new or not len(lines) or self._with_delay < len(lines.lines):
            return sys.maxsize
        return self._lacking + 1

    def _soon(self, line: Line, now: float) -> tuple[float, float | None]:
        """How many requests of *line* may start before more of it could be here.

        And seconds until the first of them may, where there is a delay.
        """
        request = line.first
        if request is None:
            return math.inf, None  # nobody has tried
        view = self._view
        within = 2 * view.round_trip + view.pause
        free, waits = self._room.could_start(line, request, within)
        if waits is not None:
            return free, waits
        if len(self._lines.lines) == 1:
            free += self._prefetch.ahead(view.round_trip, view.pause)
        else:
            free += math.ceil(2 * line.rate.value() * within)
        return free, None
