"""Items and dead letters of the crawl to queues, acknowledged when RabbitMQ has them."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import quote
from scrapy_dist.base.waits import sleep_until
from scrapy_dist.base.words import span
from scrapy_dist.bridge.bodies import letter_message
from scrapy_dist.bridge.publisher import Message, Publisher

if TYPE_CHECKING:
    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.bridge.line import RedisSide
    from scrapy_dist.bridge.notices import Notices
    from scrapy_dist.core.ports import ItemReader

#: Seconds of silence after which another bridge takes over, and between two signs of life.
PATIENCE, _BEAT = 5.0, 1.0
#: Seconds between two looks for items, at first and at the most; while another one sends.
_SHORTEST, _LONGEST, _STANDBY = 0.02, 0.5, 1.0
#: Seconds between two looks for dead letters, at first and at the most.
_LETTERS, _LETTERS_LONGEST = 0.1, 1.0
_NAME = re.compile(r"[\w.-]{1,150}", re.ASCII)


def consumer_of(queue: str) -> str:
    """What the reader is called whose items go to *queue*: the same for all bridges."""
    if _NAME.fullmatch(queue):
        return f"rabbitmq.{queue}"
    return f"rabbitmq.{hashlib.sha256(queue.encode()).hexdigest()[:24]}"


@dataclass
class ItemSender:
    """Sends what *reader* takes to *queue*; of several with one queue one at a time does.

    A message has the name of its item as `message_id`.
    """

    reader: ItemReader
    queue: str
    spider: str
    publisher: Publisher
    redis: RedisSide
    notices: Notices
    #: Items that were taken last and that RabbitMQ may have; names of those it has.
    _in_doubt: int = 0
    _sent: set[str] = field(default_factory=set)

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until *stopping*."""
        pause = _SHORTEST
        while not stopping.is_set():
            items = await self.redis.ask(self.reader.take)
            if items:
                await self._send(items)
                pause = _SHORTEST
                continue
            self._tell()
            wait = _STANDBY if self.reader.stands_by else pause
            pause = min(_LONGEST, pause * 1.5)
            await sleep_until(stopping, wait)

    def _tell(self) -> None:
        about = f"items for {self.queue}"
        if self.reader.stands_by:
            self.notices.trouble(
                about,
                f"Another bridge sends the items to the queue {quote(self.queue)}. This"
                f" one does when that is silent for {span(PATIENCE)}.",
            )
        else:
            self.notices.over(about, "This bridge sends the items now.")

    async def _send(self, items: list[bytes]) -> None:
        named = list(zip(self.reader.names, items, strict=True))
        self._in_doubt = len(items)
        about = {"spider": self.spider}
        messages = [
            Message(self.queue, data, name, "item", _content_type(data), headers=about)
            for name, data in named
            if name not in self._sent
        ]
        sending = asyncio.ensure_future(self.publisher.deliver(messages))
        try:
            while not (await asyncio.wait([sending], timeout=_BEAT))[0]:
                await self.redis.ask(self.reader.beat)
            sending.result()
        finally:
            sending.cancel()
        # What comes again, since Redis was away, is not sent again.
        self._sent = {name for name, _ in named}
        if not self.reader.stands_by:
            self.reader.done += len(items)
        self._in_doubt = 0

    async def leave(self) -> None:
        """Give back what RabbitMQ has not; what it may have stays for the next bridge."""
        await self.reader.leave(keep=self._in_doubt)


def _content_type(data: bytes) -> str:
    is_json = data[:1] in (b"{", b"[")
    return "application/json" if is_json else "application/octet-stream"


async def send_letters(
    crawl: Crawl,
    queue: str,
    publisher: Publisher,
    redis: RedisSide,
    stopping: asyncio.Event,
) -> None:
    """Send each dead letter to *queue*, the oldest first, also those that are there.

    They stay in Redis, to be retried or forgotten. It ends with *stopping*.
    """
    reader, pause = crawl.port.letters(consumer_of(queue)), _LETTERS
    while not stopping.is_set():
        letters = await redis.ask(reader.take)
        if not letters:
            pause = min(_LETTERS_LONGEST, pause * 1.5)
            await sleep_until(stopping, pause)
            continue
        pause = _LETTERS
        await publisher.deliver(
            [letter_message(queue, crawl.name, each) for each in letters]
        )
        ids = [letter.id for letter in letters]
        await redis.ask(lambda: reader.acknowledge(ids))  # noqa: B023
