"""When the next exchange is due. No I/O, only timers of the event loop."""

from __future__ import annotations

import asyncio
import math
import random
import time
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy_dist.core.settings import Options
    from scrapy_dist.worker.outbox import Outbox
    from scrapy_dist.worker.view import View

#: Pending requests, for each place of a downloader, that are enough for everybody, and
#: how many times longer this worker waits for its next exchange then.
_PLENTY, _PATIENCE = 2, 2
#: Seconds between two tries while Redis does not answer: first, longest.
RETRY_FIRST, _RETRY_LONGEST = 0.1, 5.0
#: Seconds between two tries to store results in a Redis that is full.
_FULL_RETRY = 0.25
#: Seconds between two looks of an idle worker where Redis cannot wake it.
_POLL = 0.25
#: Seconds between two vain exchanges of a woken worker: first, longest.
_VAIN_FIRST, _VAIN_LONGEST = 0.01, 0.2
#: Seconds that a wake-up waits after a vain exchange at the most: many are woken at once.
_WOKEN_LONGEST = 0.02
#: Seconds without an exchange after which a hungry worker asks Redis to wake it.
_ARM = 0.02
#: Seconds between two beats: while commits tell that this worker lives, and at the most.
_BEAT_BUSY, _BEAT = 0.25, 5.0
#: Seconds that a round trip counts for at the most, and those up to which a longer one
#: than before is believed at once.
_ROUND_TRIP, _ROUND_TRIP_SURE = 1.0, 0.05


class Alarm(Enum):
    """Whether Redis is to wake this worker when there is something new."""

    OFF = "off"
    #: It will be asked to, unless an exchange comes first.
    PLANNED = "planned"
    ON = "on"


