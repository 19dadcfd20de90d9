"""The gate in front of the downloader: nothing starts in a slot that this worker has not.

Requests of Redis come with their slots. Those that no lease stands for (robots.txt, media,
where a redirect leads) and those that stay in this worker may be of any slot: the gate asks
for it on their behalf, with the next exchange.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scrapy.exceptions import IgnoreRequest

from scrapy_dist.base.waits import sleep_until
from scrapy_dist.core.slots import drop_inherited_slot

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.core.slots import Slots
    from scrapy_dist.worker.leases import Leases
    from scrapy_dist.worker.pacing import Pacing
    from scrapy_dist.worker.politeness import Politeness
    from scrapy_dist.worker.view import EngineView

#: Seconds after which what waits looks again, whatever has happened.
_LOOK = 0.5


@dataclass(slots=True)
class _Way:
    """The way into one slot: requests go one after the other, as they have come."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class Gate:
    """Lets requests start when *politeness* allows it."""

    def __init__(
        self,
        engine: EngineView,
        politeness: Politeness,
        slots: Slots,
        leases: Leases,
        pacing: Pacing,
    ) -> None:
        self._engine = engine
        self._politeness = politeness
        self._slots = slots
        self._leases = leases
        self._pacing = pacing
        self._ways: dict[int, _Way] = {}
        self._event = asyncio.Event()
        politeness.changed = self._changed
        politeness.unused = pacing.something_waits

    def _changed(self) -> None:
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def admit(self, request: Request) -> None:
        """Return when *request* is to start, at once.

        Raises IgnoreRequest if the worker closes and may not start anything any more: what
        it had of Redis is given back then.
        """
        drop_inherited_slot(request)
        number = self._slots.number(request)
        way = self._ways.setdefault(number, _Way())
        way.waiting += 1
        self._politeness.wishes.add(number)
        try:
            async with way.lock:
                while (wait := self._start(request)) is None or wait > 0:
                    self._give_up_if_closing(request)
                    if wait is None:
                        self._pacing.request(
                            self._politeness.wishes.next_look(time.monotonic()) or 0.0
                        )
                    await sleep_until(
                        self._event, _LOOK if wait is None else min(wait, _LOOK)
                    )
        finally:
            self._politeness.wishes.add(number, -1)
            way.waiting -= 1
            if not way.waiting:
                del self._ways[number]

    def _start(self, request: Request) -> float | None:
        """Start *request* if it may; else what `Politeness.may_start` says."""
        self._politeness.look()
        now = time.monotonic()
        wait = self._politeness.may_start(request, now)
        if wait == 0:
            self._politeness.start(request, now)
        return wait

    def _give_up_if_closing(self, request: Request) -> None:
        is_fenced = self._politeness.is_fenced(time.monotonic())
        if not (is_fenced and self._engine.closing()):
            return
        handed = self._leases.handed
        if request in handed:
            waiting = [request]
        else:  # as for media, of a page in the scraper: nobody knows which
            waiting = [each for each in self._engine.in_scraper() if each in handed]
        for each in waiting:
            for record in handed[each]:
                record.invalidated = True
                record.drop_outputs()
        raise IgnoreRequest("this worker closes, and Redis does not answer")
