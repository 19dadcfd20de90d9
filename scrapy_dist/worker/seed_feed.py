"""When a spider gets its seeds, and what a spider that waits for some is told.

Seeds are leased only while somebody waits for them: ``start()``, or, when that is over,
the worker itself, which then calls ``schedule_next_requests()``. So a ``start()`` that
does something else first takes none from the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy.exceptions import CloseSpider, DontCloseSpider

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


@dataclass(eq=False)
class SeedFeed:
    """Brings seeds to the spider, a ``RedisMixin``."""

    _engine: EngineView
    _spider: Any
    _queues: Queues
    _is_idle: Callable[[], bool]
    _waiting: int = 0
    _asked_at: float = -PATIENCE
    _start_over: bool = False
    _closed: bool = False
    _calling: bool = False
    _ticker: asyncio.Handle | None = None
    #: Whether ``start()`` has come to its seeds.
    has_waited: bool = False
    #: Whether nobody has done anything for the spider's ``seed_idle_limit``.
    over: bool = False
    # For a spider that reads seeds by itself.
    _again_at: float = 0.0
    _called_at: float = 0.0
    _seeds_seen: int = 0
    thread: SeedThread | None = None
    #: For a ``spider_idle()`` that reads Redis by itself; what that has said last, and how
    #: many requests had been handed out then.
    idle_thread: SeedThread | None = None
    _idle_answer: Exception | str | None = None
    _idle_count: int = 0

    def __post_init__(self) -> None:
        self._logger = spider_logger(__name__, self._spider)
        self._ready = asyncio.Event()
        self._own = not self._spider.seeds_are_leased
        self._make_threads()
        seeds = self._queues.seeds
        seeds.most = 0 if self._own else self._spider.most_seeds
        seeds.are_read = True
        seeds.on_arrival, seeds.awaited = self._arrived, self.awaited
        self._queues.beginnings.find = self._spider.find_task

    def _make_threads(self) -> None:
        spider, engine = self._spider, self._engine
        if spider.seeds_in_thread or spider.schedules_in_thread:
            alone = spider.schedules_in_thread
            self.thread = SeedThread(
                self._schedule_by_itself if alone else spider.next_requests,
                engine.crawl,
                self._ended,
                batch=spider.redis_batch_size,
                spider=spider,
                name="schedule_next_requests" if alone else "next_requests",
            )
        if spider.idles_in_thread:
            self.idle_thread = SeedThread(
                self._idle_by_itself,
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
        before = self._amount()
        self._called(brought=False)
        self._call()
        if self._amount() > before:
            self._called(brought=True)

    def _called(self, *, brought: bool) -> None:
        """It need not be called again soon, unless this call has *brought* requests."""
        wait = _AGAIN * self._engine.heartbeat
        self._again_at = 0.0 if brought else time.monotonic() + wait

    def _is_busy(self) -> bool:
        return self.thread is not None and self.thread.busy

    def _amount(self) -> int:
        return len(self._queues) + len(self._queues.outbox)

    def _ended(self, count: int) -> None:
        """A run in the thread is over; it has brought *count* requests."""
        self._called(brought=count > 0)
        if self._queues.seeds:
            self._call_soon()
        elif not count:
            self._queues.pacing.request(_LOOK)

    def _schedule_by_itself(self) -> None:
        type(self._spider).schedule_next_requests(self._spider)

    def schedule(self) -> None:
        """``schedule_next_requests`` of a subclass, in its thread if it has one."""
        if self.idle_thread is not None and self.idle_thread.is_current:
            self.idle_thread.call(self.schedule)
        elif self._spider.schedules_in_thread and not self.thread.is_current:  # type: ignore[union-attr]
            self.thread.read()  # type: ignore[union-attr]
        else:
            self._schedule_by_itself()

    def ask_idle(self) -> None:
        """``spider_idle`` of a subclass that reads Redis; its answer comes later."""
        answer, self._idle_answer = self._idle_answer, None
        if self._idle_count != self._handed_out():
            answer = None  # there was something to do since
        if isinstance(answer, CloseSpider):
            raise answer
        if answer is None or isinstance(answer, DontCloseSpider):
            assert self.idle_thread is not None
            self.idle_thread.read()
            raise DontCloseSpider

    def _idle_by_itself(self) -> None:
        answer: Exception | str = "may close"
        try:
            type(self._spider).spider_idle(self._spider)
        except (DontCloseSpider, CloseSpider) as e:
            answer = e
        assert self.idle_thread is not None
        self.idle_thread.call(self._idle_answered, answer)

    def _idle_answered(self, answer: Exception | str) -> None:
        self._idle_answer, self._idle_count = answer, self._handed_out()
        if not isinstance(answer, DontCloseSpider):
            self._engine.wake()

    def _handed_out(self) -> int:
        return int(self._engine.stats.get_value("scheduler/dequeued", 0))

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
        limit: float | None = self._spider.seed_idle_limit
        if limit is None:
            return None
        if idle < limit:
            self.over = False
            return limit - idle
        if self._own and not self._looked_for(idle - limit):
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
