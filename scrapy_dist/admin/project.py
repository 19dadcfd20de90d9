"""What is needed of a spider's project to read, make and name its requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scrapy import Request, Spider
from scrapy.crawler import Crawler
from scrapy.utils.misc import build_from_crawler, load_object
from scrapy.utils.request import RequestFingerprinter

from scrapy_dist import fingerprints
from scrapy_dist.base.escaping import nearest
from scrapy_dist.base.words import clean
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.codec import compact
from scrapy_dist.codec.envelope import MSGPACK, OTHER
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.codec.serializers import format_of, to_bytes
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy.settings import Settings

    from scrapy_dist.codec.serializers import Serializer


@dataclass(frozen=True)
class Naming:
    """*fingerprint* names a request as the workers do. *exact*: it is Scrapy's own.

    *filters*: the frontier filters by it; else DUPEFILTER_CLASS filters by itself, and
    only start requests are known by it.
    """

    fingerprint: Callable[[Request], str]
    exact: bool
    filters: bool

    @classmethod
    def of_crawler(cls, crawler: Crawler) -> Naming:
        """As REQUEST_FINGERPRINTER_CLASS and DUPEFILTER_CLASS of *crawler* have it."""
        settings = crawler.settings
        fingerprinter_class = load_object(settings["REQUEST_FINGERPRINTER_CLASS"])
        crawler.request_fingerprinter = build_from_crawler(fingerprinter_class, crawler)
        fingerprint, filters = fingerprints.of_crawler(crawler)
        exact = fingerprinter_class is RequestFingerprinter and fingerprints.is_plain(
            settings["DUPEFILTER_CLASS"]
        )
        return cls(fingerprint, exact, filters)

    @classmethod
    def from_settings(cls, settings: Settings) -> Naming:
        """That of a spider of which no more is known."""
        crawler = Crawler(Spider, settings)
        crawler.spider = Spider.__new__(Spider)
        return cls.of_crawler(crawler)


class Project:
    """*crawler* of the spider's class, whose add-ons have had their say.

    Nothing of the spider is run; its class says what its requests may call.
    """

    def __init__(self, crawler: Crawler) -> None:
        self.spider = crawler.spider = crawler.spidercls.__new__(crawler.spidercls)
        keys = Keys.from_settings(crawler.settings, self.spider.name)
        self.codec = PayloadCodec.from_crawler(crawler, keys.requests)
        self.crawler = crawler

    def encode(self, request: Request, callback: str | None) -> bytes:
        """*request*, for the method *callback*.

        Raises ConfigurationError if there is none, or if it cannot be stored.
        """
        if callback:
            method = getattr(self.spider, callback, None)
            if method is None:
                names = [n for n in dir(type(self.spider)) if n.startswith("parse")]
                raise ConfigurationError(
                    f"The spider {self.spider.name!r} has no method {callback!r}."
                    f"{nearest(callback, names)}"
                )
            request = request.replace(callback=method)
        try:
            return self.codec.encode(request)
        except ValueError as e:
            raise ConfigurationError(f"{clean(request.url)}: {e}") from None


def plain_payload(
    request: Request, callback: str | None, serializer: Serializer | None
) -> bytes:
    """*request* where the spider is not known, and *callback* cannot be checked.

    *serializer* None: MessagePack.
    """
    fields = {"url": request.url, "priority": request.priority, "dont_filter": True}
    if callback:
        fields["callback"] = callback
    if serializer is None:
        return MSGPACK + compact.dumps(fields)
    data = to_bytes(serializer.dumps(fields))
    return OTHER + data if format_of(serializer) == OTHER else data
