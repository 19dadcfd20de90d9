"""The items of a crawl as iterators, each at least once."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.base.waits import wait_for
from scrapy_dist.exceptions import FrontierError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from typing_extensions import Self

    from scrapy_dist.core.ports import ItemReader

logger = get_logger(__name__)

#: Seconds after which an item that is done with is acknowledged, at the next item.
_ACKNOWLEDGE_AFTER = 0.1
#: Seconds that a Redis which does not answer can hold up the end of readers.
_CLOSE_TIMEOUT = 5.0


def decode(data: bytes) -> dict[str, Any] | bytes:
    """An item as it was before it became a JSON object; else *data* as it is."""
    if data[:1] != b"{":
        return data
    try:
        item = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return item if isinstance(item, dict) else data


class AsyncItems(AsyncIterator["dict[str, Any] | bytes"]):
    """Items of a crawl, as `AsyncClient.items` gives them. For one reader at a time.

    async with client.items(acknowledge=False) as items:
        async for item in items:
            await save(item)
            await items.ack()

    *ask* carries out what asks Redis.
    """

    def __init__(
        self,
        ask: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Awaitable[Any]],
        reader: ItemReader,
        *,
        follow: bool,
        timeout: float | None,
        acknowledge: bool,
    ) -> None:
        self.reader = reader
        self._ask = ask
        self._follow = follow
        self._timeout = timeout
        self._acknowledge = acknowledge
        self._waiting: deque[bytes] = deque()
        self._given = 0
        self._told_at = time.monotonic()
        self._ended = self.is_closed = False

    async def __anext__(self) -> dict[str, Any] | bytes:
        found = await self.take()
        if found is None:
            raise StopAsyncIteration
        return found

    @property
    def is_at_hand(self) -> bool:
        """Whether `take_at_hand` tells what comes next: Redis need not be asked."""
        if self._ended:
            return True
        if self._acknowledge:
            self._count_given()
        is_late = time.monotonic() > self._told_at + _ACKNOWLEDGE_AFTER
        return bool(self._waiting) and not (self.reader.done and is_late)

    def take_at_hand(self) -> dict[str, Any] | bytes | None:
        """The next item; None: there is none any more."""
        if self._ended:
            return None
        self._given += 1
        return decode(self._waiting.popleft())

    async def take(self) -> dict[str, Any] | bytes | None:
        """The next item, of Redis if need be; None: there is none any more."""
        if not self.is_at_hand:
            await (self._tell() if self._waiting else self._fetch())
            if not self._waiting:
                self._ended = True
                if not self._given:
                    await self.close()
        return self.take_at_hand()

    async def ack(self) -> None:
        """Remove all items from Redis that have come so far."""
        self._count_given()
        if self.reader.done:
            await self._tell()
        if self._ended:
            await self.close()

    async def close(self) -> None:
        """Take no more; what is not acknowledged goes back to the front of the items."""
        if self.is_closed:
            return
        self._ended = self.is_closed = True
        self._waiting.clear()
        await self._ask(self.reader.leave)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def detach(self) -> ItemReader:
        """Its reader; it has none from now on, and its client sees to that one."""
        self.is_closed = True
        self._waiting.clear()
        return self.reader

    def _count_given(self) -> None:
        self.reader.done += self._given
        self._given = 0

    async def _fetch(self) -> None:
        reader, follow, timeout = self.reader, self._follow, self._timeout
        found = await self._ask(lambda: reader.take(follow=follow, timeout=timeout))
        self._waiting.extend(found)
        self._told_at = time.monotonic()

    async def _tell(self) -> None:
        await self._ask(self.reader.acknowledge)
        self._told_at = time.monotonic()


class Items(Iterator["dict[str, Any] | bytes"]):
    """Items of a crawl, as `Client.items` gives them. For one thread.

    with client.items(acknowledge=False) as items:
        for batch in iter(lambda: list(itertools.islice(items, 1000)), []):
            database.insert(batch)
            items.ack()

    *run* carries out what *items* has to do in its event loop.
    """

    def __init__(
        self,
        run: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any],
        items: AsyncItems,
    ) -> None:
        self._run = run
        self._items = items

    def __next__(self) -> dict[str, Any] | bytes:
        items = self._items
        # Most of the time there is no need to wake another thread.
        at_hand = items.is_at_hand
        found = items.take_at_hand() if at_hand else self._run(items.take)
        if found is None:
            raise StopIteration
        return found

    def ack(self) -> None:
        """Remove all items from Redis that have come so far."""
        self._run(self._items.ack)

    def close(self) -> None:
        """Take no more; what is not acknowledged goes back to the front of the items."""
        if not self._items.is_closed:
            self._run(self._items.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


async def leave_all(readers: Iterable[ItemReader]) -> None:
    """Let *readers* leave, if Redis answers in time."""

    async def leave() -> None:
        for reader in readers:
            await reader.leave()

    try:
        await wait_for(leave(), _CLOSE_TIMEOUT)
    except (FrontierError, asyncio.TimeoutError) as e:
        # They stay in the readers' lists, for the next ones of those names.
        logger.debug("Items were not given back: %s", e or "Redis does not answer")
