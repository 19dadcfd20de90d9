"""Waits that end by our own clock, threads for work that blocks, the time of tries."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

T = TypeVar("T")

#: Parts of the time for the last results that the first tries may take, so that one of
#: them finds a Redis which is well behind a connection that is dead; and the shortest and
#: longest of these tries, in seconds.
_PARTS, _SHORTEST, _LONGEST = 4, 1.0, 5.0
#: Seconds after which a task that goes on is cancelled again. Longer than what any task
#: here does at its end.
_AGAIN = 5.0


async def wait_for(work: Awaitable[T], seconds: float | None) -> T:
    """The result of *work*, which is cancelled after *seconds*; None: no limit.

    Raises asyncio.TimeoutError then. Who is cancelled while it waits here gets
    CancelledError in any case: ``asyncio.wait_for`` of Python 3.10 and 3.11 forgets the
    cancellation if the result comes at the same moment (CPython issue 86296).
    """
    if seconds is None:
        return await work
    task = asyncio.ensure_future(work)
    # If both are cancelled at once, nobody asks what has become of it.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
        if not done:
            await cancel([task])
    except asyncio.CancelledError:
        await cancel([task])
        raise
    if not done and task.cancelled():
        raise asyncio.TimeoutError
    return task.result()


async def sleep_until(event: asyncio.Event, seconds: float) -> bool:
    """Wait for *event*, *seconds* at the most; whether it is set."""
    with contextlib.suppress(asyncio.TimeoutError):
        await wait_for(event.wait(), seconds)
    return event.is_set()


async def cancel(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel *tasks* and wait until all have ended, however.

    Code of others may lose a cancellation (see `wait_for`): it is said again.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=_AGAIN)
        for task in ended:
            _ = task.cancelled() or task.exception()  # else asyncio asks who wanted it


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
