"""The two ends of the bridge: RabbitMQ and Redis, tried again until they answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from scrapy_dist.base.waits import sleep_until
from scrapy_dist.bridge.link import Link, LinkLost
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable

if TYPE_CHECKING:
    from scrapy_dist.bridge.address import Address
    from scrapy_dist.bridge.notices import Notices

T = TypeVar("T")

#: Seconds between two tries, at first and at the most.
SHORTEST, LONGEST = 0.2, 15.0
#: Seconds for which it is up before that is told.
_STEADY = 1.0


class Backoff:
    """Pauses that grow; no two processes keep step."""

    _next = SHORTEST

    async def pause(self) -> None:
        pause = self._next * random.uniform(0.7, 1.3)
        self._next = min(LONGEST, self._next * 2)
        await asyncio.sleep(pause)

    def reset(self) -> None:
        self._next = SHORTEST


@dataclass
class RedisSide:
    """Redis; *where* is what people call it."""

    where: str
    notices: Notices

    async def ask(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of *work*, which is done again while Redis is away.

        Raises ConfigurationError for what is wrong with it.
        """
        backoff, is_news = Backoff(), False
        while True:
            try:
                found = await work()
            except RedisUnavailable as e:
                # Once is no trouble: a connection was lost, or Redis knew no script.
                if is_news:
                    self.notices.trouble(
                        "redis",
                        f"Redis at {self.where} is away; what was taken waits for it: {e}",
                    )
                is_news = True
                await backoff.pause()
            else:
                self.notices.over("redis", f"Redis at {self.where} answers again.")
                return found


@dataclass
class Line:
    """Keeps one `Link` to RabbitMQ at *address*; *role* says what for.

    *begin* makes it ready each time. It may raise LinkLost, or ConfigurationError for what
    only a person can change; both are told, and tried again.
    """

    address: Address
    role: str
    notices: Notices
    begin: Callable[[Link], Awaitable[object]]
    _link: Link | None = None
    _up: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Keep it up, for ever. In the end what is not acknowledged goes back."""
        backoff = Backoff()
        where, loop = self.address.shown, asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                link = await Link.open(self.address)
                self._watch_blocks(link)
                try:
                    await self.begin(link)
                    self._link = link
                    self._up.set()
                    # One that is refused at its first use does not work again.
                    if not await sleep_until(link.lost, _STEADY):
                        self.notices.over(
                            self.role, f"RabbitMQ at {where} {self.role} again."
                        )
                    await link.lost.wait()
                    reason = link.reason
                finally:
                    self._up.clear()
                    self._link = None
                    await link.close()
            except LinkLost as e:
                reason = str(e)
            except ConfigurationError as e:
                reason = str(e).rstrip(".")
            if loop.time() - began > LONGEST:
                backoff.reset()
            self.notices.trouble(
                self.role,
                f"RabbitMQ at {where} no longer {self.role}: {reason}. It is tried again"
                " until it does; nothing is lost.",
            )
            await backoff.pause()

    def _watch_blocks(self, link: Link) -> None:
        about = f"{self.role}: blocked"
        link.on_blocked = lambda reason: self.notices.trouble(
            about,
            f"RabbitMQ takes no messages now ({reason}). What is to be sent waits in Redis"
            " and in its queue.",
        )
        link.on_unblocked = lambda: self.notices.over(
            about, "RabbitMQ takes messages again."
        )

    async def ready(self) -> Link:
        """The link, as soon as there is one."""
        while self._link is None or self._link.lost.is_set():
            self._up.clear()
            await self._up.wait()
        return self._link