class Pacing:
    """Says when an exchange is due, to whoever waits in ``wait``; times in seconds."""

    def __init__(self, view: View, outbox: Outbox, options: Options) -> None:
        #: Exchanges so far.
        self.exchanges = 0
        self._view = view
        self._outbox = outbox
        self._flush = view.pause = options.flush_interval
        self._plenty = _PLENTY * options.concurrency
        self._beat_every = min(_BEAT, options.worker_ttl / 4)
        self._beat_busy = min(_BEAT_BUSY, self._beat_every)
        # Not longer than the others may wait for a beat when Redis is back.
        self._retry_longest = min(_RETRY_LONGEST, options.worker_ttl / 4)
        self._timers: asyncio.AbstractEventLoop | None = None
        self._arm: Callable[[], None] = lambda: None
        self._event = asyncio.Event()
        self._due = math.inf
        #: Whether what waits is sent soon enough.
        self._soon = False
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self.alarm = Alarm.OFF
        self._alarm_timer: asyncio.TimerHandle | None = None
        self._retry = self._vain = self._last = self._beat_at = 0.0

    def start(self, timers: asyncio.AbstractEventLoop, arm: Callable[[], None]) -> None:
        """Begin, with an exchange at once. *arm* asks Redis for a wake-up.

        What was asked for before is forgotten.
        """
        self._timers = timers
        self._arm = arm
        self.request()

    def stop(self) -> None:
        """No timer ends any more; who waits goes on."""
        self._timers = None
        for timer in (self._timer, self._alarm_timer):
            if timer is not None:
                timer.cancel()
        self._event.set()

    # What is asked for

    def request(self, delay: float = 0.0) -> None:
        """Ask for an exchange in *delay* seconds at the latest."""
        if self._timers is None:
            return
        self._soon = self._soon or delay <= self._view.pause
        now = time.monotonic()
        when = max(now + delay, self._not_before)
        if when >= self._due:
            return
        self._due = when
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when <= now:
            self._event.set()
        else:
            self._timer = self._timers.call_later(when - now, self._event.set)

    def something_waits(self) -> None:
        """Something waits to be sent: at once if it is a batch, else within a moment."""
        if self._soon and not self._outbox.full_batch:
            return
        at_once = self._outbox.full_batch and not self._view.is_full
        self.request(0.0 if at_once else self._view.pause)

    async def wait(self) -> None:
        """Return when an exchange is due, which is to begin at once."""
        await self._event.wait()
        self._begin()
        # What one callback yields reaches the scheduler over some turns of the loop; let
        # it come together, so that one commit holds it.
        for _ in range(3):
            await asyncio.sleep(0)
        if self._soon:
            self._begin()

    def _begin(self) -> None:
        """The exchange that begins now is what was asked for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._event.clear()
        self._due = math.inf
        self._soon = False

    # What has become of exchanges

    def exchanged(self, seconds: float) -> None:
        """An exchange was answered in *seconds*.

        The round trip is smoothed; a stall of Redis is none, however long it was.
        """
        self._last = time.monotonic()
        view = self._view
        if self.exchanges:
            most = min(_ROUND_TRIP, max(_ROUND_TRIP_SURE, 2 * view.round_trip))
            view.round_trip += 0.2 * (min(seconds, most) - view.round_trip)
        else:
            view.round_trip = min(seconds, _ROUND_TRIP)
        self.exchanges += 1

    def failed(self) -> None:
        """An exchange has failed: the next one is tried after a pause."""
        self._retry = min(max(self._retry * 2, RETRY_FIRST), self._retry_longest)
        delay = self._retry * (0.5 + random.random())
        self._not_before = time.monotonic() + delay
        self.request(delay)

    def answered(self) -> None:
        """An exchange was all right; one behind a failure brings no leases."""
        failed_before, self._retry, self._not_before = self._retry > 0, 0.0, 0.0
        if failed_before:
            self.request()

    @property
    def beat_is_due(self) -> bool:
        """Whether the next exchange is to beat, although its commits tell the same."""
        return time.monotonic() - self._beat_at >= self._beat_busy

    def beaten(self, at: float) -> None:
        """A beat was sent *at* that moment (`time.monotonic`)."""
        self._beat_at = at

    # What is to come

    def rest(self) -> None:
        """Nothing has to be done before the next beat."""
        view = self._view
        # Nobody waits for what this worker has while there is enough for all.
        everybody_busy = view.pending + view.seeds_left >= self._plenty * view.alive
        view.pause = self._flush * (_PATIENCE if everybody_busy else 1)
        self.request(self._beat_every)

    def outputs_wait(self) -> None:
        """The outbox is not empty."""
        if self._view.is_full and not self._outbox.has_empty_ends:
            self.request(_FULL_RETRY)
        else:
            self.something_waits()

    def others_are_silent(self) -> None:
        """What they hold is to be taken from them."""
        self.request(self._flush)

    def sated(self) -> None:
        """The last exchange has brought something."""
        self._vain = 0.0

    def hungry(
        self, *, vain: bool, lead_time: float, opening: float | None = None
    ) -> None:
        """This worker wants more. *vain*: the last exchange has brought nothing.

        It will ask by itself in *lead_time* seconds. *opening*: seconds before which there
        will be nothing for it, None: nobody knows.
        """
        view = self._view
        if vain:
            self._vain = min(max(self._vain * 2, _VAIN_FIRST), _VAIN_LONGEST)
        if (view.pending or view.seeds_left) and not view.paused:
            # Others had their share first, or a suspect is in hand.
            pause = self._vain if opening is None else opening
            self.request(max(self._flush, pause))
        elif self.alarm is Alarm.OFF and self._timers is not None:
            # A worker that goes ahead will ask by itself, and so will one that has just
            # got something to do; the arming takes connections and round trips.
            delay = max(_ARM, self._vain, 2 * max(lead_time, view.round_trip))
            self.alarm = Alarm.PLANNED
            self._alarm_timer = self._timers.call_later(delay, self._set_alarm)

    def _set_alarm(self) -> None:
        self.alarm, self._alarm_timer = Alarm.ON, None
        self._arm()

    def unplan_alarm(self) -> None:
        """An exchange comes first."""
        if self.alarm is Alarm.PLANNED:
            self._alarm_off()

    def _alarm_off(self) -> None:
        if self._alarm_timer is not None:
            self._alarm_timer.cancel()
        self.alarm, self._alarm_timer = Alarm.OFF, None

    def armed(self, *, watched: bool) -> None:
        """Redis was asked; look once more: something may have come before."""
        if not watched:
            self._alarm_off()
            self.request(_POLL)
        elif self.alarm is Alarm.ON:
            self.request()

    def woken(self) -> None:
        """Redis says that there is something new."""
        self._alarm_off()
        vain = min(self._vain, _WOKEN_LONGEST)
        self.request(max(0.0, self._last + vain - time.monotonic()))
