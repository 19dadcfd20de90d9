"""Items of the crawl to a queue, each acknowledged in Redis when RabbitMQ has it."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import quote
from scrapy_dist.base.waits import sleep_until
from scrapy_dist.base.words import span
from scrapy_dist.bridge.publisher import Message, Publisher

if TYPE_CHECKING:
    from scrapy_dist.bridge.notices import Notices
    from scrapy_dist.bridge.redis_side import RedisSide
    from scrapy_dist.core.ports import ItemReader

#: Seconds of silence after which another bridge takes over, and between two signs of life.
PATIENCE, _BEAT = 5.0, 1.0
#: Seconds between two looks for items, at first and at the most; while another one sends.
_SHORTEST, _LONGEST, _STANDBY = 0.02, 0.5, 1.0
_NAME = re.compile(r"[\w.-]{1,150}", re.ASCII)


def consumer_of(queue: str) -> str:
    """What the reader is called whose items go to *queue*: the same for all bridges."""
    if _NAME.fullmatch(queue):
        return f"rabbitmq.{queue}"
    return f"rabbitmq.{hashlib.sha256(queue.encode()).hexdigest()[:24]}"


class ItemSender:
    """Sends what *reader* takes to *queue*; of several with one queue one at a time does.

    A message has the name of its item as `message_id`.
    """

    def __init__(
        self,
        reader: ItemReader,
        queue: str,
        spider: str,
        publisher: Publisher,
        redis: RedisSide,
        notices: Notices,
    ) -> None:
        self._reader = reader
        self._queue = queue
        self._spider = spider
        self._publisher = publisher
        self._redis = redis
        self._notices = notices
        #: Items that were taken last and that RabbitMQ may have; names of those it has.
        self._in_doubt = 0
        self._sent: set[str] = set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until *stopping*."""
        pause = _SHORTEST
        while not stopping.is_set():
            items = await self._redis.ask(self._reader.take)
            if items:
                await self._send(items)
                pause = _SHORTEST
                continue
            self._tell()
            wait = _STANDBY if self._reader.stands_by else pause
            pause = min(_LONGEST, pause * 1.5)
            await sleep_until(stopping, wait)

    def _tell(self) -> None:
        about = f"items for {self._queue}"
        if self._reader.stands_by:
            self._notices.trouble(
                about,
                f"Another bridge sends the items to the queue {quote(self._queue)}. This"
                f" one does when that is silent for {span(PATIENCE)}.",
            )
        else:
            self._notices.over(about, "This bridge sends the items now.")

    async def _send(self, items: list[bytes]) -> None:
        named = list(zip(self._reader.names, items, strict=True))
        self._in_doubt = len(items)
        messages = [
            Message(
                "",
                self._queue,
                data,
                name,
                "item",
                content_type=_content_type(data),
                headers={"spider": self._spider},
            )
            for name, data in named
            if name not in self._sent
        ]
        sending = asyncio.ensure_future(self._publisher.deliver(messages))
        try:
            while not (await asyncio.wait([sending], timeout=_BEAT))[0]:
                await self._redis.ask(self._reader.beat)
            sending.result()
        finally:
            sending.cancel()
        # What comes again, since Redis was away, is not sent again.
        self._sent = {name for name, _ in named}
        if not self._reader.stands_by:
            self._reader.done += len(items)
        self._in_doubt = 0

    async def leave(self) -> None:
        """Give back what RabbitMQ has not; what it may have stays for the next bridge."""
        await self._reader.leave(keep=self._in_doubt)


def _content_type(data: bytes) -> str:
    return (
        "application/json" if data[:1] in (b"{", b"[") else "application/octet-stream"
    )
