"""How much of what waits in this worker can start soon, and of which slots there is enough."""

from __future__ import annotations

import math
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
        #: Requests that wait here and cannot start soon.
        self.held_back = 0
        self._lines = lines
        self._room = room
        self._prefetch = prefetch
        self._view = view
        self._at, self._count = 0.0, -1

    def look(self) -> None:
        """Survey all lines; costs some microseconds for each."""
        if not self._lines.by_slot:
            return
        now = time.monotonic()
        if now - self._at < _FRESH and len(self._lines) == self._count:
            return
        self._at, self._count = now, len(self._lines)
        self._room.look()
        self.enough, self.held_back = [], 0
        for line in self._lines:
            waiting, soon = len(line), self._soon(line, now)
            if soon < waiting:
                self.held_back += waiting - math.ceil(soon)
            # And a spare one, so that a line does not end with each start.
            if waiting > soon:
                self.enough.append(line.number)

    def _soon(self, line: Line, now: float) -> float:
        """How many requests of *line* may start before more of it could be here."""
        request = line.first
        if request is None:
            return math.inf  # nobody has tried
        view = self._view
        within = 2 * view.round_trip + view.pause
        free, has_delay = self._room.could_start(line, request, within)
        if has_delay:
            return free
        if len(self._lines.lines) == 1:
            return free + self._prefetch.ahead(view.round_trip, view.pause)
        return free + math.ceil(2 * line.rate(now) * within)
