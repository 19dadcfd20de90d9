"""Fingerprints as the workers of a crawl name requests, and those of scrapy-redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from scrapy.dupefilters import RFPDupeFilter as ScrapyDupeFilter
from scrapy.utils.misc import build_from_crawler, load_object
from scrapy.utils.python import to_unicode
from scrapy.utils.request import fingerprint
from w3lib.url import canonicalize_url

from scrapy_dist.brokers.redis.buckets import compact
from scrapy_dist.brokers.redis.commit import clear
from scrapy_dist.dupefilter import (
    CompactDupeFilter,
    RFPDupeFilter,
    by_fingerprinter,
    fingerprint_of,
    load,
)

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler
    from scrapy.settings import BaseSettings
    from typing_extensions import Self

__all__ = [
    "ScrapyRedisFingerprinter",
    "are_compact",
    "default",
    "is_plain",
    "of_crawler",
]


def default(request: Request) -> str:
    """Scrapy's fingerprint of *request*, in hex."""
    return fingerprint(request).hex()


def of_crawler(crawler: Crawler) -> tuple[Callable[[Request], str], bool]:
    """How the workers of *crawler* name a request, and whether they filter by that.

    If not, DUPEFILTER_CLASS filters by itself, and only start requests have names.
    ``crawler.request_fingerprinter`` must be set. The choice is that of the scheduler.
    """
    cls = load_object(crawler.settings["DUPEFILTER_CLASS"])
    df: Any = build_from_crawler(cls, crawler)
    plain = by_fingerprinter(crawler)
    names = fingerprint_of(df, plain)
    if names is None:
        return plain, False
    stored = compact if isinstance(df, CompactDupeFilter) else clear
    return (lambda request: stored(names(request))), True


def is_plain(path: str | type) -> bool:
    """Whether the DUPEFILTER_CLASS *path* leaves fingerprints to the fingerprinter."""
    cls = load_object(path)
    plain = (RFPDupeFilter.request_fingerprint, ScrapyDupeFilter.request_fingerprint)
    return getattr(cls, "request_fingerprint", None) in plain


def are_compact(settings: BaseSettings) -> bool:
    """Whether workers keep compact fingerprints; where there are some, those tell.

    Raises ConfigurationError.
    """
    cls = load(settings["DUPEFILTER_CLASS"])
    return isinstance(cls, type) and issubclass(cls, CompactDupeFilter)


class ScrapyRedisFingerprinter:
    """Gives requests the fingerprints of scrapy-redis 0.8 and later.

    For crawls that were taken over with their fingerprints:
    ``REQUEST_FINGERPRINTER_CLASS = "scrapy_dist.fingerprints.ScrapyRedisFingerprinter"``.
    """

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls()

    def fingerprint(self, request: Request) -> bytes:
        """SHA-1 of the JSON of method, canonical URL and body."""
        data = {
            "method": to_unicode(request.method),
            "url": canonicalize_url(request.url),
            "body": request.body.hex(),
        }
        text = json.dumps(data, sort_keys=True)
        return sha1(text.encode(), usedforsecurity=False).digest()
