"""A spider's own methods that read Redis in a thread, so that they may wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from scrapy import Request, Spider

from scrapy_dist.base.escaping import spider_logger
from scrapy_dist.base.waits import sleep_until
from scrapy_dist.base.words import span

#: Requests that one run takes from the spider at the most, if its batches are smaller.
_MOST = 100
#: Seconds that a closing worker waits for the spider to end what it has begun.
_PATIENCE = 5.0


@dataclass(eq=False)
class SeedThread:
    """Runs *make* in a thread, one run at a time, and gives what it yields to *crawl*.

    *crawl* and *ended*, which is told how many requests there were, are called in the
    event loop. A run that has yielded many is suspended, and goes on with the next
    ``read``: what it has taken from Redis is in its hands.
    """

    _make: Callable[[], Iterable[Any] | None]
    _crawl: Callable[[Request], None]
    _ended: Callable[[int], None]
    batch: int
    spider: Spider
    name: str = "next_requests"
    #: Requests of the run that is under way.
    _count: int = 0
    _requests: Iterator[Any] | None = None
    _thread: threading.Thread | None = None
    _closed: bool = False
    _failed: bool = False
    _said_strange: bool = False

    def __post_init__(self) -> None:
        self._logger = spider_logger(__name__, self.spider)
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._over.set()

    @property
    def busy(self) -> bool:
        return not self._over.is_set()

    def read(self) -> None:
        """Begin a run, unless one is under way."""
        if not self.busy and not self._closed:
            self._start(max(_MOST, self.batch))

    def _start(self, most: int) -> None:
        self._over.clear()
        # A daemon: the process does not wait for one that hangs.
        self._thread = threading.Thread(
            target=self._run, args=(most,), name=self.name, daemon=True
        )
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether this is asked in a run."""
        return threading.current_thread() is self._thread

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """What *function* returns in the event loop; for what a run calls."""
        if not self.is_current:
            return function(*args)

        async def call() -> Any:
            return function(*args)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def crawl(self, request: Request) -> None:
        """Take a *request* that a run makes without yielding it."""
        self._count += 1
        self.call(self._take, request)

    def close(self) -> None:
        """Take no more."""
        self._closed = True

    async def finish(self) -> None:
        """Take in what the spider has read already; the worker is closing."""
        if not self.busy and self._requests is not None:
            self._start(self.batch)
        await sleep_until(self._over, _PATIENCE)
        self._closed = True
        if self.busy:
            self._logger.warning(
                "%s() of the spider has not ended within %s. What it takes from"
                " Redis from now on is lost.",
                self.name,
                span(_PATIENCE),
            )

    # In the thread

    def _run(self, most: int) -> None:
        self._count, error = 0, None
        try:
            if self._requests is None:
                self._requests = iter(self._make() or ())
            while self._count < most:
                try:
                    made = next(self._requests)
                except StopIteration:
                    self._requests = None
                    break
                for request in [made] if isinstance(made, Request) else made or ():
                    self._loop.call_soon_threadsafe(self._take, request)
                    self._count += 1
        except Exception as e:  # noqa: BLE001 - told in the event loop
            self._requests = None
            error = e
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self._done, self._count, error)

    # In the event loop

    def _take(self, request: Any) -> None:
        if not isinstance(request, Request):
            if not self._said_strange:
                self._said_strange = True
                self._logger.error(
                    "%s() yielded %r, no Request. It is left out; no more of these are"
                    " logged.",
                    self.name,
                    request,
                )
        elif self._closed:
            self._logger.warning(
                "%s came when the spider was closed, and is lost.", request
            )
        else:
            self._crawl(request)

    def _done(self, count: int, error: Exception | None) -> None:
        if error is not None and not self._failed:
            self._logger.error(
                "%s() failed. It is tried again, and no more of these are logged until it"
                " works.",
                self.name,
                exc_info=error,
            )
        self._failed = error is not None
        self._over.set()
        self._ended(count)
