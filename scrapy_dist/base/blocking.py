"""An event loop in a thread of its own, for callers that have none or another one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from scrapy_dist.base.waits import cancel

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for other threads, until `stop`."""

    def __init__(self) -> None:
        #: What is run last of all.
        self.at_end: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._loop = asyncio.new_event_loop()
        # Reentrant: a garbage collection may stop one at any moment.
        self._lock = threading.RLock()
        self._open = True
        self._thread = threading.Thread(
            target=self._main, name="scrapy-dist client", daemon=True
        )
        self._thread.start()

    def run(
        self, work: Callable[[], Coroutine[Any, Any, T]], *, last: bool = False
    ) -> T:
        """The result of *work*, which is cancelled if the wait for it is interrupted.

        *last*: what runs now is cancelled first, and nothing may be run afterwards.
        Raises RuntimeError after that, and after `stop`.
        """
        with self._lock:
            if not self._open:
                raise RuntimeError("This client is closed.")
            self._open = not last
            start = self._last(work) if last else work()
            future = asyncio.run_coroutine_threadsafe(start, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RuntimeError("This client was closed meanwhile.") from None
        except BaseException:
            future.cancel()
            raise

    async def _last(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        await _cancel_others()
        return await work()

    def stop(self) -> None:
        """End the thread; what runs there is cancelled."""
        with self._lock:
            self._open = False
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        with self._lock:
            self._loop.close()

    async def _end(self) -> None:
        await _cancel_others()
        if self.at_end is not None:
            await self.at_end()
        await self._loop.shutdown_asyncgens()


async def _cancel_others() -> None:
    await cancel(asyncio.all_tasks() - {asyncio.current_task()})
