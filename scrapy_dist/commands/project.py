"""What a command needs of the spider's project to read and make its requests."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy.crawler import Crawler
from scrapy.utils.misc import build_from_crawler, load_object
from scrapy.utils.request import RequestFingerprinter

from scrapy_dist import fingerprints
from scrapy_dist.codec.request import PayloadCodec
from scrapy_dist.commands.terminal.text import number

if TYPE_CHECKING:
    from scrapy import Request, Spider

    from scrapy_dist.commands.base import Target

__all__ = ["Counter", "Project", "load_project"]

#: Seconds until a counter is shown, and between two looks.
_PATIENCE, _STEP = 1.0, 0.5
#: Goes to the beginning of the line and clears it.
_CLEAR = "\r\x1b[K"


@dataclass(frozen=True)
class Project:
    """*spider* is not initialized; it, and *codec*, are None outside a project.

    *fingerprint* names a request as the workers do. *exact*: it is Scrapy's own.
    *filters*: the frontier filters by it; else DUPEFILTER_CLASS filters by itself, and
    only start requests are known by it.
    """

    spider: Spider | None
    codec: PayloadCodec | None
    fingerprint: Callable[[Request], str]
    exact: bool = True
    filters: bool = True


def load_project(target: Target) -> Project:
    """The project of *target*; outside one, what Scrapy does by default."""
    if target.codec is None:
        return Project(None, None, fingerprints.default)
    settings = target.settings
    loader: Any = load_object(settings["SPIDER_LOADER_CLASS"])
    spider_class = loader.from_settings(settings.frozencopy()).load(target.spider)
    crawler = Crawler(spider_class, settings)
    crawler.spider = spider_class.__new__(spider_class)
    fingerprinter_class = load_object(settings["REQUEST_FINGERPRINTER_CLASS"])
    crawler.request_fingerprinter = build_from_crawler(fingerprinter_class, crawler)
    fingerprint, filters = fingerprints.of_crawler(crawler)
    return Project(
        crawler.spider,
        PayloadCodec.from_crawler(crawler),
        fingerprint,
        exact=fingerprinter_class is RequestFingerprinter
        and fingerprints.is_plain(settings["DUPEFILTER_CLASS"]),
        filters=filters,
    )


class Counter:
    """Says on stderr, if it is a terminal, how far a long command has come."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._is_shown = sys.stderr is not None and sys.stderr.isatty()
        self._next = time.monotonic() + _PATIENCE
        self._written = False

    def update(self, done: int, total: int = 0) -> None:
        """Cheap."""
        now = time.monotonic()
        if not self._is_shown or now < self._next:
            return
        self._next, self._written = now + _STEP, True
        of = f" of {number(total)}" if total else ""
        sys.stderr.write(f"{_CLEAR}{number(done)}{of} {self._what}")
        sys.stderr.flush()

    def close(self) -> None:
        """Remove what was shown."""
        if self._written:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
