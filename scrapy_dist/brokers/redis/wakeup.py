"""Waking an idle worker by Redis' client-side caching instead of polling.

A connection that reads keys under ``CLIENT TRACKING`` is told once when one of them
changes, whatever its type and whoever changes it, ``redis-cli lpush`` included
(https://redis.io/docs/latest/develop/reference/client-side-caching/). In RESP2 the
message goes to a second connection, subscribed to ``__redis__:invalidate``.

Nothing comes on either of them for hours, and then the message must not be missed. So
each is read all the time, and asked with PING whether it is there: what forgets idle
connections is kept from it, and what is gone without a word is found out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.brokers.redis.errors import is_temporary
from scrapy_dist.redis_client.waits import within

if TYPE_CHECKING:
    from scrapy_dist.redis_client.typed import Redis

logger = get_logger(__name__)

#: Seconds between two PINGs on each connection: in use, and at the least. It is less than
#: what servers and networks grant an idle connection, as a rule a minute or more.
_PING, _PING_LEAST = 10.0, 0.3
#: Seconds that Redis may take to connect, and to answer.
_LIMIT = 10.0
#: Seconds before the next try to connect: first, longest.
_RETRY_FIRST, _RETRY_LONGEST = 0.5, 15.0
#: Seconds after which a connection that was lost had worked.
_WORKED = 0.9

#: What the message of a change begins with.
_MESSAGES = (b"message", "message")


class Wakeup:
    """Calls *callback* once after ``arm()`` when one of *keys* has changed.

    Also when the watch was lost, and when it is there again: then look whether something
    has come meanwhile. It connects again by itself. *limit*: seconds that Redis may take
    to answer before its connection counts as dead.
    """

    def __init__(
        self,
        client: Redis,
        keys: Sequence[str],
        callback: Callable[[], None],
        *,
        limit: float = _LIMIT,
    ) -> None:
        self.available = True
        self._client = client
        self._keys = tuple(keys)
        self._callback = callback
        self._limit = limit
        self._ping = _PING
        #: The connection that reads the keys, and the one that is told of changes.
        self._reader: _Line | None = None
        self._pubsub: _Line | None = None
        self._lock = asyncio.Lock()
        self._again: asyncio.Task[None] | None = None
        #: Whether Redis will tell of the next change.
        self._watching = False
        self._connected_at = 0.0
        self._retry = 0.0
        self._not_before = 0.0

    async def arm(self) -> bool:
        """Watch the keys; false if Redis cannot do it, or not now (then poll).

        Takes seconds at the most. After a failure it tries to connect again only some
        time later, see `retry_now`.
        """
        async with self._lock:
            return self.available and await self._arm()

    async def _arm(self) -> bool:
        if self._reader is None and time.monotonic() < self._not_before:
            return False
        try:
            if self._reader is None:
                await within(2 * self._limit, self._connect())
            await self._watch()
        except ResponseError as e:
            self._failed()
            if is_temporary(e) and not isinstance(e, NoPermissionError):
                return False
            self.available = False
            logger.info("Redis refuses CLIENT TRACKING (%s): polling instead", e)
        except (RedisError, OSError) as e:
            self._failed()
            logger.debug("No wake-up from Redis for now: %s", e)
        except BaseException:
            self._drop()
            raise
        return self._watching

    def retry_now(self) -> None:
        """Redis has just answered somebody else: let the next `arm` try to connect."""
        self._retry = self._not_before = 0.0

    async def close(self) -> None:
        """End both connections, at once whatever state they are in."""
        self.available = False
        if self._again is not None:
            self._again.cancel()
        self._drop()

    async def _connect(self) -> None:
        self._pubsub = pubsub = _Line(self._client, self._limit, self._changed)
        await pubsub.open()
        client_id = await pubsub.ask("CLIENT", "ID")
        await pubsub.ask("SUBSCRIBE", "__redis__:invalidate")
        reader = _Line(self._client, self._limit)
        try:
            await reader.open()
            await reader.ask("CLIENT", "TRACKING", "ON", "REDIRECT", client_id)
            for line in (pubsub, reader):
                line.keep(self._ping, self._lost)
        except BaseException:
            reader.drop()
            raise
        self._reader = reader
        self._connected_at = time.monotonic()

    async def _watch(self) -> None:
        assert self._reader is not None
        # A change may be told before this answer is.
        self._watching = True
        await self._reader.ask("EXISTS", *self._keys)

    def _changed(self) -> None:
        self._watching = False
        self._callback()

    def _lost(self, reason: object) -> None:
        """One of the connections is dead, and the other one is of no use without it."""
        logger.debug("Lost the wake-up connection: %s", reason)
        lived = time.monotonic() - self._connected_at
        # What ended it may end the next one after as long a silence.
        self._ping = min(_PING, max(_PING_LEAST, lived / 3))
        if lived < _WORKED:
            self._wait_longer()
        else:
            self.retry_now()
        was_watching = self._watching
        self._drop()
        if was_watching:
            self._callback()
            if self._again is None or self._again.done():
                self._again = asyncio.ensure_future(self._arm_again())

    async def _arm_again(self) -> None:
        while self.available and not self._watching:
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            if not self._watching and await self.arm():
                self._callback()

    def _failed(self) -> None:
        self._wait_longer()
        self._drop()

    def _wait_longer(self) -> None:
        self._retry = min(max(2 * self._retry, _RETRY_FIRST), _RETRY_LONGEST)
        self._not_before = time.monotonic() + self._retry

    def _drop(self) -> None:
        self._watching = False
        lines = (self._pubsub, self._reader)
        self._pubsub = self._reader = None
        for line in lines:
            if line is not None:
                line.drop()


class _Line:
    """One connection to Redis outside the pool, read all the time by a task of its own.

    *on_message* is called for what Redis sends unasked. No wait rests on redis-py's
    limits: since Python 3.11 it takes the kernel's ETIMEDOUT for its own time-out, and
    then says at once, and for ever, that nothing has come yet.
    """

    def __init__(
        self, client: Redis, limit: float, on_message: Callable[[], None] = lambda: None
    ) -> None:
        pool = client.connection_pool
        given = pool.connection_kwargs.items()
        # Newer versions of redis-py have these for RESP3, unless they are told not to.
        kwargs = {k: v for k, v in given if not k.startswith("maint_notifications")}
        kwargs["protocol"] = 2
        self.connection: Any = pool.connection_class(**kwargs)
        self._limit = limit
        self._on_message = on_message
        self._on_loss: Callable[[object], None] = lambda _: None
        self._answers: deque[asyncio.Future[Any]] = deque()
        self._silence = limit
        self._tasks: list[asyncio.Task[None]] = []
        self._dropped = False

    async def open(self) -> None:
        await within(self._limit, self.connection.connect())
        self._tasks.append(asyncio.create_task(self._read(), name="wake-up"))

    def keep(self, every: float, on_loss: Callable[[object], None]) -> None:
        """PING each *every* seconds from now on; *on_loss* when it is dead."""
        if self._dropped:
            raise ConnectionError("the connection is lost")
        self._on_loss = on_loss
        self._silence = every + self._limit
        self._tasks.append(asyncio.create_task(self._ping(every), name="wake-up PING"))

    async def ask(self, *command: Any) -> Any:
        """The answer to *command*. Raises as redis-py does."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        return await within(self._limit, self._ask(command, answer))

    async def _ask(self, command: tuple[Any, ...], answer: asyncio.Future[Any]) -> Any:
        # Redis-py would connect anew, without what this connection was told before.
        if self._dropped or not self.connection.is_connected:
            raise ConnectionError("the connection is lost")
        await self.connection.send_command(*command, check_health=False)
        found = await answer
        if isinstance(found, Exception):
            raise found
        return found

    async def _ping(self, every: float) -> None:
        try:
            while True:
                await asyncio.sleep(every)
                await self.ask("PING")
        except Exception as e:  # noqa: BLE001  whatever it is, nobody answers
            self._lose(e)

    async def _read(self) -> None:
        try:
            while True:
                self._take(await self._next())
                # Much that is here already must not be read in one turn of the loop.
                await asyncio.sleep(0)
        except Exception as e:  # noqa: BLE001  also what is no answer of a Redis
            self._lose(e)

    async def _next(self) -> Any:
        silence = self._silence
        try:
            reading = self.connection.read_response(timeout=silence)
            found = await within(silence + self._limit, reading)
        except ResponseError as e:
            return e
        if found is None:
            # The time is over in which a PING would have been answered, or the kernel
            # has given the connection up.
            raise ConnectionError("no answer")
        return found

    def _take(self, found: Any) -> None:
        if isinstance(found, list) and found and found[0] in _MESSAGES:
            self._on_message()
        elif self._answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_result(found)

    def _lose(self, reason: Exception) -> None:
        if not self._dropped:
            self.drop(reason)
            self._on_loss(reason)

    def drop(self, reason: Exception | None = None) -> None:
        """Close it; whoever waits for an answer gets *reason*."""
        if self._dropped:
            return
        self._dropped = True
        for answer in self._answers:
            if not answer.done():
                answer.set_result(reason or ConnectionError("it is closed"))
        self._answers.clear()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        _closing.add(closing := asyncio.ensure_future(self._close()))
        closing.add_done_callback(_closing.discard)

    async def _close(self) -> None:
        with contextlib.suppress(RedisError, OSError):
            await self.connection.disconnect(nowait=True)


#: Tasks that close connections; the event loop itself keeps no strong reference.
_closing: set[asyncio.Future[None]] = set()
