"""The gate in front of the downloader: nothing starts in a slot that this worker has not.

Requests of Redis come with their slots. Those that no lease stands for (robots.txt, media,
where a redirect leads) and those that stay in this worker may be of any slot: the gate asks
for it on their behalf, with the next exchange.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from scrapy.exceptions import IgnoreRequest

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.core.slots import Slots
    from scrapy_dist.worker.leases import Leases
    from scrapy_dist.worker.pacing import Pacing
    from scrapy_dist.worker.politeness import Politeness
    from scrapy_dist.worker.view import EngineView

#: Seconds after which what waits looks again, whatever has happened.
_LOOK = 0.5


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
        self._event = asyncio.Event()
        politeness.changed = self._changed

    def _changed(self) -> None:
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def admit(self, request: Request) -> None:
        """Return when *request* is to start, at once.

        Raises IgnoreRequest if the worker closes and may not start anything any more: what
        it had of Redis is given back then.
        """
        number = self._slots.number(request)
        self._politeness.wish(number, 1)
        try:
            while not self._starts(request):
                self._give_up_if_closing(request)
                await self._wait(request)
        finally:
            self._politeness.wish(number, -1)
        self._engine.start_now(request)
        # It begins in the next turn of the loop, which may take long: count from there.
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._politeness.began, request)

    def _starts(self, request: Request) -> bool:
        now = time.monotonic()
        self._politeness.look()
        if self._politeness.may_start(request, now) != 0.0:
            return False
        self._politeness.start(request, now)
        return True

    async def _wait(self, request: Request) -> None:
        wait = self._politeness.may_start(request, time.monotonic())
        if wait is None:
            self._pacing.request()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(
                self._event.wait(), _LOOK if wait is None else min(wait, _LOOK)
            )

    def _give_up_if_closing(self, request: Request) -> None:
        is_fenced = self._politeness.is_fenced(time.monotonic())
        if not (is_fenced and self._engine.closing()):
            return
        for record in self._leases.handed.get(request, ()):
            record.invalidated = True
            record.drop_outputs()
        raise IgnoreRequest("this worker closes, and Redis does not answer")
