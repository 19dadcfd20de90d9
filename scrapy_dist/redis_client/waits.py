"""Waits for Redis that end by our own clock.

Any connection may be gone without a word: then nothing comes on it, for ever, or the
kernel ends it with an error that redis-py takes for a time-out of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import redis

from scrapy_dist.base.waits import wait_for
from scrapy_dist.base.words import span

T = TypeVar("T")


async def close(client: Any) -> None:
    # ``aclose`` has its name since redis-py 5.0.1.
    await (getattr(client, "aclose", None) or client.close)()


async def within(seconds: float | None, work: Awaitable[T]) -> T:
    """The result of *work*, which is cancelled after *seconds*; None: no limit.

    Raises redis.TimeoutError then, also where the kernel has ended the connection.
    """
    try:
        return await wait_for(work, seconds)
    except (TimeoutError, asyncio.TimeoutError) as e:
        text = f"no answer for {span(seconds)}" if seconds is not None else "no answer"
        raise redis.TimeoutError(str(e) or text) from e
