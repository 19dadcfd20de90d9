"""Threads for work that blocks, and the time that tries may take."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: Parts of the time for the last results that the first tries may take, so that one of
#: them finds a Redis which is well behind a connection that is dead; and the shortest and
#: longest of these tries, in seconds.
_PARTS, _SHORTEST, _LONGEST = 4, 1.0, 5.0


def in_thread(work: Callable[[], T]) -> concurrent.futures.Future[T]:
    """Run *work*, which blocks, in a thread of its own; its result.

    Nothing waits for the thread at the end of the process, as it does for those of
    ``asyncio.to_thread``. *work* goes on when nobody waits for its result any more.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()
    _start_thread(_run, future, work)
    return future


class Threads:
    """Up to *most* threads for work that blocks, which is begun in order.

    Nothing waits for them at the end of the process, as it does for those of a
    ThreadPoolExecutor: work that never ends holds up nobody but what waits for it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """The result of *work*; to be called in the event loop."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._work.put((future, work))
        if self._count < self._most and not self._idle.acquire(blocking=False):
            self._count += 1
            _start_thread(self._run)
        return asyncio.wrap_future(future)

    def _run(self) -> None:
        while (entry := self._work.get()) is not None:
            future, work = entry
            if future.set_running_or_notify_cancel():
                _run(future, work)
            del entry, future, work
            self._idle.release()

    def close(self) -> None:
        """The threads end when the work that they have is done."""
        for _ in range(self._count):
            self._work.put(None)


def _run(future: concurrent.futures.Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as e:  # noqa: BLE001  whoever waits for it gets it
        future.set_exception(e)


def _start_thread(run: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=run, args=args, name="scrapy-dist", daemon=True).start()


def first_try(timeout: float) -> float:
    """Seconds that a first try may take of the *timeout* for all tries."""
    return min(_LONGEST, max(_SHORTEST, timeout / _PARTS))
