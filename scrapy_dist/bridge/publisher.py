"""Messages to RabbitMQ, each sent until RabbitMQ has it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import pika
from pika.exceptions import AMQPError
from pika.spec import Basic

from scrapy_dist.base.escaping import quote
from scrapy_dist.bridge.line import Backoff, Line
from scrapy_dist.bridge.link import Link, LinkLost

if TYPE_CHECKING:
    from scrapy_dist.bridge.address import Address
    from scrapy_dist.bridge.notices import Notices

#: Messages that RabbitMQ has not confirmed, at the most.
_WINDOW = 500
_PERSISTENT = 2
#: How a ``reply_to`` begins that leads to the connection of who asked.
_DIRECT = "amq.rabbitmq.reply-to"


@dataclass(frozen=True, slots=True)
class Message:
    """One message; *id* is the same when it is sent again. *exchange* '': *key* is a queue."""

    key: str
    body: bytes
    id: str
    type: str
    content_type: str = "application/json"
    exchange: str = ""
    correlation_id: str | bytes | None = None
    headers: dict[str, Any] = field(default_factory=dict)

    @property
    def is_mandatory(self) -> bool:
        """Whether it is to be in a queue.

        RabbitMQ hands replies to this pseudo-queue on, and returns them all the same.
        """
        return bool(self.exchange) or not self.key.startswith(_DIRECT)

    @property
    def place(self) -> str:
        """Where it goes, for people."""
        if self.exchange:
            return f"exchange {quote(self.exchange)} (routing key {quote(self.key)})"
        return f"queue {quote(self.key)}"


class Outcome(Enum):
    """What RabbitMQ says of a message."""

    #: It is in its queues, and on disk where they are durable.
    STORED = "stored"
    #: It would be in no queue.
    UNROUTABLE = "leads to no queue"
    #: A queue does not take it, for example since it is full.
    REFUSED = "refuses it"
    #: Nobody knows.
    LOST = "unknown"


class _Sender:
    """Publishes on one link, and hears what becomes of each message."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._number = 0
        self._open: dict[int, tuple[Message, asyncio.Future[Outcome]]] = {}
        self._returned: set[int] = set()
        link.on_lost = self._lose
        link.channel.add_on_return_callback(self._on_return)

    def publish(self, message: Message) -> asyncio.Future[Outcome]:
        """Raises LinkLost."""
        if self._link.lost.is_set():
            raise LinkLost(self._link.reason)
        try:
            self._link.channel.basic_publish(
                message.exchange,
                message.key,
                message.body,
                pika.BasicProperties(
                    message_id=message.id,
                    type=message.type,
                    content_type=message.content_type,
                    correlation_id=message.correlation_id,
                    headers=message.headers or None,
                    delivery_mode=_PERSISTENT,
                    timestamp=int(time.time()),
                    app_id="scrapy-dist",
                ),
                mandatory=message.is_mandatory,
            )
        except AMQPError as e:
            raise LinkLost(self._link.reason or str(e)) from None
        self._number += 1
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._open[self._number] = message, future
        return future

    def _lose(self) -> None:
        """Nobody will hear of what is under way."""
        for number in list(self._open):
            self._settle(number, Outcome.LOST)

    def _on_return(
        self, channel: object, method: Any, properties: Any, _: bytes
    ) -> None:
        # It comes before its confirmation, and has no number.
        place = method.exchange, method.routing_key
        told = *place, properties.message_id, properties.correlation_id
        for number, (message, _future) in self._open.items():
            sent = message.exchange, message.key, message.id, message.correlation_id
            if sent == told and number not in self._returned:
                self._returned.add(number)
                return

    def on_word(self, frame: Any) -> None:
        """RabbitMQ says whether it has one message, or all up to that one."""
        method = frame.method
        numbers = [method.delivery_tag]
        if method.multiple:
            last = method.delivery_tag or self._number
            numbers = [number for number in self._open if number <= last]
        is_good = isinstance(method, Basic.Ack)
        for number in numbers:
            stored = Outcome.UNROUTABLE if number in self._returned else Outcome.STORED
            self._settle(number, stored if is_good else Outcome.REFUSED)

    def _settle(self, number: int, outcome: Outcome) -> None:
        self._returned.discard(number)
        _, future = self._open.pop(number, (None, None))
        if future is not None and not future.done():
            future.set_result(outcome)


class Publisher:
    """Delivers messages over a connection of its own."""

    def __init__(self, address: Address, role: str, notices: Notices) -> None:
        self._notices = notices
        #: Its connection, which somebody has to run.
        self.line = Line(address, role, notices, self._begin)
        self._sender: _Sender | None = None
        self._room = asyncio.Semaphore(_WINDOW)

    async def _begin(self, link: Link) -> None:
        sender = _Sender(link)
        await link.call(link.channel.confirm_delivery, sender.on_word)
        self._sender = sender

    async def deliver(
        self,
        messages: Sequence[Message],
        *,
        patience: float | None = None,
        unless: Callable[[], bool] = bool,
    ) -> bool:
        """Send *messages* until RabbitMQ has all of them.

        False: some had no queue for *patience* seconds, of which the caller tells; or
        *unless* has come true. They are given up.
        """
        left, backoff = list(messages), Backoff()
        loop = asyncio.get_running_loop()
        deadline = None if patience is None else loop.time() + patience
        while left:
            if unless():
                return False
            outcomes = await asyncio.gather(*map(self._send, left))
            sent = zip(left, outcomes, strict=True)
            again = [(m, o) for m, o in sent if o is not Outcome.STORED]
            for place in {m.place for m in left} - {m.place for m, _ in again}:
                self._notices.over(place, f"Messages for the {place} are taken again.")
            left = [message for message, _ in again]
            bad = [(m, o) for m, o in again if o is not Outcome.LOST]
            for message, outcome in bad if patience is None else ():
                self._tell(message, outcome)
            if bad:
                if deadline is not None and loop.time() > deadline:
                    return False
                await backoff.pause()
        return True

    def _tell(self, message: Message, outcome: Outcome) -> None:
        said = "refuses messages (is it full?)"
        if outcome is Outcome.UNROUTABLE:
            said = "is not there, or nothing is bound to it"
        self._notices.trouble(
            message.place,
            f"The {message.place} {said}: messages of type {message.type} wait, and are"
            " sent again until it takes them.",
        )

    async def _send(self, message: Message) -> Outcome:
        async with self._room:
            await self.line.ready()
            assert self._sender is not None
            try:
                return await self._sender.publish(message)
            except LinkLost:
                return Outcome.LOST
