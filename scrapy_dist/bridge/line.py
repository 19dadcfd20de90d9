"""A connection that is made again whenever it is lost, later and later."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from scrapy_dist.base.waits import sleep_until
from scrapy_dist.bridge.link import Link, LinkLost
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy_dist.bridge.address import Address
    from scrapy_dist.bridge.notices import Notices

#: Seconds between two tries, at first and at the most.
SHORTEST, LONGEST = 0.2, 15.0
#: Seconds for which it is up before that is told.
_STEADY = 1.0


class Backoff:
    """Pauses that grow; no two processes keep step."""

    def __init__(self, shortest: float = SHORTEST, longest: float = LONGEST) -> None:
        self._shortest, self._longest = shortest, longest
        self._next = shortest

    async def pause(self) -> None:
        pause = self._next * random.uniform(0.7, 1.3)
        self._next = min(self._longest, self._next * 2)
        await asyncio.sleep(pause)

    def reset(self) -> None:
        self._next = self._shortest


class Line:
    """Keeps one `Link` to RabbitMQ at *address*; *role* says what for.

    *begin* makes it ready each time. It may raise LinkLost, or ConfigurationError for what
    only a person can change; both are told, and tried again.
    """

    def __init__(
        self,
        address: Address,
        role: str,
        notices: Notices,
        begin: Callable[[Link], Awaitable[object]],
    ) -> None:
        self._address = address
        self._role = role
        self._notices = notices
        self._begin = begin
        self._link: Link | None = None
        self._up = asyncio.Event()

    async def run(self) -> None:
        """Keep it up, for ever."""
        backoff = Backoff()
        where, loop = self._address.shown, asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                link = await Link.open(self._address)
                self._watch_blocks(link)
                try:
                    await self._begin(link)
                    self._link = link
                    self._up.set()
                    # One that is refused at its first use does not work again.
                    if not await sleep_until(link.lost, _STEADY):
                        self._notices.over(
                            self._role, f"RabbitMQ at {where} {self._role} again."
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
            self._notices.trouble(
                self._role,
                f"RabbitMQ at {where} no longer {self._role}: {reason}. It is tried again"
                " until it does; nothing is lost.",
            )
            await backoff.pause()

    def _watch_blocks(self, link: Link) -> None:
        about = f"{self._role}: blocked"
        link.on_blocked = lambda reason: self._notices.trouble(
            about,
            f"RabbitMQ takes no messages now ({reason}). What is to be sent waits in Redis"
            " and in its queue.",
        )
        link.on_unblocked = lambda: self._notices.over(
            about, "RabbitMQ takes messages again."
        )

    async def ready(self) -> Link:
        """The link, as soon as there is one."""
        while self._link is None or self._link.lost.is_set():
            self._up.clear()
            await self._up.wait()
        return self._link
