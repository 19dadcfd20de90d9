"""Answers to the queues that messages name in ``reply_to``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import quote
from scrapy_dist.bridge.publisher import Message, Publisher

if TYPE_CHECKING:
    from scrapy_dist.bridge.intake import Delivery
    from scrapy_dist.bridge.notices import Notices

#: Seconds that the queue of a reply may be missing. That of a program that died never comes.
PATIENCE = 60.0
#: Queues that were missing for so long, and that are waited for no more, at the most.
_MOST = 1000


@dataclass
class Replies:
    """Sends each reply by *publisher*, or gives it up; nobody else waits for it long."""

    publisher: Publisher
    notices: Notices
    _missing: dict[str, None] = field(default_factory=dict)
    _unsent: int = 0

    async def send(self, delivery: Delivery, body: bytes, name: str, id_: str) -> None:
        """Answer *delivery*, if it asks for that, by *body* about task *id_*.

        Given up when *delivery* comes again: then it is answered then.
        """
        queue, own = delivery.reply_to, delivery.correlation_id
        if not isinstance(queue, str) or not queue:
            return
        own = own if isinstance(own, (str, bytes)) else None
        message = Message(queue, body, name, "result", correlation_id=own)
        is_sent = await self.publisher.deliver(
            [message],
            patience=0.0 if queue in self._missing else PATIENCE,
            unless=lambda: delivery.is_gone,
        )
        if is_sent:
            self._missing.pop(queue, None)
        elif not delivery.is_gone:
            self._give_up(queue, id_)

    def _give_up(self, queue: str, id_: str) -> None:
        self._missing[queue] = None
        if len(self._missing) > _MOST:
            del self._missing[next(iter(self._missing))]
        self._unsent += 1
        # 1, 2, 4, 8, …: a program that died may have asked for very many.
        if self._unsent & (self._unsent - 1) == 0:
            self.notices.tell(
                f"The reply queue {quote(queue)} is missing: the result of task"
                f" {quote(id_)} was not sent there ({self._unsent:,} replies so far)."
                " Client.results has it."
            )
