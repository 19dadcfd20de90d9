"""Spiders that read their start URLs from Redis."""

from __future__ import annotations

import time
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from scrapy import Request, signals
from scrapy import __version__ as scrapy_version
from scrapy.exceptions import DontCloseSpider, ScrapyDeprecationWarning
from scrapy.spiders import CrawlSpider, Spider

from scrapy_dist import connection, defaults  # noqa: F401  scrapy-redis has both here
from scrapy_dist.base.escaping import get_logger, quote
from scrapy_dist.base.settings import flag, number
from scrapy_dist.brokers.redis.keys import seed_keys, tagged
from scrapy_dist.codec.policy import Policy
from scrapy_dist.codec.seed import check_made, parse_seed
from scrapy_dist.codec.seed_rules import SeedRules
from scrapy_dist.codec.seed_tasks import find_task
from scrapy_dist.compat.overrides import names_used
from scrapy_dist.compat.popping import PopsSeeds
from scrapy_dist.core.crawl import job_from_settings
from scrapy_dist.core.frontier import BATCH
from scrapy_dist.exceptions import BadSeed, ConfigurationError, FrontierError
from scrapy_dist.worker import engine
from scrapy_dist.worker.command import command_without_crawl

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from typing_extensions import Self

    from scrapy_dist.worker.seed_feed import SeedFeed

logger = get_logger(__name__)

#: Names in a user's code by which it waits for Redis.
_BLOCKING = frozenset(
    {"server", "fetch_data", "count_size", "pop_list_queue", "pop_priority_queue"}
)
#: Characters of a seed that are shown in the log.
_SHOWN = 300


