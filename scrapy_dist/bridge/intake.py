"""Messages out of the queue of tasks, no more at a time than there is work for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pika.exceptions import AMQPError

from scrapy_dist.base.escaping import quote
from scrapy_dist.base.waits import sleep_until
from scrapy_dist.bridge import weight
from scrapy_dist.bridge.checks import check_source
from scrapy_dist.bridge.line import Backoff, Line
from scrapy_dist.bridge.link import Link, LinkLost
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy_dist.bridge.address import Address
    from scrapy_dist.bridge.notices import Notices

#: Seconds between two looks whether the prefetch is to be another one.
_LOOK = 0.5
#: Part of what is wanted below which more is asked for.
_ENOUGH = 0.75


@dataclass(eq=False, slots=True)
class Delivery:
    """A message that came over *link*; what is said of it elsewhere nobody hears."""

    link: Link
    tag: int
    consumer: str
    body: bytes
    encoding: Any
    id: Any
    priority: int | None
    reply_to: Any
    correlation_id: Any
    redelivered: bool
    is_settled: bool = False

    @classmethod
    def of(cls, link: Link, method: Any, properties: Any, body: bytes) -> Delivery:
        return cls(
            link=link,
            tag=method.delivery_tag,
            consumer=method.consumer_tag,
            body=body,
            encoding=properties.content_encoding,
            id=properties.message_id,
            priority=properties.priority,
            reply_to=properties.reply_to,
            correlation_id=properties.correlation_id,
            redelivered=method.redelivered,
        )

    @property
    def is_gone(self) -> bool:
        """Whether it comes again, so that what is done for it here is done twice."""
        return self.link.lost.is_set() and not self.is_settled

    def ack(self) -> None:
        """Say that it is done, once; without its link it comes again."""
        self._settle(lambda: self.link.channel.basic_ack(self.tag))

    def give_back(self) -> None:
        """Say that it is for somebody else, or for later."""
        self._settle(lambda: self.link.channel.basic_nack(self.tag, requeue=True))

    def _settle(self, say: Callable[[], object]) -> None:
        if self.is_settled or self.link.lost.is_set():
            return
        self.is_settled = True
        try:
            say()
        except AMQPError:
            # The link is about to be lost.
            self.is_settled = False


class Intake:
    """Deliveries of *queue*: at most *limit* of them are not acknowledged at a time, and
    no more than `weight.BUDGET` bytes.

    Of a message *most* bytes are kept, and one more, which tells that it is longer.
    *lost* is told of the deliveries that will come again, as their link is gone.
    """

    def __init__(
        self,
        address: Address,
        queue: str,
        notices: Notices,
        limit: Callable[[], int],
        lost: Callable[[Link], object],
        most: int,
    ) -> None:
        self._address = address
        self._queue = queue
        self._notices = notices
        self._limit = limit
        self._lost = lost
        self._most = most
        #: Its connection, which somebody has to run.
        self.line = Line(
            address, f"gives tasks from {quote(queue)}", notices, self._begin
        )
        self._link: Link | None = None
        #: The consumer at work ('': none), and how many it may hold.
        self._consumer = ""
        self._credit = 0
        self._consumers = 0
        #: Whether the queue may be gone.
        self._is_doubtful = False
        self._held: set[Delivery] = set()
        self._waiting: deque[Delivery] = deque()
        self._weight = weight.Weight(most + 1, weight.BUDGET)
        #: What came though there was no room for it, without its body: it goes back.
        self._surplus: list[Delivery] = []
        #: Is set while there is something to `take`, and when a delivery is settled.
        self.arrived = asyncio.Event()
        self._changed = asyncio.Event()

    # Connection and consumer

    async def run(self, stopping: asyncio.Event) -> None:
        """Let messages come until *stopping*."""
        with suppress(LinkLost):
            await self._keep_prefetch(stopping)
            await self._cancel()

    async def _begin(self, link: Link) -> None:
        self._forget()
        link.on_lost = lambda: self._on_lost(link)
        link.channel.add_on_cancel_callback(self._on_cancelled)
        self._link, self._is_doubtful = link, True
        self._changed.set()

    def _on_lost(self, link: Link) -> None:
        self._forget()
        self._lost(link)
        self._changed.set()

    def _forget(self) -> None:
        self._link, self._consumer, self._credit = None, "", 0
        self._held.clear()
        self._waiting.clear()
        self._surplus.clear()
        self._weight.clear()

    def _on_cancelled(self, frame: Any) -> None:
        """RabbitMQ ends the consumer: the queue was deleted, or has moved."""
        if frame.method.consumer_tag == self._consumer:
            self._consumer, self._is_doubtful = "", True
            self._changed.set()

    async def _keep_prefetch(self, stopping: asyncio.Event) -> None:
        backoff = Backoff()
        while not stopping.is_set():
            self._changed.clear()
            try:
                if self._link is not None and self._needs_change():
                    await self._change(self._link)
                    backoff.reset()
                    self._notices.over(
                        self._queue, f"Tasks come from the queue {quote(self._queue)}."
                    )
            except LinkLost:
                pass
            except ConfigurationError as e:
                self._notices.trouble(self._queue, f"{e} It is looked for again.")
                await backoff.pause()
            await sleep_until(self._changed, _LOOK)

    def _want(self) -> int:
        """How many may be held, with those that are."""
        return min(self._limit(), len(self._held) + self._weight.room)

    def _needs_change(self) -> bool:
        want = self._want()
        if not self._consumer:
            return want - len(self._held) >= max(1, want * (1 - _ENOUGH))
        if self._surplus:
            return True
        others = sum(d.consumer != self._consumer for d in self._held)
        most = others + self._credit
        return most > want or most < want * _ENOUGH

    async def _change(self, link: Link) -> None:
        """A new consumer may hold what there is room for; the others' messages stay.

        The prefetch of a consumer is that of its beginning.
        """
        await self._cancel()
        for delivery in self._surplus:
            delivery.give_back()
        self._surplus.clear()
        room = self._want() - len(self._held)
        if room < 1:
            return
        if self._is_doubtful:
            # On a channel of its own: this one would be closed if there is no queue.
            await check_source(self._address, "--tasks", self._queue)
        await link.call(link.channel.basic_qos, prefetch_count=room)
        self._consumers += 1
        consumer = f"scrapy-frontier-bridge-{self._consumers}"
        self._consumer, self._credit = consumer, room
        try:
            await link.call(
                link.channel.basic_consume,
                self._queue,
                lambda _, method, properties, body: self._on_message(
                    Delivery.of(link, method, properties, body[: self._most + 1])
                ),
                consumer_tag=consumer,
            )
        except BaseException:
            self._consumer = ""
            raise
        self._is_doubtful = False

    async def _cancel(self) -> None:
        consumer, self._consumer = self._consumer, ""
        if consumer and self._link is not None:
            await self._link.call(self._link.channel.basic_cancel, consumer)

    # Deliveries

    def _on_message(self, delivery: Delivery) -> None:
        if not self._weight.add(delivery.body):
            # These are larger than the last ones. Who gave it back now would get it again.
            delivery.body = b""
            self._surplus.append(delivery)
            self._changed.set()
            return
        self._held.add(delivery)
        self.again(delivery)

    def take(self, most: int, size: int) -> list[Delivery]:
        """Deliveries that came, in their order, until they have *size* bytes."""
        found: list[Delivery] = []
        while self._waiting and len(found) < most and size > 0:
            found.append(self._waiting.popleft())
            size -= len(found[-1].body)
        if not self._waiting:
            self.arrived.clear()
        return found

    def again(self, delivery: Delivery) -> None:
        """Let it be taken once more."""
        self._waiting.append(delivery)
        self.arrived.set()

    def ack(self, delivery: Delivery) -> None:
        """It is done."""
        delivery.ack()
        if delivery in self._held:
            self._held.remove(delivery)
            self._weight.remove(delivery.body)
        if not self._consumer:
            self._changed.set()
