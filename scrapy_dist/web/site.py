"""What the page knows of its place: the crawls there, and who looks at which of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from scrapy_dist.base.waits import wait_for
from scrapy_dist.base.words import span
from scrapy_dist.exceptions import RedisUnavailable
from scrapy_dist.web import drawing
from scrapy_dist.web.live import Live

if TYPE_CHECKING:
    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.web.rendering import Templates

T = TypeVar("T")

#: Seconds for which a list of crawls is good; and before it is made anew for a name that
#: is not in it.
_LIST_AGE, _LIST_AGE_AT_LEAST = 10.0, 2.0
#: Crawls that are shown at the most.
MOST_CRAWLS = 500
#: Seconds that Redis has for one page, and for one that looks through all requests.
PATIENCE, LONG_PATIENCE = 10.0, 60.0


class Site:
    """The crawls that *find* finds, opened; those of the project first.

    *where*: where Redis is, for people.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[Sequence[Crawl]]],
        where: str,
        templates: Templates,
        *,
        read_only: bool = False,
    ) -> None:
        self.where = where
        self.templates = templates
        #: How many crawls are not shown.
        self.left_out = 0
        #: Who looks through all requests: one at a time, whoever asks.
        self.searching = asyncio.Lock()
        self._read_only = read_only
        self._find = find
        self._lock = asyncio.Lock()
        self._crawls: dict[str, Crawl] = {}
        self._listed = 0.0
        self._lives: dict[str, Live] = {}
        self.overview = Live(self._look_at_all, self._reconnect_all, every=2.0)

    # Crawls

    async def crawls(self, age: float = _LIST_AGE) -> list[Crawl]:
        """All crawls by their names, as they were *age* seconds ago at the most."""
        async with self._lock:
            if not self._listed or time.monotonic() - self._listed > age:
                found = await self.within(self._find(), PATIENCE)
                self.left_out = max(0, len(found) - MOST_CRAWLS)
                # What is known stays: others look at it, and have its connection.
                self._crawls = {
                    crawl.name: self._crawls.get(crawl.name, crawl)
                    for crawl in found[:MOST_CRAWLS]
                }
                self._listed = time.monotonic()
        return list(self._crawls.values())

    async def crawl(self, name: str) -> Crawl | None:
        """The crawl of that name, None if there is none."""
        if name not in self._crawls:
            await self.crawls(_LIST_AGE_AT_LEAST)
        return self._crawls.get(name)

    async def within(self, asked: Awaitable[T], patience: float = PATIENCE) -> T:
        """What *asked* gives. Raises RedisUnavailable after *patience* seconds."""
        try:
            return await wait_for(asked, patience)
        except asyncio.TimeoutError:
            raise RedisUnavailable(
                f"It has taken more than {span(patience)}, and was given up ({self.where})."
            ) from None

    # What is looked at

    def live(self, crawl: Crawl) -> Live:
        """What all who look at *crawl* share."""
        live = self._lives.get(crawl.name)
        if live is None:
            watched = drawing.Watched(crawl, self.templates, read_only=self._read_only)
            live = Live(watched.look, crawl.reconnect)
            self._lives[crawl.name] = live
            live.on_end = lambda: self._lives.pop(crawl.name, None)
        return live

    async def _look_at_all(self) -> dict[str, str]:
        crawls = await self.crawls()
        return await drawing.draw_all(crawls, self.left_out, self.templates)

    async def _reconnect_all(self) -> None:
        # They share one connection, unless each has its own.
        for crawl in self._crawls.values():
            await crawl.reconnect()

    async def close(self) -> None:
        """End all that looks."""
        for live in (self.overview, *list(self._lives.values())):
            await live.close()
