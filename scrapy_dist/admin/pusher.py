"""Items and stats on their way to Redis in a process that uses another scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from scrapy import signals

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.base.waits import cancel, first_try, sleep_until
from scrapy_dist.base.words import count
from scrapy_dist.brokers.opening import open_frontier
from scrapy_dist.brokers.redis.errors import asking
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.core.frontier import BATCH
from scrapy_dist.core.settings import Options
from scrapy_dist.exceptions import FrontierError
from scrapy_dist.redis_client.client import close_client
from scrapy_dist.worker import engine
from scrapy_dist.worker.command import command_without_crawl
from scrapy_dist.worker.outputs import WAIT, ItemSink

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


logger = get_logger(__name__)

_pushers: WeakKeyDictionary[Crawler, Pusher] = WeakKeyDictionary()


def sink_for(crawler: Crawler) -> ItemSink:
    """Where the items of a crawl go."""
    own = for_crawler(crawler)
    if own is not None:
        return own
    found: ItemSink = engine.worker_of(crawler).items
    return found


def for_crawler(crawler: Crawler) -> Pusher | None:
    """The pusher of this process, or None where it has nothing to do.

    The frontier's exchange does its work; and what is no crawl stores nothing.
    """
    if engine.shares(crawler) or command_without_crawl(crawler):
        return None
    if crawler not in _pushers:
        _pushers[crawler] = Pusher(crawler)
    return _pushers[crawler]


class Pusher:
    """Sends items and stats every FRONTIER_FLUSH_INTERVAL; registers no worker.

    What could not be sent is sent again, so an item may appear twice after a lost reply.
    """

    def __init__(self, crawler: Crawler) -> None:
        self.options = Options.from_settings(crawler.settings)
        self.changes: Callable[[], list[tuple[str, str, str]]] = list
        self._crawler = crawler
        self._items: list[tuple[str, bytes]] = []
        self._changed: list[tuple[str, str, str]] = []
        self._task: asyncio.Task[None] | None = None
        self._opening: asyncio.Future[None] | None = None
        self._stopping = asyncio.Event()
        self._warned = False

    def add_item(
        self, item: object, key: str, data: bytes
    ) -> Callable[[], Awaitable[None]] | None:
        """See `ItemSink`."""
        self._items.append((key, data))
        return self._room if self._is_full else None

    @property
    def _is_full(self) -> bool:
        return len(self._items) >= self.options.outbox_limit

    async def _room(self) -> None:
        while self._is_full and not engine.ScrapyEngine(self._crawler).closing():
            await asyncio.sleep(WAIT)

    def hold_item(
        self, item: object, work: asyncio.Future[Any]
    ) -> Callable[[], object]:
        """Nothing: what page it comes from is not known here."""
        return object

    async def open(self) -> None:
        """Connect, once. Raises as ``open_client`` does."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        settings = self._crawler.settings
        spider = self._crawler.spider
        assert spider is not None
        keys = Keys.from_settings(settings, spider.name)
        self._frontier = await open_frontier(settings, keys, self.options)
        self._task = asyncio.create_task(self._run())
        self._crawler.signals.connect(self.close, signal=signals.spider_closed)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            if not await sleep_until(self._stopping, self.options.flush_interval):
                while not await self._send() and not self._warned:
                    pass

    async def _send(self) -> bool:
        self._changed += self.changes()
        items, changed = self._items[:BATCH], self._changed[:BATCH]
        calls = []
        if items:
            calls.append(self._frontier.push(items))
        if changed:
            calls.append(self._frontier.count(changed))
        if not calls:
            return True
        try:
            await self._frontier.exchange(calls)
            with asking():
                for call in calls:
                    call.reply()
        except FrontierError as e:
            if not self._warned:
                logger.warning("Items and stats wait for Redis: %s", e)
            self._warned = True
            return False
        self._warned = False
        del self._items[: len(items)]
        del self._changed[: len(changed)]
        return not (self._items or self._changed)

    async def close(self) -> None:
        """Send what is left, for FRONTIER_CLOSE_TIMEOUT seconds at the most."""
        # Other handlers of spider_closed set the last stats first.
        await asyncio.sleep(0)
        self._stopping.set()
        if self._task is None:
            return
        timeout = self.options.close_timeout
        deadline = asyncio.get_running_loop().time() + timeout
        # The connection may be dead: the next try makes a new one.
        self._frontier.limit = first_try(timeout)
        await asyncio.wait([self._task], timeout=self._frontier.limit)
        await cancel([self._task])
        while not await self._send():
            if asyncio.get_running_loop().time() > deadline:
                logger.warning(
                    "%s did not reach Redis", count(len(self._items), "item")
                )
                break
            if self._warned:
                await asyncio.sleep(self.options.flush_interval)
        await close_client(self._frontier.client)
