"""Items into a Redis list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

from scrapy import Spider, signals
from scrapy.exceptions import DropItem
from scrapy.utils.misc import load_object
from scrapy.utils.serialize import ScrapyJSONEncoder
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from scrapy_dist import connection, defaults
from scrapy_dist.admin import pusher
from scrapy_dist.base.escaping import get_logger
from scrapy_dist.base.settings import loaded, number
from scrapy_dist.base.waits import Threads
from scrapy_dist.base.words import span
from scrapy_dist.brokers.redis.keys import Keys, fill_template, tagged
from scrapy_dist.compat import extension_points
from scrapy_dist.exceptions import ConfigurationError, FrontierError
from scrapy_dist.redis_client.topology import check_slots, uses_cluster
from scrapy_dist.worker import engine
from scrapy_dist.worker.command import command_without_crawl, running_command
from scrapy_dist.worker.reactor import deferred, require_asyncio

if TYPE_CHECKING:
    import redis
    from scrapy.crawler import Crawler
    from scrapy.settings import BaseSettings
    from typing_extensions import Self

    from scrapy_dist.worker.outputs import ItemSink

__all__ = [
    "RedisPipeline",
    "ScrapyJSONEncoder",
    "connection",
    "default_serialize",
    "defaults",
    "deferToThread",
    "load_object",
]

logger = get_logger(__name__)

#: Keys of items of which is remembered that they are right.
_KNOWN_KEYS = 1000
#: Seconds between two looks whether the spider closes, while items are with threads.
_LOOK = 0.5
#: Threads of a pipeline that stores its items itself.
_THREADS = 8

default_serialize = ScrapyJSONEncoder().encode


class Queued:
    """What ``process_item`` returns: the item is queued; await it to wait for room.

    It gives the item. Who drops it loses only the waiting. Like the Deferred that
    scrapy-redis returns it has ``addCallback``, ``addErrback`` and ``addBoth``.
    """

    __slots__ = ("_item", "_wait")

    def __init__(self, item: Any, wait: Callable[[], Any] | None = None) -> None:
        self._item = item
        self._wait = wait

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._wait is None:
            return self._item
        return (yield from self._wait().__await__())

    def _deferred(self) -> Deferred[Any]:
        loop = asyncio.get_running_loop()
        return Deferred.fromFuture(asyncio.ensure_future(self, loop=loop))

    def addCallback(self, *args: Any, **kwargs: Any) -> Deferred[Any]:  # noqa: N802
        return self._deferred().addCallback(*args, **kwargs)

    def addErrback(self, *args: Any, **kwargs: Any) -> Deferred[Any]:  # noqa: N802
        return self._deferred().addErrback(*args, **kwargs)

    def addBoth(self, *args: Any, **kwargs: Any) -> Deferred[Any]:  # noqa: N802
        return self._deferred().addBoth(*args, **kwargs)


class RedisPipeline:
    """Appends each item to ``S:items`` (REDIS_ITEMS_KEY).

    With the add-on the items of a page are stored together with the page's ack, so that
    no death of a worker doubles them; without it they travel in or before that commit.
    With another scheduler they are sent in the background. In a command that is no
    crawl, like ``scrapy parse --pipelines``, they are not stored.

    A subclass that overrides ``_process_item``, or has a ``server`` of its own, stores
    its items itself, in threads, as in scrapy-redis: before the ack of their page, and
    so at least once.
    """

    crawler: Crawler | None = None
    _server: redis.Redis | None = None
    _items: ItemSink
    _threads: Threads | None = None

    def __init__(
        self,
        server: redis.Redis | None = None,
        key: str = defaults.REDIS_ITEMS_KEY,
        serialize_func: Callable[[Any], str | bytes] = default_serialize,
    ) -> None:
        if server is not None:
            self.server = server
        self.key = key
        self.serialize = serialize_func

    @classmethod
    def from_settings(cls, settings: BaseSettings) -> Self:
        """A pipeline by REDIS_ITEMS_KEY and REDIS_ITEMS_SERIALIZER."""
        params: dict[str, Any] = {"server": None}
        if extension_points.overridden(cls, ["__init__"]):
            command = running_command()
            params["server"] = (
                connection.unconnected(f"scrapy {command} is no crawl")
                if command
                else connection.get_redis_from_settings(settings)
            )
        if settings.get("REDIS_ITEMS_KEY"):
            params["key"] = settings["REDIS_ITEMS_KEY"]
        path = settings.get("REDIS_ITEMS_SERIALIZER")
        if path:
            remedy = "Name a function that takes an item and returns text or bytes."
            params["serialize_func"] = loaded(path, "REDIS_ITEMS_SERIALIZER", remedy)
        return cls(**params)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        with engine.Starting(crawler, FrontierError):
            require_asyncio(crawler)
            pipeline = cls.from_settings(crawler.settings)
        pipeline._bind(crawler)  # noqa: SLF001
        return pipeline

    def _bind(self, crawler: Crawler) -> None:
        """Work for *crawler*."""
        self.crawler = crawler
        self._close_timeout = number(crawler.settings, "FRONTIER_CLOSE_TIMEOUT")
        self._known_keys: set[str] = set()
        #: The command that runs, if it is no crawl.
        self._command = command_without_crawl(crawler)
        self._said = False
        #: Ends when the spider has been closing for FRONTIER_CLOSE_TIMEOUT.
        self._patience: asyncio.Future[None] | None = None
        #: What threads do for items, and what tells that nobody waits for it any more.
        self._running: dict[asyncio.Future[Any], Callable[[], object]] = {}
        self._stores_itself = bool(
            extension_points.overridden(type(self), ["_process_item"])
        )
        # A subclass need not call open_spider() and close_spider() of ours: in
        # scrapy-redis there are none.
        crawler.signals.connect(self._spider_opened, signals.spider_opened)
        crawler.signals.connect(self._spider_closed, signals.spider_closed)

    @property
    def server(self) -> redis.Redis:
        """A synchronous client for your own use; it blocks the event loop while it waits.

        Items go to another Redis if one is assigned that is not the frontier's.
        """
        if self._server is None:
            if self.crawler is None:
                raise AttributeError("the pipeline has no server, and no crawler yet")
            self.server = connection.get_redis_from_settings(self.crawler.settings)
        assert self._server is not None
        return self._server

    @server.setter
    def server(self, client: redis.Redis) -> None:
        self._server = client
        vars(self).pop("_has_own_server", None)

    @cached_property
    def _has_own_server(self) -> bool:
        """Whether ``server`` is another Redis than that of the settings."""
        if self._server is None:
            return False
        assert self.crawler is not None
        return not connection.is_from_settings(self._server, self.crawler.settings)

    def open_spider(
        self, spider: Spider | None = None
    ) -> Coroutine[Any, Any, None] | Deferred[None]:
        opening = self._spider_opened()
        return opening if engine.PIPELINES_AWAIT else deferred(opening)

    async def _spider_opened(self) -> None:
        assert self.crawler is not None
        if self._command:
            if not self._said:
                logger.info(
                    "scrapy %s is no crawl: %s stores nothing.",
                    self._command,
                    type(self).__name__,
                )
            self._said = True
            return
        self._items = pusher.sink_for(self.crawler)
        own = pusher.for_crawler(self.crawler)
        if own is not None:
            await own.open()

    async def _spider_closed(self) -> None:
        if self._running:  # a subclass did not wait for them
            await asyncio.wait(self._running, timeout=self._close_timeout)
        if self._patience is not None:
            self._patience.cancel()
        if self._threads is not None:
            self._threads.close()

    def process_item(self, item: Any, spider: Spider | None = None) -> Any:
        """Queue *item* as it is now; await the result to wait while Redis takes none."""
        crawler = self.crawler or getattr(spider, "crawler", None)
        if crawler is None:  # a unit test, with a server of its own
            return Queued(self._process_item(item, cast("Spider", spider)))
        if self.crawler is None:
            self._bind(crawler)
        spider = spider or crawler.spider
        assert spider is not None
        if self._stores_itself:
            if self._command:
                return Queued(item)
            stored = self._in_thread(item, self._process_item, item, spider)
            return Queued(item, lambda: self._done(stored))
        data = self.serialize(item)
        try:
            key = self._checked_key(self.item_key(item, spider), spider)
        except ConfigurationError as e:
            self._give_up(item, e)
            raise DropItem("it has no key; its page will be crawled again") from None
        if isinstance(data, str):
            data = data.encode()
        if self._command:
            return Queued(item)
        if self._has_own_server:
            pushed = self._in_thread(item, self._push, item, key, data)
            return Queued(item, lambda: self._done(pushed))
        room = self._items.add_item(item, key, data)
        return Queued(item, None if room is None else partial(self._room, item, room))

    async def _done(self, stored: asyncio.Future[Any]) -> Any:
        """The result of *stored*; a closing worker does not wait for it without end."""
        if self._patience is None:
            self._patience = asyncio.ensure_future(self._lose_patience())
        either = (stored, self._patience)
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if stored.done():
            return stored.result()
        # Whoever else waits for it need not do so once more.
        self._running.pop(stored)()
        raise DropItem(
            f"{type(self).__name__} has not stored it {span(self._close_timeout)}"
            " after the spider began to close (FRONTIER_CLOSE_TIMEOUT)"
        )

    async def _lose_patience(self) -> None:
        assert self.crawler is not None
        while not engine.ScrapyEngine(self.crawler).closing():
            await asyncio.sleep(_LOOK)
        await asyncio.sleep(self._close_timeout)

    async def _room(self, item: Any, room: Callable[[], Awaitable[None]]) -> Any:
        await room()
        return item

    def _process_item(self, item: Any, spider: Spider) -> Any:
        """Store *item* by ``server``; called in a thread, where it is called at all."""
        self.server.rpush(self.item_key(item, spider), self.serialize(item))
        return item

    def _push(self, item: Any, key: str, data: bytes) -> Any:
        self.server.rpush(key, data)
        return item

    def _in_thread(
        self, item: Any, function: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        """Run *function*; the page of *item* is not acknowledged before its end."""
        if self._threads is None:
            self._threads = Threads(_THREADS)
        future = self._threads.run(partial(function, *arguments))
        future.add_done_callback(lambda done: self._running.pop(done, None))
        self._running[future] = self._items.hold_item(item, future)
        return future

    def item_key(self, item: Any, spider: Spider) -> str:
        """The key for *item*; override it to sort items into several lists."""
        crawler = self.crawler or getattr(spider, "crawler", None)
        name = spider.name if crawler is None else tagged(crawler.settings, spider.name)
        return fill_template(self.key, "REDIS_ITEMS_KEY", name)

    def _checked_key(self, template: str, spider: Spider) -> str:
        assert self.crawler is not None
        settings = self.crawler.settings
        key = fill_template(template, "item_key()", tagged(settings, spider.name))
        if key not in self._known_keys:
            if uses_cluster(settings):
                requests = Keys.from_settings(settings, spider.name).requests
                check_slots([(requests, "SCHEDULER_QUEUE_KEY"), (key, "item_key()")])
            if len(self._known_keys) < _KNOWN_KEYS:
                self._known_keys.add(key)
        return key

    def _give_up(self, item: Any, error: ConfigurationError) -> None:
        """End with *error*: no item can be stored before somebody mends it."""
        crawler = self.crawler
        assert crawler is not None
        undone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        undone.cancel()
        self._items.hold_item(item, undone)
        if not engine.ends_with_error(crawler):
            logger.error("%s", error, extra={"spider": crawler.spider})
            engine.ScrapyEngine(crawler).end_with_error("configuration_error")
