"""The fingerprints by which the frontier knows a request again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scrapy.dupefilters import BaseDupeFilter
from scrapy.dupefilters import RFPDupeFilter as ScrapyDupeFilter
from scrapy.utils.misc import build_from_crawler
from scrapy.utils.python import to_unicode
from scrapy.utils.request import RequestFingerprinterProtocol, fingerprint
from w3lib.url import canonicalize_url

from scrapy_dist import defaults
from scrapy_dist.base.escaping import get_logger
from scrapy_dist.base.settings import flag, loaded
from scrapy_dist.brokers.redis.buckets import compact
from scrapy_dist.brokers.redis.commit import clear
from scrapy_dist.brokers.redis.keys import fill, tagged
from scrapy_dist.compat import extension_points
from scrapy_dist.compat.overrides import names_in
from scrapy_dist.connection import get_redis_from_settings
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.worker.filtering import Filter

if TYPE_CHECKING:
    import redis
    from scrapy import Request, Spider
    from scrapy.crawler import Crawler
    from scrapy.settings import BaseSettings
    from typing_extensions import Self

__all__ = [
    "BaseDupeFilter",
    "CompactDupeFilter",
    "RFPDupeFilter",
    "canonicalize_url",
    "defaults",
    "get_redis_from_settings",
    "logger",
    "to_unicode",
]

logger = get_logger(__name__)

#: A key that is another one for each process: DUPEFILTER_KEY, filled.
_OF_ONE_PROCESS = re.compile(r"dupefilter:\d+")


class RFPDupeFilter(BaseDupeFilter):
    """Gives the shared frontier its fingerprints.

    The frontier checks and stores them in ``S:dupefilter``, together with the request.
    A subclass may override ``request_fingerprint``. Under another scheduler this class
    filters within the process, which is what a set in Redis under a new key for each
    run, scrapy-redis' way there, comes to.

    A subclass that overrides ``request_seen`` decides itself. It is asked in a thread,
    one request after another, and may use ``server`` and ``key`` as in scrapy-redis.
    ``clear`` is called at the end of a finished crawl and by SCHEDULER_FLUSH_ON_START.
    """

    logger = logger
    key = ""
    debug = False
    logdupes = True
    # A subclass need not call __init__() of ours.
    _crawler: Crawler | None = None
    _settings: BaseSettings | None = None
    _fingerprinter: RequestFingerprinterProtocol | None = None
    _server: redis.Redis | None = None
    _seen: set[str] | None = None
    #: Set by the frontier's scheduler: notes a request that is to be filtered with `push`.
    ask_later: Callable[[Request], None] | None = None
    #: Whether it decides itself, in a thread, and may wait for Redis.
    is_asked = False

    def __init__(
        self, server: redis.Redis | None = None, key: str = "", debug: bool = False
    ) -> None:
        if server is not None:
            self.server = server
        self.key = key
        self.debug = debug
        self.logdupes = True

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        dupefilter = cls.from_settings(crawler.settings)
        dupefilter.bind(crawler)
        return dupefilter

    @classmethod
    def from_spider(cls, spider: Spider) -> Self:
        """A filter with the frontier's key, SCHEDULER_DUPEFILTER_KEY."""
        settings = spider.crawler.settings
        dupefilter = cls._made(settings, _shared_key(spider))
        dupefilter.bind(spider.crawler)
        return dupefilter

    @classmethod
    def from_settings(cls, settings: BaseSettings) -> Self:
        """Without a crawler: Scrapy's default fingerprint, and a key of its own."""
        return cls._made(
            settings, defaults.DUPEFILTER_KEY % {"timestamp": int(time.time())}
        )

    @classmethod
    def _made(cls, settings: BaseSettings, key: str) -> Self:
        # Only a constructor of the project's may need a client now.
        needed = extension_points.overridden(cls, ["__init__"])
        server = get_redis_from_settings(settings) if needed else None
        debug = flag(settings, "DUPEFILTER_DEBUG")
        dupefilter = cls(server, key=key, debug=debug)
        dupefilter._settings = settings
        return dupefilter

    def bind(self, crawler: Crawler) -> None:
        """Use the fingerprints, the settings and the stats of *crawler*."""
        self._crawler = crawler
        self._settings = crawler.settings
        self._fingerprinter = crawler.request_fingerprinter

    @property
    def server(self) -> redis.Redis:
        """A synchronous client, made on first use."""
        if self._server is None:
            if self._settings is None:
                raise AttributeError("this dupefilter was made without a server")
            self._server = get_redis_from_settings(self._settings)
        return self._server

    @server.setter
    def server(self, client: redis.Redis) -> None:
        self._server = client

    def request_fingerprint(self, request: Request) -> str:
        """The fingerprint of *request* by REQUEST_FINGERPRINTER_CLASS, in hex."""
        if self._fingerprinter is None:
            return fingerprint(request).hex()
        return self._fingerprinter.fingerprint(request).hex()

    def request_seen(self, request: Request) -> bool:
        """Whether *request* is known, and remember it.

        For a subclass that decides itself: in the set ``key`` of ``server``. For other
        schedulers: in this process. For the frontier, which decides together with
        storing the request: always false, and a duplicate is dropped later.
        """
        if self.ask_later is not None:
            self.ask_later(request)
            return False
        known = self.request_fingerprint(request)
        if self.is_asked:
            return not self.server.sadd(self.key, known)
        if self._seen is None:
            self._seen = set()
        if known in self._seen:
            return True
        self._seen.add(known)
        return False

    def close(self, reason: str = "") -> None:
        """Forget what this process has seen; what is in Redis is for the next worker."""
        self._seen = None

    def clear(self) -> None:
        """Forget everything: for a subclass that decides itself, delete ``key``."""
        self._seen = None
        if self.is_asked:
            self.server.delete(self.key)

    def log(self, request: Request, spider: Spider) -> None:
        """Log a filtered duplicate: the first, or each one with DUPEFILTER_DEBUG."""
        text = "Filtered duplicate request: %s"
        if not self.debug:
            text += (
                " - no more duplicates will be shown"
                " (see DUPEFILTER_DEBUG to show all duplicates)"
            )
        if self.debug or self.logdupes:
            self.logger.debug(text, request, extra={"spider": spider})
            self.logdupes = self.logdupes and self.debug
        if self._crawler is not None and self._crawler.stats is not None:
            self._crawler.stats.inc_value("dupefilter/filtered")