class RedisMixin(PopsSeeds):
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

    #: When this worker took seeds last, as `time.time`.
    spider_idle_start_time: int = 0

    _server: Any = None
    _seeds_set_up_for: Crawler | None = None
    #: Whether it was logged that ``make_request_from_data()`` has failed.
    _said_failed = False

    @classmethod
    def from_crawler(cls, crawler: Crawler, *args: Any, **kwargs: Any) -> Self:
        spider = super().from_crawler(crawler, *args, **kwargs)  # type: ignore[misc]
        with engine.Starting(crawler, FrontierError):
            spider.setup_redis(crawler)
            spider._set_up_seeds(crawler)  # noqa: SLF001
        return spider  # type: ignore[no-any-return]

    def setup_redis(self, crawler: Crawler | None = None) -> None:
        """Read the settings. Raises ConfigurationError.

        Called by ``from_crawler``; nothing is connected here.
        """
        self._set_up_seeds(crawler or self.crawler)

    def _set_up_seeds(self, crawler: Crawler) -> None:
        if self._seeds_set_up_for is crawler:
            return
        self._seeds_set_up_for = crawler
        settings = crawler.settings
        #: Keys of the seeds, in order of priority.
        self.seed_keys = list(seed_keys(settings, self.name, self.redis_key or None))
        name = tagged(settings, self.name)
        for key in self.seed_keys if job_from_settings(settings) else ():
            if name not in key:
                logger.warning(
                    "%s names the key %r for all crawls of this spider: with"
                    " FRONTIER_JOB they share these seeds. %%(name)s in it would"
                    " stand for the spider's name and job.",
                    "redis_key" if self.redis_key else "REDIS_START_URLS_KEY",
                    key,
                )
        if isinstance(self.redis_key, str) or self.redis_key is None:
            self.redis_key = self.seed_keys[0]
        given = self.redis_batch_size or settings.get("REDIS_START_URLS_BATCH_SIZE")
        self.redis_batch_size = self._batch_size(crawler)
        #: Seeds leased at once at the most.
        self.most_seeds = self.redis_batch_size if given else BATCH
        self.seed_rules = SeedRules.from_settings(settings, self.redis_encoding)
        #: Which task a seed is, if it is one.
        self.find_task = partial(
            find_task,
            rules=self.seed_rules,
            own_form=type(self).make_request_from_data
            is not RedisMixin.make_request_from_data,
        )
        self._policy = Policy.from_settings(settings)
        self.redis_encoding = self.seed_rules.encoding
        self.max_idle_time = self._max_idle_time(crawler)
        #: Seconds without activity after which to close; None: never.
        self.seed_idle_limit = self.max_idle_time or None
        for name in ("REDIS_START_URLS_AS_SET", "REDIS_START_URLS_AS_ZSET"):
            flag(settings, name)  # the type of the key decides; the value is checked
        self._find_out_who_reads()
        self.spider_idle_start_time = int(time.time())
        crawler.signals.connect(self.spider_idle, signal=signals.spider_idle)
        self._check_start_requests()

    def _find_out_who_reads(self) -> None:
        """Whether seeds are leased, and which overrides wait for Redis, in threads."""
        cls = type(self)

        def blocks(name: str, *apart: str) -> bool:
            used, _ = names_used(cls, name, RedisMixin, apart=apart)
            return not _BLOCKING.isdisjoint(used)

        used, to_us = names_used(cls, "schedule_next_requests", RedisMixin)
        asks = to_us or "next_requests" in used
        _, to_us = names_used(cls, "next_requests", RedisMixin)
        own_schedule = (
            cls.schedule_next_requests is not RedisMixin.schedule_next_requests
        )
        #: Whether the spider takes its seeds from the frontier, not from Redis.
        self.seeds_are_leased = asks and to_us
        #: Whether ``next_requests()`` runs in a thread.
        self.seeds_in_thread = asks and (
            not to_us or blocks("next_requests") or blocks("make_request_from_data")
        )
        #: Whether seeds go through ``start()``, as long as it waits for them.
        self.seeds_start = self.seeds_are_leased and not (
            own_schedule or self.seeds_in_thread
        )
        #: Whether ``schedule_next_requests()`` runs in a thread, whoever calls it.
        self.schedules_in_thread = own_schedule and (
            self.seeds_in_thread or blocks("schedule_next_requests", "next_requests")
        )
        #: Whether ``spider_idle()`` does.
        self.idles_in_thread = blocks(
            "spider_idle", "next_requests", "schedule_next_requests"
        )
        if self.schedules_in_thread or self.idles_in_thread:
            self.schedule_next_requests = self._schedule_anywhere  # type: ignore[method-assign]
        if self.idles_in_thread:
            self.spider_idle = self._ask_idle  # type: ignore[method-assign]
        if not self.seeds_are_leased:
            self.make_request_from_data = self._make_or_tell  # type: ignore[method-assign]

    def _check_start_requests(self) -> None:
        if engine.CALLS_START_REQUESTS:
            return
        if "start_requests" in names_used(type(self), "start", RedisMixin)[0]:
            return
        for owner in type(self).__mro__:
            if owner is RedisMixin or "start" in vars(owner):
                return
            if "start_requests" in vars(owner):
                logger.warning(
                    "Scrapy %s does not call %s.start_requests() any more: what it"
                    " yields is not crawled. Rename it to 'async def start(self):' and"
                    " replace 'yield from' and 'return' of a list by 'for ...: yield'."
                    " Seeds are read all the same.",
                    scrapy_version,
                    owner.__name__,
                    extra={"spider": self},
                )
                return

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
    def server(self) -> Any:
        """A synchronous client for your own use; it blocks the event loop while it waits.

        Not in ``next_requests()``, ``make_request_from_data()``,
        ``schedule_next_requests()`` and ``spider_idle()``: where they use it they run in
        a thread, and may call ``crawler.engine.crawl`` and ``close_spider`` there.
        """
        if self._server is None:
            self._server = connection.get_redis_from_settings(self.crawler.settings)
        return self._server

    @server.setter
    def server(self, client: Any) -> None:
        self._server = client

    @property
    def _seed_feed(self) -> SeedFeed:
        return engine.worker_of(self.crawler).feed  # type: ignore[no-any-return]

    async def start(self) -> AsyncIterator[Any]:
        """What the spider class yields, then requests for seeds, as they come.

        It ends when the spider is to be closed; at once if the seeds do not come this
        way: where ``schedule_next_requests()`` is overridden, or runs in a thread.
        """
        if command_without_crawl(self.crawler):
            return  # e.g. the shell: a page that somebody asks for is all it fetches
        if not engine.shares(self.crawler):
            logger.error(
                "SCHEDULER = %r cannot serve the seeds of spider %r. Set SCHEDULER ="
                " 'scrapy_dist.scheduler.Scheduler', or ADDONS ="
                " {'scrapy_dist.Addon': 500}.",
                self.crawler.settings["SCHEDULER"],
                self.name,
                extra={"spider": self},
            )
            engine.ScrapyEngine(self.crawler).end_with_error("configuration_error")
            return
        async for request in super().start():  # type: ignore[misc]
            yield request
        while self.seeds_start and await self._seed_feed.wait():
            for request in self.next_requests():
                yield request

    if engine.CALLS_START_REQUESTS:

        def start_requests(self) -> Iterable[Any]:
            """What the spider class yields; seeds come by themselves."""
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ScrapyDeprecationWarning)
                yield from super().start_requests()  # type: ignore[misc]

    def next_requests(self) -> Iterator[Request]:
        """Requests for the seeds that are here now.

        A seed that becomes one request is acknowledged when that one is finished, in this
        worker; one that becomes several, when these are shared with all workers. One that
        cannot be read is set aside with its reason, and the others go on.

        An override that reads Redis by itself runs in a thread, and this worker leases
        no seeds: what it has taken is lost if it dies, as with scrapy-redis.
        """
        if command_without_crawl(self.crawler):
            return
        make = self.make_request_from_data
        if not self.seeds_are_leased:  # these are, all the same: see `SeedFeed`
            make = partial(type(self).make_request_from_data, self)
        while True:
            self.spider_idle_start_time = int(time.time())
            seed = self._seed_feed.take()
            if seed is None:
                return
            try:
                requests = _as_list(make(seed.data))
                for request in requests:
                    check_made(request, self.seed_rules, self._policy, self)  # type: ignore[arg-type]
            except BadSeed as e:
                seed.reject(str(e))
            except Exception as e:
                if not self._said_failed:
                    # Whoever pushes seeds is not to fill the log.
                    self._said_failed = True
                    logger.exception(
                        "make_request_from_data() failed. No more of these are logged:"
                        " see what is set aside.",
                        extra={"spider": self},
                    )
                seed.reject(f"make_request_from_data() raised {type(e).__name__}: {e}")
            else:
                yield from seed.requests(requests)

    def make_request_from_data(self, data: bytes) -> Request | Iterable[Request] | None:
        """The request, or requests, for a seed as it was pushed; override it freely.

        Raises BadSeed with the reason that ``S:failed`` shows. None: nothing to crawl.
        """
        return parse_seed(data, self.seed_rules, self)  # type: ignore[arg-type]

    def _make_or_tell(self, data: bytes) -> Any:
        """``make_request_from_data`` for a spider that has popped *data* by itself.

        None with a WARNING for a bad seed: an exception would end the spider's loop, and
        what it has popped besides would be lost.
        """
        try:
            return type(self).make_request_from_data(self, data)
        except Exception as e:
            logger.warning(
                "The seed %s is left out: %s",
                quote(data, _SHOWN),
                e if isinstance(e, BadSeed) else f"{type(e).__name__}: {e}",
                exc_info=not isinstance(e, BadSeed),
                extra={"spider": self},
            )
            return None

    def schedule_next_requests(self) -> None:
        """Schedule the seeds that are here, past the spider middlewares.

        Called whenever seeds have come and ``start()`` does not wait for them, and when
        there is little to do.
        """
        if command_without_crawl(self.crawler):
            return
        thread = self._seed_feed.thread
        if thread is None or thread.is_current:
            self._schedule_all(self.next_requests())
        else:
            thread.read()

    def _schedule_anywhere(self) -> None:
        self._seed_feed.schedule()

    def _ask_idle(self) -> None:
        if engine.shares(self.crawler):
            self._seed_feed.ask_idle()

    def schedule_seeds(self) -> None:
        """Schedule the seeds that are here, whatever ``next_requests()`` reads."""
        self._schedule_all(RedisMixin.next_requests(self))

    def _schedule_all(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.crawler.engine.crawl(request)

    def spider_idle(self) -> None:
        """Keep the spider open until ``max_idle_time`` is over; for ``spider_idle``."""
        if not engine.shares(self.crawler):
            return
        self.schedule_next_requests()
        if not self._seed_feed.over:
            raise DontCloseSpider


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
