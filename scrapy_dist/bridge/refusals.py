"""Messages that can be no task: each becomes a dead letter, once."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import quote

if TYPE_CHECKING:
    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.bridge.intake import Delivery
    from scrapy_dist.bridge.line import RedisSide
    from scrapy_dist.bridge.notices import Notices

#: Names of encodings in which UTF-8 is as it is.
_PLAIN = {"7bit", "8bit", "ascii", "binary", "identity", "us-ascii", "utf-8", "utf8"}
#: Seconds between two looks whether there is room for a letter.
_LOOK = 1.0


def reason_of(delivery: Delivery, error: Exception) -> str:
    """Why *delivery* can be no task, for people."""
    reason = str(error).rstrip(".")
    encoding = delivery.encoding
    if not encoding or str(encoding).lower() in _PLAIN:
        return reason
    shown = encoding if isinstance(encoding, str) else repr(encoding)
    return (
        f"the message has the content_encoding {quote(shown)}, which is not undone here;"
        f" publish text in UTF-8 as it is ({reason})"
    )


@dataclass
class Refusals:
    """Sets them aside in *crawl*, as workers do with bad seeds."""

    crawl: Crawl
    redis: RedisSide
    notices: Notices
    #: Those that are not acknowledged, by what they are known by.
    _held: dict[str, Delivery] = field(default_factory=dict)

    @contextmanager
    def known(self, delivery: Delivery) -> Iterator[str]:
        """What *delivery* is known by, also when it comes again; meanwhile it is held.

        Of several that are alike each has a name of its own.
        """
        about = hashlib.sha256(repr(delivery.id).encode() + delivery.body).hexdigest()
        for name in (f"{about[:32]}-{number}" for number in itertools.count()):
            other = self._held.get(name)
            if other is None or other.is_gone:
                break
        self._held[name] = delivery
        try:
            yield name
        finally:
            if self._held.get(name) is delivery:
                del self._held[name]

    async def set_aside(self, delivery: Delivery, source: str, reason: str) -> None:
        """Write its letter as soon as there is room, unless it has one or comes again."""
        body = delivery.body[: self.crawl.options.max_seed]
        again = delivery.redelivered

        async def write() -> bool:
            nonlocal again
            # Redis may have done it, and be away before it says so.
            known, again = again, True
            return await self.crawl.port.refuse(body, reason, source, again=known)

        while not delivery.is_gone:
            if await self.redis.ask(write):
                self.notices.over("failed", "There is room for dead letters again.")
                return
            self.notices.trouble(
                "failed",
                "There is no room for more dead letters (FRONTIER_FAILED_LIMIT): bad"
                " messages stay in their queue until some are retried or forgotten.",
            )
            await asyncio.sleep(_LOOK)
