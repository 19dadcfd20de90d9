"""Waits for Redis that end by our own clock.

Any connection may be gone without a word: then nothing comes on it, for ever, or the
kernel ends it with an error that redis-py takes for a time-out of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, TypeVar

import redis

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["first_try", "in_thread", "within"]

T = TypeVar("T")

#: Parts of the time for the last results that the first tries may take, so that one of
#: them finds a Redis which is well behind a connection that is dead; and the shortest and
#: longest of these tries, in seconds.
_PARTS, _SHORTEST, _LONGEST = 4, 1.0, 5.0


async def within(seconds: float | None, work: Awaitable[T]) -> T:
    """The result of *work*, which is cancelled after *seconds*; None: no limit.

    Raises redis.TimeoutError then, also where the kernel has ended the connection.
    """
    if seconds is not None:
        task = asyncio.ensure_future(work)
        # If both are cancelled at once, nobody asks what has become of it.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        work = asyncio.wait_for(task, seconds)
    try:
        return await work
    except (TimeoutError, asyncio.TimeoutError) as e:
        text = f"no answer for {seconds:g} s" if seconds is not None else "no answer"
        raise redis.TimeoutError(str(e) or text) from e


def in_thread(work: Callable[[], T]) -> concurrent.futures.Future[T]:
    """Run *work*, which blocks, in a thread of its own; its result.

    Nothing waits for the thread at the end of the process, as it does for those of
    ``asyncio.to_thread``. *work* goes on when nobody waits for its result any more.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as e:  # noqa: BLE001  whoever waits for it gets it
            future.set_exception(e)

    threading.Thread(target=run, name="scrapy-dist", daemon=True).start()
    return future


def first_try(timeout: float) -> float:
    """Seconds that a first try may take of the *timeout* for all tries."""
    return min(_LONGEST, max(_SHORTEST, timeout / _PARTS))
