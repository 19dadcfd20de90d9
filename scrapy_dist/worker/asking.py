"""Requests that wait for the answer of a dupefilter that decides itself.

Such a filter (a Bloom filter in Redis, a set of the project's) blocks while it asks its
store. So it is asked in a thread of its own, in the order in which the requests came, and
the pages that they come from are not finished before they are answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from scrapy_dist.base.escaping import spider_logger
from scrapy_dist.base.waits import Threads
from scrapy_dist.base.words import count, span

if TYPE_CHECKING:
    from scrapy import Request, Spider

    from scrapy_dist.worker.leases import HeldLeases

#: What a store raises that may answer later.
_AWAY = (
    OSError,
    RedisConnectionError,
    RedisTimeoutError,
    OutOfMemoryError,
    ReadOnlyError,
)
#: Requests that the thread is asked about at once.
_BATCH = 64
#: Seconds between two tries while the filter's store does not answer: first, longest.
_RETRY_FIRST, _RETRY_LONGEST = 0.1, 5.0


@dataclass(slots=True)
class Asked:
    """A request, and what was known of it when it came.

    *held*: leases that wait for the answer. *kept*: leases under which it stays in this
    worker; None: it is shared. *start*: it comes of ``Spider.start()``.
    """

    request: Request
    start: bool
    held: HeldLeases
    kept: HeldLeases | None


class Asking:
    """Asks *seen* about requests, and tells *answered*.

    The answer is None where the filter has raised something that is not its store's.
    """

    def __init__(
        self,
        seen: Callable[[Request], object],
        answered: Callable[[Asked, bool | None], None],
        spider: Spider,
        name: str,
    ) -> None:
        self._seen = seen
        self._answered = answered
        self._logger = spider_logger(__name__, spider)
        self._name = name
        self._waiting: deque[Asked] = deque()
        self._thread = Threads(1)
        self._task: asyncio.Task[None] | None = None
        self._said_failed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, asked: Asked) -> None:
        self._waiting.append(asked)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="frontier dupefilter")

    async def _run(self) -> None:
        retry = 0.0
        try:
            while self._waiting:
                batch = [self._waiting[i] for i in range(min(_BATCH, len(self)))]
                requests = [asked.request for asked in batch]
                answers, error = await self._thread.run(partial(self._ask, requests))
                for asked, answer in zip(batch, answers, strict=False):
                    self._waiting.popleft()
                    self._answered(asked, answer)
                if error is None:
                    retry = 0.0
                    continue
                if not retry:
                    self._logger.warning(
                        "%s.request_seen() has no answer (%s): %s for it.",
                        self._name,
                        error,
                        count(len(self), "request waits", "requests wait"),
                    )
                retry = min(max(2 * retry, _RETRY_FIRST), _RETRY_LONGEST)
                await asyncio.sleep(retry)
        finally:
            self._task = None

    def _ask(
        self, requests: Sequence[Request]
    ) -> tuple[list[bool | None], Exception | None]:
        """In the thread: the answers, and why there are no more of them."""
        answers: list[bool | None] = []
        for request in requests:
            try:
                answers.append(bool(self._seen(request)))
            except _AWAY as e:
                return answers, e
            except Exception:
                answers.append(None)
                if not self._said_failed:
                    self._said_failed = True
                    self._logger.exception(
                        "%s.request_seen() has failed for %s. Such requests are filtered"
                        " by their fingerprints; no more of these are logged.",
                        self._name,
                        request,
                    )
        return answers, None

    async def finish(self, timeout: float) -> None:
        """Wait for the answers, *timeout* seconds at the most, and end.

        Pages of requests that have none will be crawled again.
        """
        if self._task is not None:
            await asyncio.wait([self._task], timeout=timeout)
        if self._task is not None:
            self._task.cancel()
            self._logger.warning(
                "%s no answer of %s.request_seen() after %s (FRONTIER_CLOSE_TIMEOUT). The"
                " pages will be crawled again.",
                count(len(self), "request has", "requests have"),
                self._name,
                span(timeout),
            )
        self._thread.close()

    def unanswered(self) -> list[Asked]:
        """Those that wait no more; the worker is closing."""
        left = list(self._waiting)
        self._waiting.clear()
        return left
