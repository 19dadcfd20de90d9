"""The items of a crawl as an iterator, each at least once."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.exceptions import FrontierError

if TYPE_CHECKING:
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


class Items(Iterator["dict[str, Any] | bytes"]):
    """Items of a crawl, as `Client.items` gives them. For one thread.

    with client.items(acknowledge=False) as items:
        for batch in iter(lambda: list(itertools.islice(items, 1000)), []):
            database.insert(batch)
            items.ack()
    """

    def __init__(
        self,
        run: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any],
        reader: ItemReader,
        *,
        follow: bool,
        timeout: float | None,
        acknowledge: bool,
    ) -> None:
        self.reader = reader
        self._run = run
        self._follow = follow
        self._timeout = timeout
        self._acknowledge = acknowledge
        self._waiting: deque[bytes] = deque()
        self._given = 0
        self._told_at = time.monotonic()
        self._ended = self._closed = False

    def __next__(self) -> dict[str, Any] | bytes:
        if self._ended:
            raise StopIteration
        if self._acknowledge:
            self._count_given()
        if not self._waiting:
            self._fetch()
        elif self.reader.done and time.monotonic() > self._told_at + _ACKNOWLEDGE_AFTER:
            self._tell()
        if not self._waiting:
            self._ended = True
            if not self._given:
                self.close()
            raise StopIteration
        self._given += 1
        return decode(self._waiting.popleft())

    def ack(self) -> None:
        """Remove all items from Redis that have come so far."""
        self._count_given()
        if self.reader.done:
            self._tell()
        if self._ended:
            self.close()

    def close(self) -> None:
        """Take no more; what is not acknowledged goes back to the front of the items."""
        if self._closed:
            return
        self._ended = self._closed = True
        self._waiting.clear()
        self._run(self.reader.leave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def detach(self) -> ItemReader:
        """Its reader; it has none from now on, and its client sees to that one."""
        self._closed = True
        self._waiting.clear()
        return self.reader

    def _count_given(self) -> None:
        self.reader.done += self._given
        self._given = 0

    def _fetch(self) -> None:
        reader, follow, timeout = self.reader, self._follow, self._timeout
        found = self._run(lambda: reader.take(follow=follow, timeout=timeout))
        self._waiting.extend(found)
        self._told_at = time.monotonic()

    def _tell(self) -> None:
        self._run(self.reader.acknowledge)
        self._told_at = time.monotonic()


async def leave_all(readers: Iterable[ItemReader]) -> None:
    """Let *readers* leave, if Redis answers in time."""

    async def leave() -> None:
        for reader in readers:
            await reader.leave()

    try:
        await asyncio.wait_for(leave(), _CLOSE_TIMEOUT)
    except (FrontierError, asyncio.TimeoutError) as e:
        # They stay in the readers' lists, for the next ones of those names.
        logger.debug("Items were not given back: %s", e or "Redis does not answer")
