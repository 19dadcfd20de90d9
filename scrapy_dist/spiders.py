"""Spiders that read their start URLs from Redis."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from scrapy import Request
from scrapy.spiders import CrawlSpider, SitemapSpider, Spider

from scrapy_dist import connection, defaults, engine
from scrapy_dist.exceptions import BadSeed, ConfigurationError, FrontierError
from scrapy_dist.frontier import BATCH
from scrapy_dist.keys import fill_template, job_from_settings, tagged
from scrapy_dist.options import flag, number
from scrapy_dist.scheduler import SEED_MARK, Scheduler, shares
from scrapy_dist.seeds import SeedRules, parse_seed

if TYPE_CHECKING:
    import redis
    from scrapy.crawler import Crawler
    from typing_extensions import Self

logger = logging.getLogger(__name__)


class RedisMixin:
    """Reads seeds from Redis; put it before a spider class of Scrapy.

    An idle worker gets a pushed seed at once. With ``max_idle_time`` (seconds, 0 for
    ever) the spider closes when no worker has done anything for so long.
    """

    #: Key of the seeds, or several in order of priority; REDIS_START_URLS_KEY.
    redis_key: str | list[str] | tuple[str, ...] | None = None
    #: Most seeds taken at once; REDIS_START_URLS_BATCH_SIZE. Without either it reads
    #: CONCURRENT_REQUESTS, and only what this worker can use now is the limit.
    redis_batch_size: int | None = None
    #: Encoding of the seeds; REDIS_ENCODING.
    redis_encoding: str | None = None
    #: Seconds; MAX_IDLE_TIME_BEFORE_CLOSE.
    max_idle_time: float | None = None

    if TYPE_CHECKING:
        crawler: Crawler
        name: str

    _server: redis.Redis | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler, *args: Any, **kwargs: Any) -> Self:
        spider = super().from_crawler(crawler, *args, **kwargs)  # type: ignore[misc]
        try:
            spider.setup_redis(crawler)
        except FrontierError as e:
            raise engine.fail_start(crawler, e, engine.current_task()) from None
        return spider  # type: ignore[no-any-return]

    def setup_redis(self, crawler: Crawler | None = None) -> None:
        """Read the settings. Raises ConfigurationError.

        Called by ``from_crawler``; nothing is connected here.
        """
        crawler = crawler or self.crawler
        settings = crawler.settings
        key = self.redis_key or settings.get("REDIS_START_URLS_KEY")
        key = key or defaults.REDIS_START_URLS_KEY
        templates = key if isinstance(key, (list, tuple)) else [key]
        source = "redis_key" if self.redis_key else "REDIS_START_URLS_KEY"
        #: Keys of the seeds, in order of priority.
        name = tagged(settings, self.name)
        self.seed_keys = [fill_template(t, source, name) for t in templates]
        if job_from_settings(settings):
            for key in self.seed_keys:
                if name not in key:
                    logger.warning(
                        "%s names the key %r for all crawls of this spider: with"
                        " FRONTIER_JOB they share these seeds. %%(name)s in it would"
                        " stand for the spider's name and job.",
                        source,
                        key,
                    )
        if isinstance(self.redis_key, str) or self.redis_key is None:
            self.redis_key = self.seed_keys[0]
        given = self.redis_batch_size or settings.get("REDIS_START_URLS_BATCH_SIZE")
        self.redis_batch_size = self._batch_size(crawler)
        #: Seeds leased at once at the most.
        self.most_seeds = self.redis_batch_size if given else BATCH
        self.seed_rules = SeedRules.from_settings(settings, self.redis_encoding)
        self.redis_encoding = self.seed_rules.encoding
        self.max_idle_time = self._max_idle_time(crawler)
        #: Seconds without activity after which to close; None: never.
        self.seed_idle_limit = self.max_idle_time or None
        for name in ("REDIS_START_URLS_AS_SET", "REDIS_START_URLS_AS_ZSET"):
            flag(settings, name)  # the type of the key decides; the value is checked

    def _batch_size(self, crawler: Crawler) -> int:
        size: object = self.redis_batch_size
        if size is None:
            size = crawler.settings.get("REDIS_START_URLS_BATCH_SIZE")
        if size is None:
            return max(1, crawler.settings.getint("CONCURRENT_REQUESTS"))
        try:
            result = int(str(size))
        except (TypeError, ValueError):
            result = 0
        if result < 1:
            raise ConfigurationError(
                f"redis_batch_size (or REDIS_START_URLS_BATCH_SIZE) = {size!r} is not a"
                " whole number of at least 1. Leave it out for CONCURRENT_REQUESTS."
            )
        return result

    def _max_idle_time(self, crawler: Crawler) -> float:
        if self.max_idle_time is None:
            return number(crawler.settings, "MAX_IDLE_TIME_BEFORE_CLOSE")
        try:
            result = float(self.max_idle_time)
        except (TypeError, ValueError):
            result = -1.0
        if not 0 <= result < float("inf"):
            raise ConfigurationError(
                f"max_idle_time = {self.max_idle_time!r} of spider {self.name!r} is not"
                " a number of seconds. Write 0 for a spider that never closes."
            )
        return result

    @property
    def server(self) -> redis.Redis:
        """A synchronous client for your own use; it blocks the event loop while it waits."""
        if self._server is None:
            self._server = connection.get_redis_from_settings(self.crawler.settings)
        return self._server

    @property
    def _scheduler(self) -> Scheduler:
        return engine.scheduler(self.crawler)  # type: ignore[no-any-return]

    async def start(self) -> AsyncIterator[Any]:
        """Requests for seeds, as they come; for a SitemapSpider its sitemaps first."""
        if engine.command_without_crawl(self.crawler):
            return  # e.g. the shell: a page that somebody asks for is all it fetches
        if not shares(type(self._scheduler)):
            logger.error(
                "SCHEDULER = %r cannot serve the seeds of spider %r. Set SCHEDULER ="
                " 'scrapy_dist.scheduler.Scheduler', or ADDONS ="
                " {'scrapy_dist.Addon': 500}.",
                self.crawler.settings["SCHEDULER"],
                self.name,
                extra={"spider": self},
            )
            engine.end_with_error(self.crawler, "configuration_error")
            return
        if isinstance(self, SitemapSpider):
            async for request in super().start():  # type: ignore[misc]
                yield request
        while await self._scheduler.wait_for_seeds():
            for request in self.next_requests():
                yield request

    def next_requests(self) -> Iterator[Request]:
        """Requests for the seeds that are here now.

        A seed that becomes one request is acknowledged when that one is finished, in this
        worker; one that becomes several, when these are shared with all workers. One that
        cannot be read is set aside with its reason, and the others go on.
        """
        scheduler = self._scheduler
        for record, data in scheduler.take_seeds():
            try:
                requests = _as_list(self.make_request_from_data(data))
            except BadSeed as e:
                scheduler.desk.reject(record, str(e), "seed")
                continue
            except Exception as e:
                logger.exception(
                    "make_request_from_data() failed", extra={"spider": self}
                )
                scheduler.desk.reject(
                    record,
                    f"make_request_from_data() raised {type(e).__name__}: {e}",
                    "seed",
                )
                continue
            record.single = len(requests) == 1
            for request in requests:
                request.meta[SEED_MARK] = record.id
                yield request
            scheduler.desk.done(record)

    def make_request_from_data(self, data: bytes) -> Request | Iterable[Request] | None:
        """The request, or requests, for a seed as it was pushed; override it freely.

        Raises BadSeed with the reason that ``S:failed`` shows. None: nothing to crawl.
        """
        return parse_seed(data, self.seed_rules, self)  # type: ignore[arg-type]

    def schedule_next_requests(self) -> None:
        """Schedule the seeds that are here, past the spider middlewares."""
        for request in self.next_requests():
            self.crawler.engine.crawl(request)


def _as_list(made: Request | Iterable[Request] | None) -> list[Request]:
    if made is None:
        return []
    requests = [made] if isinstance(made, Request) else list(made)
    for request in requests:
        if not isinstance(request, Request):
            raise BadSeed(f"make_request_from_data() returned {request!r}, no Request")
    return requests


class RedisSpider(RedisMixin, Spider):
    """A spider whose start URLs are pushed to Redis."""


class RedisCrawlSpider(RedisMixin, CrawlSpider):
    """A CrawlSpider whose start URLs are pushed to Redis; its rules do the rest."""
