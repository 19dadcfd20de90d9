"""Items into a Redis list."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from scrapy.utils.misc import load_object
from scrapy.utils.serialize import ScrapyJSONEncoder

from scrapy_dist import connection, defaults, engine, pusher
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.keys import Keys, fill_template, tagged
from scrapy_dist.options import number
from scrapy_dist.scheduler import deferred
from scrapy_dist.topology import check_slots, uses_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import redis
    from scrapy import Spider
    from scrapy.crawler import Crawler
    from twisted.internet.defer import Deferred
    from typing_extensions import Self

#: Keys of items of which is remembered that they are right.
_KNOWN_KEYS = 1000
#: Seconds between two looks while Redis does not take items.
_WAIT = 0.05

default_serialize = ScrapyJSONEncoder().encode


class RedisPipeline:
    """Appends each item to ``S:items`` (REDIS_ITEMS_KEY).

    With the add-on the items of a page are stored together with the page's ack, so that
    no death of a worker doubles them; without it they travel in or before that commit.
    With another scheduler they are sent in the background.
    """

    def __init__(
        self,
        crawler: Crawler,
        key: str = defaults.REDIS_ITEMS_KEY,
        serialize_func: Callable[[Any], str | bytes] = default_serialize,
    ) -> None:
        self.crawler = crawler
        self.key = key
        self.serialize = serialize_func
        self._limit = int(number(crawler.settings, "FRONTIER_OUTBOX_LIMIT", least=1))
        self._server: redis.Redis | None = None
        self._known_keys: set[str] = set()
        self._pusher: pusher.Pusher | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        engine.require_asyncio(crawler)
        settings = crawler.settings
        key = settings.get("REDIS_ITEMS_KEY") or defaults.REDIS_ITEMS_KEY
        path = settings.get("REDIS_ITEMS_SERIALIZER")
        if not path:
            return cls(crawler, key)
        try:
            serialize = load_object(path)
        except Exception as e:  # noqa: BLE001  whatever the import of that module raises
            raise ConfigurationError(
                f"REDIS_ITEMS_SERIALIZER = {path!r} cannot be imported: {e}."
                " Name a function that takes an item and returns text or bytes."
            ) from None
        return cls(crawler, key, serialize)

    @property
    def server(self) -> redis.Redis:
        """A synchronous client for your own use; it blocks the event loop while it waits."""
        if self._server is None:
            self._server = connection.get_redis_from_settings(self.crawler.settings)
        return self._server

    def open_spider(
        self, spider: Spider | None = None
    ) -> Coroutine[Any, Any, None] | Deferred[None]:
        opening = self._open()
        return opening if engine.PIPELINES_AWAIT else deferred(opening)

    async def _open(self) -> None:
        self._pusher = pusher.for_crawler(self.crawler)
        if self._pusher is not None:
            await self._pusher.open()

    async def process_item(self, item: Any, spider: Spider | None = None) -> Any:
        """Queue *item*; waits only while Redis does not take what is there already."""
        spider = spider or self.crawler.spider
        assert spider is not None
        data = self.serialize(item)
        key = self._checked_key(self.item_key(item, spider), spider)
        if isinstance(data, str):
            data = data.encode()
        self._queue(item, key, data)
        while self._is_full() and not engine.closing(self.crawler):
            await asyncio.sleep(_WAIT)
        return item

    def item_key(self, item: Any, spider: Spider) -> str:
        """The key for *item*; override it to sort items into several lists."""
        name = tagged(self.crawler.settings, spider.name)
        return fill_template(self.key, "REDIS_ITEMS_KEY", name)

    def _checked_key(self, template: str, spider: Spider) -> str:
        settings = self.crawler.settings
        key = fill_template(template, "item_key()", tagged(settings, spider.name))
        if key not in self._known_keys:
            if uses_cluster(settings):
                requests = Keys.from_settings(settings, spider.name).requests
                check_slots([(requests, "SCHEDULER_QUEUE_KEY"), (key, "item_key()")])
            if len(self._known_keys) < _KNOWN_KEYS:
                self._known_keys.add(key)
        return key

    def _queue(self, item: Any, key: str, data: bytes) -> None:
        if self._pusher is not None:
            self._pusher.add_item(key, data)
        else:
            engine.scheduler(self.crawler).desk.outputs.add_item(item, key, data)

    def _is_full(self) -> bool:
        if self._pusher is not None:
            return self._pusher.waiting >= self._limit
        outbox = engine.scheduler(self.crawler).exchange.outbox
        return bool(outbox.is_full(self._limit))
