"""A TCP proxy that puts Redis some milliseconds away, and counts round trips.

Not the proxy of the tests: the waits of asyncio's usual loop are rounded up to whole
milliseconds, which makes more than two of a round trip of one. ``select`` keeps the
microseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

import redis

if TYPE_CHECKING:
    from typing_extensions import Self


class Distance:
    """Listens on ``port`` of loopback; *round_trip_ms*: half of it is spent each way.

    ``round_trips`` are bursts of requests that follow a reply, of all connections;
    ``commands`` are those in them.
    """

    def __init__(self, target: int, round_trip_ms: float = 0.0) -> None:
        self.round_trips = 0
        self.commands = 0
        self._target = target
        self._delay = round_trip_ms / 2000
        self._loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        self._links: set[_Link] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        self.port = listening.result(10)
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        done: Future[None] = Future()
        self._loop.call_soon_threadsafe(self._end, done)
        done.result(10)
        self._thread.join(10)
        self._loop.close()

    def measured_ms(self, times: int = 100) -> float:
        """Median time of a PING through it, in ms."""
        with redis.Redis(port=self.port) as client:
            client.ping()
            samples = []
            for _ in range(times):
                started = time.perf_counter()
                client.ping()
                samples.append((time.perf_counter() - started) * 1000)
        return statistics.median(samples)

    async def _listen(self) -> int:
        def accept() -> _Side:
            link = _Link(self, self._target, self._delay)
            self._links.add(link)
            return link.client

        self._server = await self._loop.create_server(accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def _end(self, done: Future[None]) -> None:
        self._server.close()
        for link in self._links:
            link.abort()
        # The connections close in the next turns of the loop.
        self._loop.call_later(0.05, self._loop.stop)
        self._loop.call_later(0.05, done.set_result, None)


class _Link:
    """A client's connection, and the one to Redis behind it."""

    def __init__(self, distance: Distance, target: int, delay: float) -> None:
        self._distance = distance
        self._target = target
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._answered = True
        self._early: list[bytes] = []
        self._connecting: asyncio.Task[None] | None = None
        self._late: deque[Callable[[], None]] = deque()
        self._count = CommandCount()
        self.client = _Side(self._opened, self._request, self._client_gone)
        self._server = _Side(lambda: None, self._reply, self._server_gone)

    def abort(self) -> None:
        self._late.clear()
        for side in (self.client, self._server):
            side.close()

    def _opened(self) -> None:
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        with contextlib.suppress(OSError):
            await self._loop.create_connection(
                lambda: self._server, "127.0.0.1", self._target
            )
            for data in self._early:
                self._request(data)
            return
        self.client.close()

    def _request(self, data: bytes) -> None:
        if self._server.transport is None:
            self._early.append(data)
            return
        self._later(lambda: self._server.write(data))
        if self._answered:
            self._answered = False
            self._distance.round_trips += 1
        self._distance.commands += self._count.feed(data)

    def _reply(self, data: bytes) -> None:
        self._answered = True
        self._later(lambda: self.client.write(data))

    def _client_gone(self) -> None:
        self._later(self._server.close)

    def _server_gone(self) -> None:
        self._later(self.client.close)

    def _later(self, action: Callable[[], None]) -> None:
        """Do *action* after half a round trip; in order."""
        if not self._delay:
            action()
            return
        self._late.append(action)
        self._loop.call_later(self._delay, self._next)

    def _next(self) -> None:
        if self._late:
            self._late.popleft()()


class _Side(asyncio.Protocol):
    """One of the two connections of a link."""

    def __init__(
        self,
        opened: Callable[[], None],
        received: Callable[[bytes], None],
        lost: Callable[[], None],
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self._opened = opened
        self._lost = lost
        self.data_received = received  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._opened()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class CommandCount:
    """Counts the commands in what a client sends (RESP arrays of bulk strings)."""

    def __init__(self) -> None:
        self._rest = b""
        #: Words of the command that is under way, and bytes of its word, still to come.
        self._words = 0
        self._skip = 0

    def feed(self, data: bytes) -> int:
        """Commands that end in *data*, which follows what was fed before."""
        data = self._rest + data
        at, count = 0, 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                if not self._skip:
                    self._words -= 1
                    count += not self._words
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            number = int(data[at + 1 : end])
            at = end + 2
            if self._words:
                self._skip = number + 2
            else:
                self._words = number
        self._rest = data[at:]
        return count
