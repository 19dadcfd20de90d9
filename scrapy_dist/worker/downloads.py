"""Slots of Scrapy's downloader: their state and their delays.

Of private names it has one, ``CallLaterResult._timer_handle``; see `engine`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from scrapy.core import downloader
from twisted.internet.base import DelayedCall

from scrapy_dist.worker.view import Downloads

if TYPE_CHECKING:
    from collections.abc import Callable

_HAS_JITTER = hasattr(downloader.Slot, "jitter")
#: The clock of ``Slot.lastseen``.
clock: Callable[[], float] = getattr(downloader, "monotonic", time.time)
#: Seconds that a timer takes which is over and has not been called yet.
_AT_ONCE = 0.001


def state(slot: Any) -> Downloads:
    """What is known of *slot*."""
    since = clock() - slot.lastseen
    rests = _rests(slot) if slot.delay else 0.0
    under_way = len(slot.transferring)
    return Downloads(
        slot.concurrency, slot.delay, _jitter(slot), under_way, since, rests
    )


def _jitter(slot: Any) -> Any:
    return slot.jitter if _HAS_JITTER else 0.5 * slot.randomize_delay


def _rests(slot: Any) -> float | None:
    """Seconds until *slot* looks whether its delay is over; see `Downloads`."""
    later = getattr(slot, "latercall", False)
    if later is None:
        return 0.0
    handle: asyncio.TimerHandle | None = getattr(later, "_timer_handle", None)
    if handle is not None:  # from Scrapy 2.14 on
        return max(_AT_ONCE, handle.when() - asyncio.get_running_loop().time())
    if not isinstance(later, DelayedCall):
        return None
    return max(_AT_ONCE, later.getTime() - later.seconds()) if later.active() else 0.0


def end_delay(slot: Any) -> None:
    """Let the next request of *slot* start at once, if the delay is over."""
    if _rests(slot) == 0.0:
        # Not 0: the downloader forgets slots that are as old as that.
        longest = slot.delay * (1 + _jitter(slot))
        slot.lastseen = min(slot.lastseen, clock() - longest)


def start_now(slot: Any) -> None:
    """Let the next request of *slot* start at once, whatever its delay."""
    slot.lastseen = 0
    latercall, slot.latercall = slot.latercall, None
    # Before Scrapy 2.14 one that is over is still there.
    if latercall is not None and getattr(latercall, "active", lambda: True)():
        latercall.cancel()