class CompactDupeFilter(RFPDupeFilter):
    """Fingerprints of 64 bits, in about 9 bytes of Redis' memory each instead of 96.

    The frontier keeps the first 64 bits of each fingerprint, in many small sets of
    integers (see ``buckets``). Among N different requests about N * N / 2**65 are taken
    for duplicates: one of a crawl of a billion with a probability of 3 %, one of a
    crawl of 10 million with a probability of 0.0003 %. Not readable for scrapy-redis.
    """


def _shared_key(spider: Spider) -> str:
    settings = spider.crawler.settings
    return fill(settings, "SCHEDULER_DUPEFILTER_KEY", tagged(settings, spider.name))


def build(path: Any, spider: Spider) -> BaseDupeFilter:
    """The filter that DUPEFILTER_CLASS, *path*, names, made as scrapy-redis makes it.

    By ``from_spider``, if the class has that; but where a project overrides only
    another constructor, by that one. Raises ConfigurationError.
    """
    cls = load(path)
    crawler = spider.crawler
    if not hasattr(cls, "from_spider"):
        found: BaseDupeFilter = build_from_crawler(cls, crawler)
        return found
    others = extension_points.overridden(cls, ["from_crawler", "from_settings"])
    try:
        if others and not extension_points.overridden(cls, ["from_spider"]):
            made = build_from_crawler(cls, crawler)
        else:
            made = cls.from_spider(spider)
    except TypeError as e:
        raise ConfigurationError(
            f"DUPEFILTER_CLASS = {extension_points.path_of(cls)!r} cannot be made: {e}."
            " Override from_spider(spider), or take server, key and debug in __init__()."
        ) from e
    if isinstance(made, RFPDupeFilter):
        made.bind(crawler)
    if _OF_ONE_PROCESS.fullmatch(str(getattr(made, "key", ""))):
        if "from_settings" in others:
            raise ConfigurationError(
                f"{extension_points.path_of(cls)}.from_settings() gives each process a"
                f" key of its own, {made.key!r}, so that workers would not share it:"
                " override from_spider(spider) in its place."
            )
        made.key = _shared_key(spider)
    return made  # type: ignore[no-any-return]


