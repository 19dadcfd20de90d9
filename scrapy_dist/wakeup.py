"""Waking an idle worker by Redis' client-side caching instead of polling.

A connection that reads keys under ``CLIENT TRACKING`` is told once when one of them
changes, whatever its type and whoever changes it, ``redis-cli lpush`` included
(https://redis.io/docs/latest/develop/reference/client-side-caching/). In RESP2 the
message goes to a second connection, subscribed to ``__redis__:invalidate``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from scrapy_dist.connection import close_client
from scrapy_dist.frontier import is_temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

logger = logging.getLogger(__name__)

#: Seconds that one read of the subscribed connection lasts; then it is read again.
_READ = 25.0


class Wakeup:
    """Calls *callback* once after ``arm()`` when one of *keys* has changed."""

    def __init__(
        self, client: Redis, keys: Sequence[str], callback: Callable[[], None]
    ) -> None:
        self.available = True
        self._client = client
        self._keys = tuple(keys)
        self._callback = callback
        self._reader: Redis | None = None
        self._pubsub: PubSub | None = None
        self._task: asyncio.Task[None] | None = None

    async def arm(self) -> bool:
        """Watch the keys; false if Redis cannot do it (then poll)."""
        if not self.available:
            return False
        try:
            if self._task is None or self._task.done():
                await self.close()
                await self._connect()
            assert self._reader is not None
            await self._reader.exists(*self._keys)
        except ResponseError as e:
            await self.close()
            if is_temporary(e) and not isinstance(e, NoPermissionError):
                return False
            self.available = False
            logger.info("Redis refuses CLIENT TRACKING (%s): polling instead", e)
        except (RedisError, OSError) as e:
            await self.close()
            logger.debug("No wake-up from Redis for now: %s", e)
            return False
        return self.available

    async def _connect(self) -> None:
        pubsub = self._client.pubsub()
        self._pubsub = pubsub
        await pubsub.connect()  # type: ignore[no-untyped-call]
        assert pubsub.connection is not None
        await pubsub.connection.send_command("CLIENT", "ID")
        client_id = await pubsub.connection.read_response()
        await pubsub.subscribe("__redis__:invalidate")
        self._reader = self._client.client()
        await self._reader.client_tracking_on(clientid=client_id)
        self._task = asyncio.create_task(self._listen(pubsub))

    async def _listen(self, pubsub: PubSub) -> None:
        try:
            while True:
                message = await pubsub.get_message(
                    ignore_subscribe_messages=True, timeout=_READ
                )
                if message is not None:
                    self._callback()
        except (RedisError, OSError) as e:
            # The next arm() connects anew; the exchange that it belongs to says more.
            logger.debug("Lost the wake-up connection: %s", e)
            self._callback()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        with contextlib.suppress(RedisError, OSError):
            if self._pubsub is not None:
                await close_client(self._pubsub)
            if self._reader is not None:
                await close_client(self._reader)
        self._pubsub = self._reader = None
