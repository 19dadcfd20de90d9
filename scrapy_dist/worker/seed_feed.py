"""When a spider gets its seeds, and what a spider that waits for some is told.

Seeds are leased only while somebody waits for them: ``start()``, or, when that is over,
the worker itself, which then calls ``schedule_next_requests()``. So a ``start()`` that
does something else first takes none from the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scrapy_dist.base.escaping import spider_logger
from scrapy_dist.worker.seed_thread import SeedThread

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.worker.queues import Queues
    from scrapy_dist.worker.seeds import SeedLease
    from scrapy_dist.worker.view import EngineView

#: Seconds after which seeds that nobody asks for are for others.
PATIENCE = 1.0
#: Seconds between two vain calls of a spider that reads seeds by itself, as a part of
#: those between two looks of Scrapy's engine at an idle spider.
_AGAIN = 0.98
#: Seconds until the next look at a spider that is asked for the last time.
_LOOK = 0.25


class SeedFeed:
    """Brings seeds to *spider*, a ``RedisMixin``.

    *limit*: seconds without activity of any worker after which it closes; None: never.
    """

    def __init__(
        self,
        engine: EngineView,
        spider: Any,
        queues: Queues,
        *,
        limit: float | None,
        is_idle: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._spider = spider
        self._logger = spider_logger(__name__, spider)
        self._queues = queues
        self._limit = limit
        self._is_idle = is_idle
        self._ready = asyncio.Event()
        self._waiting = 0
        self._asked_at = -PATIENCE
        self._start_over = False
        self._closed = False
        self._calling = False
        self._ticker: asyncio.Handle | None = None
        #: Whether ``start()`` has come to its seeds.
        self.has_waited = False
        #: Whether nobody has done anything for the limit.
        self.over = False
        # For a spider that reads seeds by itself.
        self._own = not spider.seeds_are_leased
        self._again_at = 0.0
        self._called_at = 0.0
        self._seeds_seen = 0
        self.thread: SeedThread | None = None
        #: For a ``spider_idle()`` that reads Redis by itself.
        self.idle_thread: SeedThread | None = None
        self._make_threads()
        seeds = queues.seeds
        seeds.most = 0 if self._own else spider.most_seeds
        seeds.are_read = True
        queues.beginnings.find = spider.find_task
        seeds.on_arrival = self._arrived
        seeds.awaited = self.awaited

    def _make_threads(self) -> None:
        spider, engine = self._spider, self._engine
        if spider.seeds_in_thread or spider.schedules_in_thread:
            alone = spider.schedules_in_thread
            self.thread = SeedThread(
                spider.schedule_by_itself if alone else spider.next_requests,
                engine.crawl,
                self._ended,
                batch=spider.redis_batch_size,
                spider=spider,
                name="schedule_next_requests" if alone else "next_requests",
            )
        if spider.idles_in_thread:
            self.idle_thread = SeedThread(
                spider.idle_by_itself,
                engine.crawl,
                lambda _: None,
                batch=1,
                spider=spider,
                name="spider_idle",
            )
        if spider.schedules_in_thread or spider.idles_in_thread:
            engine.crawl_from_threads(self._crawl_from_thread)

    def _crawl_from_thread(self, request: Request) -> None:
        for thread in (self.thread, self.idle_thread):
            if thread is not None and thread.is_current:
                thread.crawl(request)
                return
        raise RuntimeError("engine.crawl() was called in a thread of the spider's own")

    def awaited(self) -> bool:
        """Whether somebody waits for seeds, or takes one after the other."""
        if self._waiting or self._is_start_over():
            return True
        return time.monotonic() - self._asked_at < PATIENCE

    def _is_start_over(self) -> bool:
        if not self._start_over:
            self._start_over = self._engine.start_is_over()
        return self._start_over

    async def wait(self) -> bool:
        """Wait until seeds are here; false when there are no more to expect."""
        self._waiting += 1
        self.has_waited = True
        try:
            while not self._queues.seeds:
                if self._closed or self.over or self._engine.closing():
                    return False
                self._ready.clear()
                if self._queues.wanted() > 0:
                    self._queues.pacing.request()
                self._tick_soon()
                await self._ready.wait()
        finally:
            self._waiting -= 1
        return True

    def take(self) -> SeedLease | None:
        """A seed that is here; for the spider, also where it runs in a thread."""
        call = _call if self.thread is None else self.thread.call
        found: SeedLease | None = call(self._take, call)
        return found

    def _take(self, call: Callable[..., Any]) -> SeedLease | None:
        seed = self._queues.seeds.take(call)
        if seed is not None:
            self._asked_at = time.monotonic()
        return seed

    def hungry(self) -> None:
        """The downloader has nothing to do."""
        if not self._start_over:
            if not self._is_start_over():
                return
            self._queues.pacing.request()
        if self._own:
            self._look_for_more()
        elif self._queues.seeds:
            self._call_soon()

    def close(self) -> None:
        """Nobody gets any more."""
        self._closed = True
        if self.idle_thread is not None:
            self.idle_thread.close()
        self._ready.set()
        if self._ticker is not None:
            self._ticker.cancel()

    # Seeds have come

    def _arrived(self) -> None:
        self._ready.set()
        if self._own or self.thread is not None or self._is_start_over():
            self._call_soon()
        elif not self._waiting:
            # They may have to go back.
            self._queues.pacing.request(PATIENCE)

    def _call_soon(self) -> None:
        if not self._calling:
            self._calling = True
            asyncio.get_running_loop().call_soon(self._call)

    def _call(self) -> None:
        """Let the spider schedule the seeds that are here."""
        self._calling = False
        if self._closed or self._engine.closing():
            return
        try:
            if self._own and self._queues.seeds:
                # Leased in spite of all: a worker that died, or was stopped, had them.
                self._spider.schedule_seeds()
            else:
                self._called_at = time.monotonic()
                self._spider.schedule_next_requests()
        except Exception:
            self._logger.exception("schedule_next_requests() failed")

    # Spiders that read seeds by themselves

    def _look_for_more(self) -> None:
        view = self._queues.view
        if self._closed or view.paused or view.pending > view.suspects:
            return
        if time.monotonic() < self._again_at or self._is_busy():
            return
        self._wait_for_heartbeat()
        before = self._amount()
        self._call()
        if self._amount() > before:
            self._again_at = 0.0

    def _wait_for_heartbeat(self) -> None:
        self._again_at = time.monotonic() + _AGAIN * self._engine.heartbeat

    def _is_busy(self) -> bool:
        return self.thread is not None and self.thread.busy

    def _amount(self) -> int:
        return len(self._queues) + len(self._queues.outbox)

    def _ended(self, count: int) -> None:
        """A run in the thread is over; it has brought *count* requests."""
        self._wait_for_heartbeat()
        if count:
            self._again_at = 0.0
        if self._queues.seeds:
            self._call_soon()
        elif not count:
            self._queues.pacing.request(_LOOK)

    # Idle

    def busy(self, seeds: int) -> None:
        """There is something to do for somebody; so many *seeds* are in Redis."""
        self.over = False
        if self._own and seeds != self._seeds_seen and self._is_start_over():
            self._again_at = 0.0
            self._look_for_more()
        self._seeds_seen = seeds

    def nothing_left(self, idle: float, *, was_idle: bool) -> float | None:
        """Nobody has done anything for *idle* seconds; when to look again, in seconds."""
        if not was_idle:
            self._engine.wake()
        self._tick_soon()
        if self._limit is None:
            return None
        if idle < self._limit:
            self.over = False
            return self._limit - idle
        if self._own and not self._looked_for(idle - self._limit):
            return _LOOK
        self.over = True
        self._ready.set()
        self._engine.wake()
        return None

    def _looked_for(self, seconds: float) -> bool:
        """Whether the spider has looked for seeds in the last *seconds*; else it does."""
        if self._is_start_over() and not self._is_busy():
            if self._called_at >= time.monotonic() - seconds:
                return True
            self._again_at = 0.0
            self._look_for_more()
        return not self._is_start_over()

    def _tick_soon(self) -> None:
        if self._ticker is None and self._waiting and self._is_idle():
            self._ticker = asyncio.get_running_loop().call_soon(self._tick)

    def _tick(self) -> None:
        """Tell that the spider is idle: for Scrapy it is not while ``start()`` waits."""
        self._ticker = None
        if self._closed or not (self._is_idle() and self._waiting):
            return
        self._ticker = asyncio.get_running_loop().call_later(
            self._engine.heartbeat, self._tick
        )
        self._engine.tell_idle()


def _call(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)
