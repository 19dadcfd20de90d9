"""The fingerprint that a request is filtered by, and what this worker knows by itself.

A dupefilter that decides itself (a Bloom filter in Redis, a set of the project's) blocks
while it asks its store. So it is asked in a thread of its own, in the order in which the
requests came, and the pages that they come from are not finished before they are answered.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError
from scrapy.dupefilters import BaseDupeFilter

from scrapy_dist.base.escaping import spider_logger
from scrapy_dist.base.waits import Threads, in_thread, wait_for
from scrapy_dist.base.words import count, span
from scrapy_dist.compat.extension_points import path_of

if TYPE_CHECKING:
    from scrapy import Request, Spider
    from twisted.internet.defer import Deferred

    from scrapy_dist.worker.leases import HeldLeases, Leases
    from scrapy_dist.worker.outbox import RecentFingerprints

#: Different start requests of which a worker remembers how many equal ones there were.
_STARTED = 100_000
#: In front of fingerprints of requests that a filter of the project's is to decide about.
_OWN = "own:"
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


@dataclass(eq=False)
class Filter:
    """Filters by *fingerprint_of*; None: *df* filters by itself, in this process.

    *plain* is the fingerprint where nothing else tells, *stored* what the broker keeps of
    one; *is_compact*: that is a short one. *seen* is what a *df* says that waits for its
    store; *timeout*: seconds that it may take at the end.
    """

    df: Any
    spider: Spider
    fingerprint_of: Callable[[Request], str] | None
    plain: Callable[[Request], str]
    stored: Callable[[str], str]
    is_compact: bool
    seen: Callable[[Request], object] | None
    timeout: float
    #: How many equal start requests there were, by the hash of their fingerprint.
    _started: OrderedDict[int, int] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.name = path_of(type(self.df))
        # Calling the log() that BaseDupeFilter has itself is deprecated.
        self._logs = type(self.df).log is not BaseDupeFilter.log

    def begin(self, recent: RecentFingerprints, leases: Leases, worker: str) -> None:
        """Filter what comes to *worker*, by its name for the broker."""
        self._recent, self._leases, self._worker = recent, leases, worker

    def fingerprint(
        self,
        request: Request,
        *,
        start: bool = False,
        stays: bool = False,
        own: bool = False,
    ) -> tuple[str, int] | None:
        """The fingerprint to filter *request* by, '' for none; None for a duplicate.

        And which of the equal requests of ``start()`` it is, see ``NewRequest``.
        *start*: it is of ``start()``. *stays*: in this worker. *own*: it is filtered
        within this worker only.
        """
        start = start and not stays
        fingerprint = ""
        if self.fingerprint_of is None:
            if not request.dont_filter and self.df.request_seen(request):
                self.log(request)
                return None
            if start:
                fingerprint = self.plain(request)
        else:
            if start or not request.dont_filter:
                fingerprint = self.stored(self.fingerprint_of(request))
            start = start and request.dont_filter
        if own and fingerprint:
            # Links to it are duplicates here, as in Scrapy; it is none of another worker's.
            self._recent.add(fingerprint)
            name = f"{self._worker} {fingerprint}".encode()
            return self.stored(sha1(name, usedforsecurity=False).hexdigest()), 0
        if stays or not fingerprint:
            return fingerprint, 0
        # What belongs to a lease may be seen and crawled all the same, if it was claimed
        # by that lease before a worker died: only Redis knows.
        known = not self._recent.add(fingerprint)
        if start:
            return fingerprint, self._count_start(fingerprint)
        if known and not self._leases.suspects:
            self.log(request)
            return None
        return fingerprint, 0

    def undecided(self, request: Request) -> str:
        """The fingerprint where the filter of the project has no answer."""
        of = getattr(self.df, "request_fingerprint", self.plain)
        return f"{_OWN}{of(request)}"

    def start(self, request: Request) -> tuple[str, int]:
        """As ``fingerprint``, of a request of ``start()`` that *df* lets through."""
        fingerprint = self.undecided(request)
        return fingerprint, self._count_start(fingerprint)

    def _count_start(self, fingerprint: str) -> int:
        """The how-manieth equal request of ``start()`` this is: all workers yield it.

        The second of this worker is that of all others, too.
        """
        name = hash(fingerprint)
        count = self._started[name] = self._started.get(name, 0) + 1
        self._started.move_to_end(name)
        if len(self._started) > _STARTED:
            self._started.popitem(last=False)
        return count

    def log(self, request: Request) -> None:
        """*request* is a duplicate."""
        if self._logs:
            self.df.log(request, self.spider)

    async def open(self) -> None:
        if hasattr(self.df, "open"):
            await _end_of(self.df.open())

    async def close(self, reason: str) -> None:
        if not hasattr(self.df, "close"):
            return
        if self.seen is None:
            await _end_of(self.df.close(reason))
        else:
            await self._in_thread("close", reason)

    async def clear(self) -> None:
        """The frontier is deleted, and so is what a filter that decides itself keeps."""
        if self.seen is not None and hasattr(self.df, "clear"):
            await self._in_thread("clear")

    async def _in_thread(self, name: str, *args: object) -> None:
        try:
            work = in_thread(partial(getattr(self.df, name), *args))
            await wait_for(asyncio.wrap_future(work), self.timeout)
        except Exception:  # of any code
            logger = spider_logger(__name__, self.spider)
            text = "%s.%s() has failed: what it keeps may still be there."
            logger.exception(text, self.name, name)


async def _end_of(work: Deferred[None] | None) -> None:
    if work is not None:
        await work.asFuture(asyncio.get_running_loop())


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


@dataclass(eq=False)
class Asking:
    """Asks *seen* about requests, and tells *answered*; *name* is the filter's.

    The answer is None where the filter has raised something that is not its store's.
    """

    _seen: Callable[[Request], object]
    _answered: Callable[[Asked, bool | None], None]
    _spider: Spider
    _name: str
    _waiting: deque[Asked] = field(default_factory=deque)
    _thread: Threads = field(default_factory=lambda: Threads(1))
    _task: asyncio.Task[None] | None = None
    _said_failed: bool = False

    def __post_init__(self) -> None:
        self._logger = spider_logger(__name__, self._spider)

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
        left, self._waiting = list(self._waiting), deque()
        return left
