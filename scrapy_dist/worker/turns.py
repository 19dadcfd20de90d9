"""Which slot is next: that with the fewest active downloads, of those that can start one.

So does Scrapy's DownloaderAwarePriorityQueue, but it hands out what has to wait, too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from scrapy_dist.core.slots import NO_SLOT

if TYPE_CHECKING:
    from scrapy_dist.worker.lines import Line, Lines
    from scrapy_dist.worker.room import Room
    from scrapy_dist.worker.view import EngineView

#: Seconds by which a timer may be early.
_EARLY = 0.001


class Turns:
    """Chooses among *lines*; *decode* decodes the first one of a line, if it can."""

    def __init__(
        self,
        engine: EngineView,
        lines: Lines,
        room: Room,
        decode: Callable[[Line], object],
    ) -> None:
        self._engine = engine
        self._lines = lines
        self.room = room
        self._decode = decode
        #: When the engine is woken for a slot that rests (`time.monotonic`).
        self._wakes_at = 0.0

    def next(self) -> Line | None:
        """The line whose turn it is, its first request decoded; None: none for now."""
        lines = self._lines
        if not lines.by_slot:
            (line,) = lines
            self._decode(line)
            return line if line.first is not None else None
        if not len(lines):
            return None
        room = self.room
        room.look()
        now = time.monotonic()
        unknown = lines.lines.get(NO_SLOT)
        if unknown is not None:
            self._decode(unknown)  # which puts them into their lines
        best, fewest, opens_at = None, math.inf, math.inf
        for line in list(lines):
            if line is unknown:
                continue
            if line.rests_until > now:
                opens_at = min(opens_at, line.rests_until)
                continue
            self._decode(line)
            request = line.first
            if request is None:
                continue
            active = room.active(line, request)
            if active >= fewest:
                continue
            opens = room.opens_at(line, request, active, now)
            if opens > now:
                opens_at = min(opens_at, opens)
                # Without an end it is looked at again, as downloads end at any time.
                line.rests_until = opens if opens < math.inf else 0.0
                continue
            best, fewest = line, active
            if not active:
                break
        if best is None and opens_at < math.inf:
            self._wake_at(opens_at, now)
        return best

    def _wake_at(self, when: float, now: float) -> None:
        """Let the engine ask again; it does so by itself only when a download ends."""
        # A timer may end a little too early.
        if now + _EARLY < self._wakes_at <= when:
            return
        self._wakes_at = when
        self._engine.wake(when - now)
