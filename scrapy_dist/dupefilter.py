"""The fingerprints by which the frontier knows a request again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from scrapy.dupefilters import BaseDupeFilter
from scrapy.utils.request import fingerprint

if TYPE_CHECKING:
    from scrapy import Request, Spider
    from scrapy.crawler import Crawler
    from scrapy.settings import BaseSettings
    from scrapy.utils.request import RequestFingerprinterProtocol
    from typing_extensions import Self

logger = logging.getLogger(__name__)


class RFPDupeFilter(BaseDupeFilter):
    """Gives the shared frontier its fingerprints.

    The frontier checks and stores them in ``S:dupefilter``, together with the request.
    A subclass may override ``request_fingerprint``. Under another scheduler this class
    filters within the process, which is what a set in Redis under a new key for each
    run, scrapy-redis' way there, comes to.

    *server* and *key* are accepted for scrapy-redis' sake and not used.
    """

    logger = logger

    def __init__(
        self,
        server: Any = None,
        key: str = "",
        debug: bool = False,
        *,
        fingerprinter: RequestFingerprinterProtocol | None = None,
        crawler: Crawler | None = None,
    ) -> None:
        self.key = key
        self.debug = debug
        self.logdupes = True
        self._fingerprinter = fingerprinter
        self._crawler = crawler
        self._seen: set[str] = set()

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(
            debug=crawler.settings.getbool("DUPEFILTER_DEBUG"),
            fingerprinter=crawler.request_fingerprinter,
            crawler=crawler,
        )

    @classmethod
    def from_spider(cls, spider: Spider) -> Self:
        return cls.from_crawler(spider.crawler)

    @classmethod
    def from_settings(cls, settings: BaseSettings) -> Self:
        """Without a crawler: Scrapy's default fingerprint."""
        return cls(debug=settings.getbool("DUPEFILTER_DEBUG"))

    def request_fingerprint(self, request: Request) -> str:
        """The fingerprint of *request* by REQUEST_FINGERPRINTER_CLASS, in hex."""
        if self._fingerprinter is None:
            return fingerprint(request).hex()
        return self._fingerprinter.fingerprint(request).hex()

    def request_seen(self, request: Request) -> bool:
        """Whether this process has seen *request*; for other schedulers."""
        known = self.request_fingerprint(request)
        if known in self._seen:
            return True
        self._seen.add(known)
        return False

    def close(self, reason: str = "") -> None:
        self.clear()

    def clear(self) -> None:
        """Forget what this process has seen; Redis is not touched."""
        self._seen.clear()

    def log(self, request: Request, spider: Spider) -> None:
        """Log a filtered duplicate: the first, or each one with DUPEFILTER_DEBUG."""
        if self.debug:
            self.logger.debug(
                "Filtered duplicate request: %s", request, extra={"spider": spider}
            )
        elif self.logdupes:
            self.logdupes = False
            self.logger.debug(
                "Filtered duplicate request: %s - no more duplicates will be shown"
                " (see DUPEFILTER_DEBUG to show all duplicates)",
                request,
                extra={"spider": spider},
            )
        if self._crawler is not None and self._crawler.stats is not None:
            self._crawler.stats.inc_value("dupefilter/filtered")


class CompactDupeFilter(RFPDupeFilter):
    """Fingerprints of 64 bits, in about 9 bytes of Redis' memory each instead of 96.

    The frontier keeps the first 64 bits of each fingerprint, in many small sets of
    integers (see ``buckets``). Among N different requests about N * N / 2**65 are taken
    for duplicates: one of a crawl of a billion with a probability of 3 %, one of a
    crawl of 10 million with a probability of 0.0003 %. Not readable for scrapy-redis.
    """
