"""A message that holds a task, until it is acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pika.exceptions import AMQPError

if TYPE_CHECKING:
    from scrapy_dist.bridge.link import Link


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