def load(path: Any) -> Any:
    """The class that DUPEFILTER_CLASS names. Raises ConfigurationError."""
    remedy = "The default is 'scrapy_dist.dupefilter.RFPDupeFilter'."
    return loaded(path, "DUPEFILTER_CLASS", remedy)


def fingerprint_of(
    dupefilter: BaseDupeFilter, default: Callable[[Request], str]
) -> Callable[[Request], str] | None:
    """How *dupefilter* names a request; None if it filters by itself.

    *default*: how Scrapy's own filter does.
    """
    if decides_itself(dupefilter):
        return None
    if isinstance(dupefilter, RFPDupeFilter):
        return dupefilter.request_fingerprint
    cls = type(dupefilter)
    if getattr(cls, "request_seen", None) is not ScrapyDupeFilter.request_seen:
        return None
    own: Callable[[Request], str] = dupefilter.request_fingerprint  # type: ignore[attr-defined]
    is_default = cls.request_fingerprint is ScrapyDupeFilter.request_fingerprint  # type: ignore[attr-defined]
    return default if is_default else own


def decides_itself(dupefilter: BaseDupeFilter) -> bool:
    """Whether *dupefilter* is written for scrapy-redis, with a rule of its own.

    Such a filter waits for its store. A filter of Scrapy's kind works in the process.
    """
    cls = type(dupefilter)
    return hasattr(cls, "from_spider") and bool(
        extension_points.overridden(cls, ["request_seen"])
    )


def check_nobody_waits(method: Callable[..., object], df: BaseDupeFilter) -> None:
    """Raise ConfigurationError if *method*, of the event loop, asks a *df* that blocks."""
    if "request_seen" in (names_in(method) or ()) and decides_itself(df):
        raise ConfigurationError(
            f"{method.__module__}.{method.__qualname__}() waits for"
            f" {extension_points.path_of(type(df))}.request_seen(), which blocks the"
            " event loop: call super().enqueue_request(request) in its place."
        )


def filter_for(
    df: Any, spider: Spider, note: Callable[[Request], None], *, timeout: float
) -> Filter:
    """What the frontier's scheduler filters by, if *df* is its dupefilter.

    *note* is told of requests that ``df.request_seen`` was asked about. *timeout*: see
    `Filter`.
    """
    asks = decides_itself(df)
    if isinstance(df, RFPDupeFilter) and asks:
        df.is_asked = True
        df.bind(spider.crawler)
    elif isinstance(df, RFPDupeFilter):
        df.ask_later = note
    plain = by_fingerprinter(spider.crawler)
    is_compact = isinstance(df, CompactDupeFilter) and not asks
    return Filter(
        df,
        spider,
        fingerprint_of=fingerprint_of(df, plain),
        plain=plain,
        stored=compact if is_compact else clear,
        is_compact=is_compact,
        seen=df.request_seen if asks else None,
        timeout=timeout,
    )


def by_fingerprinter(crawler: Crawler) -> Callable[[Request], str]:
    """How Scrapy's own filter names a request: by REQUEST_FINGERPRINTER_CLASS, in hex."""
    fingerprinter: Any = crawler.request_fingerprinter
    return lambda request: fingerprinter.fingerprint(request).hex()
