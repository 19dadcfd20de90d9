"""The scheduler of Scrapy's commands that are no crawl: in memory, without Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrapy.core.scheduler import Scheduler
from scrapy.dupefilters import RFPDupeFilter as ScrapyDupeFilter
from scrapy.utils.misc import build_from_crawler, load_object

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.compat.extension_points import EXTENSION_POINTS, overridden

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from scrapy.dupefilters import BaseDupeFilter

logger = get_logger(__name__)

#: What a dupefilter made for Redis may override and still filter without it.
_HARMLESS = frozenset({"debug", "log", "logdupes", "logger", "request_fingerprint"})
_POINTS = EXTENSION_POINTS["scrapy_dist.dupefilter.RFPDupeFilter"].all - _HARMLESS


def scheduler_for(crawler: Crawler, command: str, dupefilter: type[Any]) -> Scheduler:
    """Scrapy's own scheduler for *command*: nothing on disk, nothing in Redis."""
    logger.info(
        "scrapy %s is no crawl: its requests stay in memory, Redis is not asked.",
        command,
    )
    settings = crawler.settings
    return Scheduler(
        dupefilter=_dupefilter(crawler, dupefilter),
        mqclass=load_object(settings["SCHEDULER_MEMORY_QUEUE"]),
        pqclass=load_object(settings["SCHEDULER_PRIORITY_QUEUE"]),
        stats=crawler.stats,
        crawler=crawler,
    )


def _dupefilter(crawler: Crawler, cls: type[Any]) -> BaseDupeFilter:
    if hasattr(cls, "from_spider") and overridden(cls, _POINTS):
        # Written for scrapy-redis: it may well filter by keys of its own in Redis.
        return ScrapyDupeFilter(
            debug=crawler.settings.getbool("DUPEFILTER_DEBUG"),
            fingerprinter=crawler.request_fingerprinter,
        )
    dupefilter: BaseDupeFilter = build_from_crawler(cls, crawler)
    return dupefilter
