"""Redis, asked until it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from scrapy_dist.bridge.line import Backoff
from scrapy_dist.exceptions import RedisUnavailable

if TYPE_CHECKING:
    from scrapy_dist.bridge.notices import Notices

T = TypeVar("T")


class RedisSide:
    """*where*: what people call it."""

    def __init__(self, where: str, notices: Notices) -> None:
        self._where = where
        self._notices = notices

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
                    self._notices.trouble(
                        "redis",
                        f"Redis at {self._where} is away; what was taken waits for it:"
                        f" {e}",
                    )
                is_news = True
                await backoff.pause()
            else:
                self._notices.over("redis", f"Redis at {self._where} answers again.")
                return found
