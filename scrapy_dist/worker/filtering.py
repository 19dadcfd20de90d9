"""The fingerprint that a request is filtered by, and what this worker knows by itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha1
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_dist.worker.queues import Queues

#: Different start requests of which a worker remembers how many equal ones there were.
_STARTED = 100_000
#: In front of fingerprints of requests that a filter of the project's is to decide about.
_OWN = "own:"


class Filter:
    """Filters by *fingerprint_of*; None: *df* filters by itself, in this process.

    *plain* is the fingerprint where nothing else tells, *stored* what the broker keeps of
    one. *worker* is the name of this worker for the broker.
    """

    def __init__(
        self,
        df: Any,
        queues: Queues,
        *,
        fingerprint_of: Callable[[Request], str] | None,
        plain: Callable[[Request], str],
        stored: Callable[[str], str],
        worker: str,
        log: Callable[[Request], None],
    ) -> None:
        self._df = df
        self._recent = queues.recent
        self._leases = queues.leases
        self._fingerprint_of = fingerprint_of
        self._plain = plain
        self._stored = stored
        self._worker = worker
        self._log = log
        #: How many equal start requests there were, by the hash of their fingerprint.
        self._started: OrderedDict[int, int] = OrderedDict()

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
        if self._fingerprint_of is None:
            if not request.dont_filter and self._df.request_seen(request):
                self._log(request)
                return None
            if start:
                fingerprint = self._plain(request)
        else:
            if start or not request.dont_filter:
                fingerprint = self._stored(self._fingerprint_of(request))
            start = start and request.dont_filter
        if own and fingerprint:
            # Links to it are duplicates here, as in Scrapy; it is none of another worker's.
            self._recent.add(fingerprint)
            name = f"{self._worker} {fingerprint}".encode()
            return self._stored(sha1(name, usedforsecurity=False).hexdigest()), 0
        if stays or not fingerprint:
            return fingerprint, 0
        # What belongs to a lease may be seen and crawled all the same, if it was claimed
        # by that lease before a worker died: only Redis knows.
        known = not self._recent.add(fingerprint)
        if start:
            return fingerprint, self._count_start(fingerprint)
        if known and not self._leases.suspects:
            self._log(request)
            return None
        return fingerprint, 0

    def undecided(self, request: Request) -> str:
        """The fingerprint where the filter of the project has no answer."""
        of = getattr(self._df, "request_fingerprint", self._plain)
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
